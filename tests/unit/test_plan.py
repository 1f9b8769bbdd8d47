"""A plan multiplies the file out, interleaves it, and says what it leaves out and why."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from assay.controller.planning.cells import cell_key
from assay.controller.planning.plan import (
    Plan,
    estimate_ns,
    lease_ns,
    make_plan,
    more_rounds,
    poison,
)
from assay.controller.planning.spec import SweepSpec
from assay.controller.records import DeviceRecord, ResultRecord, RoundState, VariantRecord
from assay.core.errors import SpecError
from assay.core.model import MEDIA_ONNX, Failure, FailureClass, Reason, RunSpec, VerdictKind
from tests.planning import (
    CANARY,
    DATASET,
    VARIANTS,
    device,
    plan,
    record,
    spec,
    without_facts,
)


def made_for(
    devices: list[DeviceRecord],
    variants: list[VariantRecord] = VARIANTS,
    wanted: SweepSpec | None = None,
) -> Plan:
    return make_plan(
        wanted or spec(),
        sweep_id="s1",
        now_ns=1,
        dataset=DATASET,
        variants=variants,
        devices=devices,
        canary=CANARY,
    )


def names(round_runs: tuple[RunSpec, ...]) -> Counter[tuple[str, str]]:
    return Counter((run.variant_name, run.runtime.name) for run in round_runs)


def test_every_round_holds_every_cell_once_and_a_canary_per_runtime() -> None:
    made = plan()
    assert len(made.rounds) == 3
    for round_ in made.rounds:
        assert names(round_.runs) == {
            ("fp32", "onnxruntime"): 1,
            ("fp32", "litert"): 1,
            ("int8", "onnxruntime"): 1,
            ("pruned", "onnxruntime"): 1,
            ("canary", "onnxruntime"): 1,
            ("canary", "litert"): 1,
        }


def test_devices_are_chosen_by_labels_of_either_side() -> None:
    labelled = device("by-agent")
    assert labelled.facts is not None
    facts = replace(labelled.facts, capabilities=("cpu:avx2", "label:site=lab", "label:rack=1"))
    labelled = replace(labelled, facts=facts)
    devices = [device("by-hand", site="lab"), labelled, device("other", site="office")]

    def chosen(**labels: str) -> set[str]:
        made = make_plan(
            spec(devices={"labels": labels}),
            sweep_id="s1",
            now_ns=1,
            dataset=DATASET,
            variants=VARIANTS,
            devices=devices,
            canary=CANARY,
        )
        return {round_.device_id for round_ in made.rounds}

    assert chosen(site="lab") == {"id-by-hand", "id-by-agent"}
    assert chosen(site="lab", rack="1") == {"id-by-agent"}
    devices[1] = replace(labelled, labels={"site": "moved"})
    assert chosen(site="lab") == {"id-by-hand"}


def test_devices_are_chosen_by_what_they_say_of_themselves() -> None:
    named = [device("old"), device("new"), without_facts(device("unheard"))]
    for at, (capabilities, memory) in enumerate(
        [(("cpu:avx",), 1 << 30), (("cpu:avx2",), 4 << 30)]
    ):
        facts = named[at].facts
        assert facts is not None
        facts = replace(facts, capabilities=capabilities, memory_total_bytes=memory)
        named[at] = replace(named[at], facts=facts)

    def chosen(**selector: object) -> set[str]:
        made = made_for(named, wanted=spec(devices=selector))
        return {round_.device_id for round_ in made.rounds}

    assert chosen() == {"id-old", "id-new"}
    assert chosen(capabilities=["cpu:avx2"]) == {"id-new"}
    assert chosen(memory_bytes=2 << 30) == {"id-new"}
    with pytest.raises(SpecError, match="no active device matches"):
        chosen(capabilities=["cpu:avx2", "cpu:sve"])


def test_a_file_that_no_memory_of_the_device_holds_is_left_out() -> None:
    small = device("small")
    assert small.facts is not None
    small = replace(small, facts=replace(small.facts, memory_total_bytes=1 << 20))
    file = VARIANTS[1].files[MEDIA_ONNX]
    large = replace(file, artifact=replace(file.artifact, size_bytes=3 << 20))
    variants = [
        replace(v, files={**v.files, MEDIA_ONNX: large}) if v is VARIANTS[1] else v
        for v in VARIANTS
    ]
    made = made_for([small], variants)
    told = {(s.variant, s.reason) for s in made.skipped if "memory" in s.reason}
    assert told == {(VARIANTS[1].name, "its file has 3 MiB, the device 1 MiB of memory")}


def test_a_file_of_an_earlier_version_is_the_same_file() -> None:
    kept = json.loads(plan().sweep.spec_json)["devices"]
    assert kept.keys() == {"names", "classes", "labels"}
    told = plan(spec(devices={"memory_bytes": 1})).sweep.spec_json
    assert json.loads(told)["devices"]["memory_bytes"] == 1


def test_the_order_is_drawn_from_the_seed_and_differs_between_rounds() -> None:
    orders = [[r.cell_key for r in round_.runs] for round_ in plan().rounds]
    assert orders == [[r.cell_key for r in round_.runs] for round_ in plan().rounds]
    assert len({tuple(order) for order in orders}) > 1
    assert orders != [[r.cell_key for r in round_.runs] for round_ in plan(seed=7).rounds]


def test_attempts_have_names_of_their_own() -> None:
    attempts = [run.attempt_id for round_ in plan().rounds for run in round_.runs]
    assert len(set(attempts)) == len(attempts)


def test_accuracy_is_measured_in_the_first_round_and_never_of_a_canary() -> None:
    first, *others = plan().rounds
    assert {run.evaluate for run in first.runs if not run.canary} == {True}
    assert not any(run.evaluate for run in first.runs if run.canary)
    assert not any(run.evaluate for round_ in others for run in round_.runs)


def test_what_a_device_cannot_run_is_left_out_with_the_reason() -> None:
    made = make_plan(
        spec(),
        sweep_id="s1",
        now_ns=1,
        dataset=DATASET,
        variants=VARIANTS,
        devices=[device("bench"), device("bare", "onnxruntime"), without_facts(device("new"))],
        canary=CANARY,
    )
    reasons = {(s.device, s.variant, s.runtime): s.reason for s in made.skipped}
    assert reasons["bench", "int8", "litert"] == "the variant has no tflite file"
    assert "has no working litert" in reasons["bare", "fp32", "litert"]
    assert reasons["new", "fp32", "onnxruntime"] == "the device has not synced yet"
    assert {cell.device_id for cell in made.cells} == {"id-bench", "id-bare"}


def test_threads_batches_and_exclusions_multiply_and_cut() -> None:
    made = plan(
        runtimes=[{"name": "onnxruntime", "threads": [1, 2]}],
        scenarios=[{"kind": "offline", "batch": [1, 8]}],
        exclude=[{"variant": "int8", "threads": 2}, {"variant": "pruned", "batch": 8}],
    )
    cells = [cell for cell in made.cells if not cell.run.canary]
    assert len(cells) == 3 * 2 * 2 - 2 - 2
    assert len({cell.group for cell in cells}) == 2


@pytest.mark.parametrize(
    ("mode", "said", "spinning"),
    [
        ("burst", {}, {"onnxruntime": True, "litert": True}),
        ("paced", {}, {"onnxruntime": False, "litert": True}),
        ("paced", {"allow_spinning": True}, {"onnxruntime": True, "litert": True}),
        ("burst", {"allow_spinning": False}, {"onnxruntime": False, "litert": False}),
    ],
)
def test_threads_rest_in_the_pauses_of_a_paced_run(
    mode: str, said: dict[str, bool], spinning: dict[str, bool]
) -> None:
    rate = {"target_qps": 10} if mode == "paced" else {}
    made = plan(
        runtimes=[{"name": "onnxruntime", **said}, {"name": "litert", **said}],
        scenarios=[{"mode": mode, **rate}],
    )
    runtimes = [cell.run.runtime for cell in made.cells]
    assert {r.name: r.allow_spinning for r in runtimes} == spinning
    assert all(r.allow_spinning is spinning[r.name] for r in runtimes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"variants": ["fp23"]}, r"variants\[0\]: no variant is called 'fp23'"),
        ({"models": ["nett"]}, r"models\[0\]: no variant of a model 'nett'"),
        ({"variants": ["int8"]}, "baseline: 'fp32' is not among the chosen variants"),
        ({"devices": {"names": ["pi*"]}}, "no active device matches"),
        ({"exclude": [{"variant": "*"}]}, "no cell is left to measure"),
    ],
)
def test_a_file_that_leaves_nothing_is_an_error(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        plan(**changes)


def test_a_file_that_multiplies_without_end_is_refused_before_it_is_multiplied_out() -> None:
    wide = {"name": "onnxruntime", "threads": [1] * 20_000}
    scenario = {"batch": [1] * 20_000}
    with pytest.raises(SpecError, match=r"make \d{9,} runs; a sweep has 1000000 at most"):
        plan(spec(runtimes=[wide], scenarios=[scenario]))


@pytest.mark.parametrize(
    "twice",
    [
        {"scenarios": [{"batch": [1, 1]}]},
        {"scenarios": [{}, {}]},
        {"runtimes": [{"name": "onnxruntime", "threads": [1, 1]}]},
        {"runtimes": [{"name": "onnxruntime"}] * 2},
    ],
)
def test_what_is_asked_for_twice_is_measured_once(twice: dict[str, object]) -> None:
    once = {
        key: [{k: v[:1] if isinstance(v, list) else v for k, v in value[0].items()}]
        for key, value in twice.items()
        if isinstance(value, list)
    }
    many, few = plan(spec(**twice)), plan(spec(**once))
    assert many.cells == few.cells
    assert [r.runs for r in many.rounds] == [r.runs for r in few.rounds]


def test_the_rounds_of_a_large_fleet_have_ids_of_their_own() -> None:
    """The digests of these two begin with the same six digits, which once was all that was used."""
    made = made_for([device("pi-569"), device("pi-3403")], wanted=spec(rounds=1))
    assert len({r.round_id for r in made.rounds}) == len(made.rounds) == 2


def test_a_cells_key_does_not_depend_on_when_it_is_run() -> None:
    run = plan().cells[0].run
    later = replace(run, attempt_id="other", seed=9, evaluate=True)
    assert cell_key(later, "id-bench") == run.cell_key
    assert cell_key(run, "id-other") != run.cell_key
    slower = replace(run, runtime=replace(run.runtime, threads=2))
    assert cell_key(slower, "id-bench") != run.cell_key


def test_nothing_is_added_when_all_results_are_valid() -> None:
    made = plan()
    done = [replace(r, state=RoundState.DONE) for r in made.rounds]
    results = [record(run, VerdictKind.VALID) for r in done for run in r.runs]
    assert more_rounds(made.sweep, made.cells, done, results) == []


def test_a_cell_that_lacks_a_result_is_measured_again_beside_the_baseline() -> None:
    def is_spoilt(run: RunSpec, index: int) -> bool:
        return run.variant_name == "int8" and index == 0

    made = plan()
    done = [replace(r, state=RoundState.DONE) for r in made.rounds]
    results = [
        record(run, VerdictKind.INVALID if is_spoilt(run, r.index) else VerdictKind.VALID)
        for r in done
        for run in r.runs
    ]
    (added,) = more_rounds(made.sweep, made.cells, done, results)
    assert added.index == 3
    assert names(added.runs) == {
        ("fp32", "onnxruntime"): 1,
        ("fp32", "litert"): 1,
        ("int8", "onnxruntime"): 1,
        ("canary", "onnxruntime"): 1,
        ("canary", "litert"): 1,
    }


def test_queued_rounds_count_towards_what_a_cell_needs() -> None:
    made = plan()
    assert more_rounds(made.sweep, made.cells, made.rounds, []) == []


def test_a_model_that_cannot_run_is_not_tried_again() -> None:
    made = plan()
    done = [replace(r, state=RoundState.DONE) for r in made.rounds]
    fault = Failure(FailureClass.MODEL, "runtime_rejected", "unsupported operator")
    results = [
        record(run, VerdictKind.INVALID, fault)
        if run.variant_name == "int8"
        else record(run, VerdictKind.VALID)
        for r in done
        for run in r.runs
    ]
    assert more_rounds(made.sweep, made.cells, done, results) == []


def brought_down(run: RunSpec, on: str) -> ResultRecord:
    """A result without an end, from the device ``on``."""
    found = record(run, VerdictKind.INVALID, Failure(FailureClass.INFRA, "worker_crashed", ""))
    provenance = replace(found.result.provenance, device_name=on)
    return replace(found, result=replace(found.result, provenance=provenance))


def test_a_variant_that_brings_down_device_after_device_is_poison() -> None:
    made = plan()
    done = [replace(r, state=RoundState.DONE) for r in made.rounds]
    runs = [run for r in done for run in r.runs]
    sound = [record(run, VerdictKind.VALID) for run in runs if run.variant_name != "int8"]
    (bad,) = {run.variant_id for run in runs if run.variant_name == "int8"}
    a_bad_run = next(run for run in runs if run.variant_name == "int8")
    two = [brought_down(a_bad_run, on) for on in ("one", "two", "two")]
    assert poison([*sound, *two]) == frozenset()
    assert more_rounds(made.sweep, made.cells, done, [*sound, *two]) != []
    three = [*two, brought_down(a_bad_run, "three")]
    assert poison([*sound, *three]) == {bad}
    assert more_rounds(made.sweep, made.cells, done, [*sound, *three]) == []
    once_sound = record(a_bad_run, VerdictKind.INVALID)
    assert poison([*sound, *three, once_sound]) == frozenset(), "then it is the devices"


def test_an_emulated_device_is_not_asked_again_for_what_it_cannot_give() -> None:
    made = plan()
    done = [replace(r, state=RoundState.DONE) for r in made.rounds]
    results = []
    for run in (run for r in done for run in r.runs):
        found = record(run, VerdictKind.INVALID)
        verdict = replace(found.result.verdict, reasons=(Reason("emulated", True, ""),))
        results.append(replace(found, result=replace(found.result, verdict=verdict)))
    assert more_rounds(made.sweep, made.cells, done, results) == []


def test_a_cancelled_round_is_replaced_on_resume() -> None:
    made = plan()
    states = [RoundState.DONE, RoundState.CANCELLED, RoundState.CANCELLED]
    rounds = [replace(r, state=state) for r, state in zip(made.rounds, states, strict=True)]
    results = [record(run, VerdictKind.VALID) for run in rounds[0].runs]
    added = more_rounds(made.sweep, made.cells, rounds, results)
    assert [r.index for r in added] == [3, 4]
    assert names(added[0].runs) == names(made.rounds[0].runs)


def test_devices_run_side_by_side_so_the_slowest_decides_the_estimate() -> None:
    one = plan()
    two = [replace(r, device_id="id-other") for r in one.rounds[:1]]
    assert estimate_ns([*one.rounds, *two]) == one.estimate_ns > 0
    assert lease_ns(one.rounds[0].runs) > estimate_ns(one.rounds[:1])
