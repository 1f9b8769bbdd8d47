"""The catalogue of metrics, and the page made by it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import structlog.testing
from docs import generate
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as LibraryMetric
from prometheus_client.parser import text_string_to_metric_families

from assay.controller.comparing.sweep_data import SweepData
from assay.controller.metrics.exposition import Point, within_budget
from assay.controller.metrics.exposition_fleet import ages
from assay.controller.metrics.page import render_once
from assay.controller.metrics.tally import Tallied, Tally
from assay.controller.metrics.text import Families
from assay.controller.planning.timers import TROUBLES
from assay.controller.records import Duty, RoundState, SweepState
from assay.core.metrics import AGENT_METRICS, CATALOGUE, CONTROLLER_METRICS, LABELS, METRICS
from assay.core.metrics import MetricKind as Kind
from tests.conftest import REPOSITORY
from tests.factories import (
    SHAPES,
    T0_NS,
    FakeStore,
    make_device,
    make_energy,
    make_sweep,
    make_sweep_record,
    make_vitals,
)

GOLDEN = REPOSITORY / "tests/golden/metrics.txt"
_VOLATILE = re.compile(
    r"^(assay_exporter_render_(?:timestamp|cpu)_seconds|assay_build_info\S*) .*$", re.M
)


def page_of(*sweeps: SweepData, budget: int = 50_000) -> str:
    def now_ns() -> int:
        return T0_NS + 700 * 10**9

    return render_once(FakeStore(*sweeps), budget, now_ns=now_ns).decode()  # type: ignore[arg-type]


def values(page: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


def small_sweep() -> SweepData:
    return make_sweep(shapes=SHAPES[:3], spoil=False)


# the catalogue


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda m: m.name)
def test_names_follow_prometheus(metric: object) -> None:
    name, unit, kind = metric.name, metric.unit, metric.kind  # type: ignore[attr-defined]
    assert re.fullmatch(r"assay_[a-z0-9_]*[a-z0-9]", name)
    assert name.endswith("_total") == (kind is Kind.COUNTER)
    if unit:
        assert name.removesuffix("_total").endswith(f"_{unit}")
    assert metric.help.endswith((".", "gap.", "class."))  # type: ignore[attr-defined]


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda m: m.name)
def test_labels_are_known_and_never_an_identity(metric: object) -> None:
    labels = metric.labels  # type: ignore[attr-defined]
    assert set(labels) <= LABELS.keys()
    assert not [label for label in labels if re.search(r"digest|job|run_|attempt|_id\b", label)]
    has_quantile = "quantile" in labels
    assert has_quantile == (metric.kind is Kind.SUMMARY)  # type: ignore[attr-defined]


def test_names_are_unique() -> None:
    assert len(METRICS) == len(CATALOGUE)


def test_the_reference_page_is_what_the_catalogue_says() -> None:
    page = (REPOSITORY / "docs/reference/metrics.md").read_text()
    assert page == generate.metrics_page()


def test_the_agents_page_uses_no_metric_outside_the_catalogue() -> None:
    source = (REPOSITORY / "agent/assay/agent/plane/exporter.py").read_text()
    used = set(re.findall(r'"(assay_agent_[a-z_]+)"', source))
    assert used == {metric.name for metric in AGENT_METRICS}


# the page


def test_the_page_is_the_golden_one() -> None:
    page = _VOLATILE.sub(r"\1 VOLATILE", page_of(small_sweep()))
    if os.environ.get("ASSAY_UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(page)
    assert page == GOLDEN.read_text()


def test_every_controller_metric_can_be_rendered() -> None:
    data = small_sweep()
    results = tuple(
        replace(r, result=replace(r.result, energy=make_energy())) for r in data.results
    )
    spoilt = make_sweep(shapes=SHAPES[3:8])
    other = replace(
        spoilt,
        sweep=make_sweep_record(sweep_id="s2", name="other"),
        results=tuple(replace(r, result=replace(r.result, sweep_id="s2")) for r in spoilt.results),
    )
    open_rounds = (
        replace(data.rounds[0], state=RoundState.LEASED),
        replace(data.rounds[1], state=RoundState.QUEUED),
    )
    running = replace(data.sweep, state=SweepState.RUNNING)
    store = FakeStore(replace(data, results=results, sweep=running, rounds=open_rounds), other)
    tally = Tally()
    tally.called("/assay.v1.Fleet/Sync", "OK")
    tally.moved("sent", "zstd", 1)
    page = render_once(
        store,  # type: ignore[arg-type]
        vitals=lambda: {"id-pi-bench-1": make_vitals()},
        counts=tally.now,
    ).decode()
    shown = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    assert shown == {metric.name for metric in CONTROLLER_METRICS}


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("taken off duty: 3 rounds in a row came to nothing: disk_full (3)", 1.0), ("moves house", 0)],
)
def test_what_the_controller_cordons_is_told_from_what_an_operator_does(
    reason: str, shown: float
) -> None:
    data = small_sweep()
    cordoned = {
        device_id: replace(device, duty=Duty.CORDONED, duty_reason=reason)
        for device_id, device in data.devices.items()
    }
    page = page_of(replace(data, devices=cordoned))
    assert set(values(page, "assay_device_taken_off_duty").values()) == {shown}


def test_what_the_control_process_counts_arrives_as_it_was_sent() -> None:
    tally = Tally()
    for status in ("OK", "OK", "UNAVAILABLE"):
        tally.called("/assay.v1.Fleet/Sync", status)
    tally.queued(3)
    tally.queued(2)
    tally.committed(3, 2_000_000, stored=True)
    tally.troubled("start_timeout")
    tally.moved("sent", "zstd_patch", 40)
    tally.moved("sent", "zstd_patch", 2)
    counted = Tallied.from_line(tally.now().to_line())
    assert counted == tally.now()
    shown = {(name, labels): value for name, labels, value in counted.samples()}
    assert shown == {
        ("assay_calls_total", ("Sync", "OK")): 2,
        ("assay_calls_total", ("Sync", "UNAVAILABLE")): 1,
        ("assay_commits_total", ()): 1,
        ("assay_commit_seconds_total", ()): 0.002,
        ("assay_committed_results_total", ()): 3,
        ("assay_results_waiting", ()): 2,
        **{("assay_round_troubles_total", (code,)): 0 for code in TROUBLES},
        ("assay_round_troubles_total", ("start_timeout",)): 1,
        ("assay_blob_bytes_total", ("sent", "zstd_patch")): 42,
    }


def test_ages_are_exact_quantiles_of_what_is_leased_and_what_waits() -> None:
    base = small_sweep().rounds[0]
    leased = [replace(base, state=RoundState.LEASED, since_ns=at * 10**9) for at in range(1, 11)]
    waits = replace(base, state=RoundState.QUEUED, since_ns=90 * 10**9)
    assert {(name, *labels): value for name, labels, value in ages([*leased, waits], 10**11)} == {
        ("assay_lease_age_seconds", "0.5"): 94,
        ("assay_lease_age_seconds", "0.9"): 98,
        ("assay_lease_age_seconds", "1"): 99,
        **{("assay_queue_age_seconds", q): 10 for q in ("0.5", "0.9", "1")},
    }
    assert list(ages([], 10**11)) == []


def test_latency_is_the_exact_quantile_of_the_middle_run() -> None:
    data = small_sweep()
    found = values(page_of(data), "assay_latency_seconds")
    for cell in (c for c in data.cells if not c.run.canary):
        p50s = sorted(r.result.latency.p50_ns for r in data.of_cell(cell.cell_key))  # type: ignore[union-attr]
        labels = {
            "device_class": "rpi5",
            "device": "pi-bench-1",
            "model": "resnet8",
            "variant": cell.run.variant_name,
            "runtime": cell.run.runtime.name,
            "scenario": "single_stream",
            "quantile": "0.5",
        }
        assert found[tuple(sorted(labels.items()))] == p50s[1] / 1e9


def test_what_is_not_valid_is_counted_but_gives_no_latency() -> None:
    page = page_of(make_sweep())
    assert not [
        key for key in values(page, "assay_latency_seconds") if ("variant", "tucker") in key
    ]
    assert values(page, "assay_results_total") == {
        (("verdict", "invalid"),): 4,
        (("verdict", "suspect"),): 5,
        (("verdict", "valid"),): 45,
    }
    assert values(page, "assay_result_reasons_total")[(("code", "steal"),)] == 5


def test_energy_is_exported_only_where_it_was_measured_and_conclusive() -> None:
    data = small_sweep()
    assert "assay_energy" not in page_of(data)
    unsure = tuple(
        replace(r, result=replace(r.result, energy=make_energy(inconclusive=True)))
        for r in data.results
    )
    assert "assay_energy" not in page_of(replace(data, results=unsure))


def test_a_sensor_that_does_not_work_is_a_zero() -> None:
    found = values(page_of(small_sweep()), "assay_sampler_success")
    by_name = {dict(key)["sampler"]: value for key, value in found.items()}
    assert by_name == {"memory": 1, "cpufreq": 1, "thermal": 1, "hwmon_power": 0}


def test_no_identity_leaks_into_a_label() -> None:
    data = small_sweep()
    page = page_of(data)
    for secret in (data.cells[0].cell_key, data.results[0].attempt_id, "sha256:", "id-pi"):
        assert secret not in page


def test_two_sweeps_of_the_same_cells_show_the_newer() -> None:
    older = small_sweep()
    newer = make_sweep(shapes=SHAPES[:3], spoil=False, seed=9)
    newer = replace(
        newer,
        sweep=make_sweep_record(sweep_id="s2", name="newer", created_ns=T0_NS + 1),
        results=tuple(
            replace(r, recorded_ns=r.recorded_ns + 10**12, result=replace(r.result, sweep_id="s2"))
            for r in newer.results
        ),
    )
    alone = values(page_of(newer), "assay_latency_seconds")
    assert values(page_of(older, newer), "assay_latency_seconds") == alone
    counted = values(page_of(older, newer), "assay_results_total")
    assert counted[(("verdict", "valid"),)] == len(older.results) + len(newer.results)


def test_hostile_names_cannot_break_the_page() -> None:
    shapes = [replace(SHAPES[0], name='a"} 1\nassay_evil 2\\')]
    page = page_of(make_sweep(shapes=shapes, spoil=False))
    assert not values(page, "assay_evil")
    names = {dict(key)["variant"] for key in values(page, "assay_macs")}
    assert names == {shapes[0].name}


class FromLibrary:
    """One family as the client library holds it."""

    def __init__(self, name: str, labels: tuple[str, ...], value: float) -> None:
        metric = METRICS[name]
        self.family = LibraryMetric(name.removesuffix("_total"), metric.help, metric.kind.value)
        self.family.add_sample(name, dict(zip(metric.labels, labels, strict=True)), value)

    def collect(self) -> list[LibraryMetric]:
        return [self.family]


@given(st.sampled_from(sorted(METRICS)), st.text(), st.floats())
def test_the_text_is_what_prometheus_client_writes(name: str, word: str, value: float) -> None:
    labels = tuple(f"{word}{i}" for i in range(len(METRICS[name].labels)))
    families = Families()
    families.add(name, labels, value)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FromLibrary(name, labels, value))
    ours, theirs = families.page().decode(), generate_latest(registry).decode()
    written = [text.rpartition(" ")[2].strip() for text in (ours, theirs)]
    assert ours.rpartition(" ")[0] == theirs.rpartition(" ")[0]
    # Large numbers stand without an exponent, which is as good.
    assert repr(float(written[0])) == repr(float(written[1])) == repr(value)


def test_a_sample_with_too_few_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="assay_latency_restarts: 1 labels where 6 are wanted"):
        Families().add("assay_latency_restarts", ("rpi5",), 1)


# the fleet and the sweeps


@pytest.mark.parametrize(
    ("silent_s", "state"), [(60, "online"), (200, "silent"), (700, "lost"), (-5, "online")]
)
def test_a_device_is_silent_then_lost_once_its_quiet_window_is_over(
    silent_s: int, state: str
) -> None:
    quiet_until_ns = T0_NS + 3600 * 10**9
    vitals = make_vitals(quiet_until_ns=quiet_until_ns)
    page = render_once(
        FakeStore(small_sweep()),  # type: ignore[arg-type]
        vitals=lambda: {"id-pi-bench-1": vitals},
        now_ns=lambda: quiet_until_ns + silent_s * 10**9,
    ).decode()
    states = {
        dict(key)["state"]: value for key, value in values(page, "assay_device_state").items()
    }
    assert [name for name, value in states.items() if value] == [state]
    assert values(page, "assay_devices")[(("state", state),)] == 1
    here = (("device", "pi-bench-1"), ("device_class", "rpi5"))
    expected = values(page, "assay_device_expected_by_timestamp_seconds")[here]
    assert expected == quiet_until_ns / 1e9


def test_vitals_are_shown_and_a_device_never_heard_has_none() -> None:
    here = (("device", "pi-bench-1"), ("device_class", "rpi5"))
    store = FakeStore(small_sweep())
    hot = make_vitals(temperature_c=None, throttled=True, accepting=False)
    page = render_once(store, vitals=lambda: {"id-pi-bench-1": hot}).decode()  # type: ignore[arg-type]
    assert values(page, "assay_device_throttled") == {here: 1}
    assert values(page, "assay_device_accepting") == {here: 0}
    assert values(page, "assay_device_measuring") == {here: 1}
    assert values(page, "assay_device_temperature_celsius") == {}
    assert values(page_of(small_sweep()), "assay_device_throttled") == {}


def test_a_sweeps_progress_is_what_its_results_and_rounds_say() -> None:
    data = make_sweep()
    page = page_of(data)
    results = values(page, "assay_sweep_results")
    assert results[(("sweep", "demo"), ("verdict", "suspect"))] == 5
    assert values(page, "assay_sweep_runs")[(("state", "done"), ("sweep", "demo"))] == 54
    failures = values(page, "assay_sweep_failures")
    wanted = sum(r.result.failure is not None for r in data.results)
    assert failures[(("class", "model"), ("sweep", "demo"))] == wanted > 0
    newest = max(r.recorded_ns for r in data.results) / 1e9
    assert values(page, "assay_sweep_progress_timestamp_seconds")[(("sweep", "demo"),)] == newest


def test_only_the_newest_sweeps_and_running_ones_are_named() -> None:
    sweeps = []
    for i in range(9):
        state = SweepState.RUNNING if i == 0 else SweepState.DONE
        record = make_sweep_record(sweep_id=f"s{i}", name=f"n{i}", created_ns=T0_NS + i)
        data = replace(small_sweep(), sweep=replace(record, state=state), results=())
        sweeps.append(data)
    named = {dict(key)["sweep"] for key in values(page_of(*sweeps), "assay_sweep_running")}
    assert named == {"n0", "n4", "n5", "n6", "n7", "n8"}


# the budget


def test_over_the_budget_the_device_label_goes_first() -> None:
    data = make_sweep(
        shapes=SHAPES[:2], devices=[make_device(f"pi-{i}") for i in range(8)], spoil=False
    )
    whole = values(page_of(data), "assay_latency_seconds")
    with structlog.testing.capture_logs() as logs:
        page = page_of(data, budget=200)
    (said,) = [entry for entry in logs if entry["event"] == "series dropped"]
    assert said["dropped"] == values(page, "assay_series_dropped")[()]
    kept = values(page, "assay_latency_seconds")
    assert {dict(key)["device"] for key in kept} == {""}
    assert len(kept) == len(whole) / 8
    assert values(page, "assay_series_dropped")[()] > 0
    devices = values(page, "assay_device_active")
    assert len(devices) == 8


def test_budget_keeps_the_newest_of_a_class_and_then_drops_the_oldest() -> None:
    samples = tuple(("assay_latency_restarts", (), float(i)) for i in range(10))
    points = [Point(f"pi-{i}", ("rpi5", "m", f"v{i % 3}", "r", "s"), i, samples) for i in range(6)]
    assert within_budget(points, 60) == (points, 0)
    kept, dropped = within_budget(points, 30)
    assert sorted(p.recorded_ns for p in kept) == [3, 4, 5]
    assert dropped == 30
    kept, dropped = within_budget(points, 25)
    assert [p.recorded_ns for p in kept] == [5, 4]
    assert dropped == 40


def test_golden_page_is_kept_beside_the_tests() -> None:
    assert Path(GOLDEN).read_text().startswith("# HELP assay_")
