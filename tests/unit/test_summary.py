"""Rows, ranks and sentences: only what is VALID ranks, and nothing is said that is not known."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from assay.agent.measuring.reasons import CATALOGUE
from assay.controller.comparing import numbers
from assay.controller.comparing.figures import (
    EnergyFigure,
    Spread,
    cell_figures,
    estimate,
    middle_run,
)
from assay.controller.comparing.findings import sentences, validity_sentence
from assay.controller.comparing.labels import runtime_label, scenario_label
from assay.controller.comparing.reasons import REASONS, reason
from assay.controller.comparing.rows import Row, RowStatus, Section
from assay.controller.comparing.summary import count_reasons, summarise
from assay.controller.comparing.sweep_data import SweepData, load_sweep
from assay.controller.records import ResultRecord
from assay.controller.terminal.table import render_summary, verdict_text
from assay.core.comparing.compare import Finding
from assay.core.errors import TABLE, NotFound
from assay.core.model import Absent, Mode, Reason, RuntimeSpec, Scenario, ScenarioKind, Verdict
from assay.core.model import VerdictKind as Kind
from tests.factories import (
    INVALID,
    SHAPES,
    SUSPECT,
    T0_NS,
    FakeStore,
    make_cell,
    make_device,
    make_energy,
    make_failure,
    make_latency,
    make_result,
    make_sweep,
    make_sweep_record,
    make_variant,
    unlike,
)


def section_of(data: SweepData) -> Section:
    (section,) = summarise(data).sections
    return section


def row_of(section: Section, variant: str, runtime: str = "onnxruntime") -> Row:
    return next(r for r in section.rows if (r.variant, r.runtime) == (variant, runtime))


def said(data: SweepData) -> str:
    return "\n".join(f"{s.lead}: {s.text}" for s in sentences(summarise(data)))


def printed(data: SweepData, width: int = 190) -> str:
    out = StringIO()
    render_summary(summarise(data), Console(file=out, width=width))
    return out.getvalue()


# figures


def test_estimate_is_a_value_that_was_measured() -> None:
    assert estimate([]) is None
    one = estimate([5.0])
    assert one is not None and (one.value, one.spread) == (5.0, Spread.SINGLE)
    four = estimate([4.0, 1.0, 9.0, 2.0])
    assert four is not None
    assert (four.value, four.low, four.high, four.spread) == (2.0, 1.0, 9.0, Spread.RANGE)


@pytest.mark.parametrize(("n", "low", "high"), [(6, 0, 5), (8, 0, 7), (9, 1, 7), (10, 1, 8)])
def test_six_restarts_give_an_interval_between_order_statistics(
    n: int, low: int, high: int
) -> None:
    found = estimate([float(i) for i in range(n)])
    assert found is not None
    assert (found.low, found.high, found.spread) == (low, high, Spread.INTERVAL)


def test_figures_come_from_valid_results_alone() -> None:
    cell = make_cell()
    figures = cell_figures(
        [
            make_result(cell, round_index=0, p50_ns=100.0),
            make_result(cell, round_index=1, p50_ns=900.0, verdict=INVALID),
            make_result(cell, round_index=2, p50_ns=110.0),
        ]
    )
    assert figures.counts and figures.p50 is not None
    assert (figures.p50.value, figures.p50.low, figures.p50.high) == (100.0, 100.0, 110.0)


def test_without_a_valid_result_the_figures_are_shown_but_do_not_count() -> None:
    figures = cell_figures([make_result(p50_ns=100.0, verdict=SUSPECT)])
    assert not figures.counts
    assert figures.p50 is not None and figures.p50.value == 100.0


def test_an_older_environment_is_left_out() -> None:
    cell = make_cell()
    old = make_result(cell, round_index=0, p50_ns=500.0)
    old = replace(old, result=replace(old.result, environment={"governor": "ondemand"}))
    figures = cell_figures([old, make_result(cell, round_index=1, p50_ns=100.0)])
    assert figures.p50 is not None and figures.p50.value == 100.0
    assert figures.elsewhere == (old,)


def test_a_percentile_that_one_run_cannot_give_is_left_out() -> None:
    cell = make_cell()
    short = make_result(cell, round_index=1, latency=make_latency(p99_ns=None))
    figures = cell_figures([make_result(cell), short])
    assert 0.99 not in figures.latency
    assert 0.95 in figures.latency


def test_accuracy_is_taken_from_a_noisy_run_but_not_from_a_wrong_one() -> None:
    cell = make_cell()
    noisy = make_result(cell, accuracy=0.9, verdict=INVALID)
    assert cell_figures([noisy]).quality == noisy.result.quality
    wrong = Verdict(Kind.INVALID, (Reason("output_mismatch", True),))
    assert cell_figures([make_result(cell, accuracy=0.1, verdict=wrong)]).quality is None


def test_energy_is_a_figure_or_the_reason_it_is_missing() -> None:
    missing = cell_figures([make_result()]).energy
    assert missing == Absent("no power sensor in /sys/class/hwmon")
    cell = make_cell()
    measured = cell_figures(
        [make_result(cell, round_index=i, energy=make_energy(0.004 + i / 1e4)) for i in range(3)]
    ).energy
    assert isinstance(measured, EnergyFigure)
    assert measured.total.value == pytest.approx(0.0041)
    assert measured.u2_j == pytest.approx(2 * 0.0041 * 0.012)


def calibrated(record: ResultRecord, joules: float, calibration: str = "") -> ResultRecord:
    """``record`` with an energy, read through a calibration where one is named."""
    conditions = record.result.conditions
    assert conditions is not None
    notes = {"power_calibration": calibration} if calibration else {}
    changed = replace(
        record.result,
        energy=make_energy(joules),
        conditions=replace(conditions, notes={**conditions.notes, **notes}),
    )
    return replace(record, result=changed)


def test_energies_of_before_and_after_a_calibration_are_not_pooled() -> None:
    cell = make_cell()
    made = [make_result(cell, round_index=i) for i in range(4)]
    raw = [calibrated(record, 0.001) for record in made[:2]]
    fitted = [calibrated(record, 0.004, "p: 1.12 x reading (0a1b)") for record in made[2:]]
    figure = cell_figures([*raw, *fitted]).energy
    assert isinstance(figure, EnergyFigure)
    assert figure.total.low == pytest.approx(0.004) and figure.total.restarts == 2
    assert figure.apart == ("power_calibration: none, p: 1.12 x reading (0a1b)",)
    assert cell_figures([*raw, *fitted]).p50 == cell_figures(made).p50


def test_energies_read_otherwise_are_named_and_not_compared() -> None:
    data = make_sweep(spoil=False, runtimes=["onnxruntime"])

    def read(record: ResultRecord) -> ResultRecord:
        variant, index = record.result.run.variant_name, record.result.round_index
        if variant == "student":
            return calibrated(record, 0.001)
        return calibrated(record, 0.004, "p: 1.12 x reading (0a1b)" if index else "")

    text = said(replace(data, results=tuple(read(r) for r in data.results)))
    least = next(line for line in text.splitlines() if line.startswith("Least energy"))
    assert "Least energy: student" not in text
    assert "not compared with student in onnxruntime (power_calibration: p: 1.12" in least
    apart = next(line for line in text.splitlines() if line.startswith("Energies read otherwise"))
    assert "fp32 in onnxruntime" in apart and "student" not in apart


def test_the_middle_run_is_the_one_whose_p50_is_shown() -> None:
    cell = make_cell()
    runs = [make_result(cell, round_index=i, p50_ns=p) for i, p in enumerate((300.0, 100.0, 200.0))]
    assert middle_run(runs) is runs[2]
    assert middle_run([make_failure(cell)]) is None


# rows


def test_baseline_comes_first_and_ratios_are_to_it() -> None:
    section = section_of(make_sweep(spoil=False))
    first = section.rows[0]
    assert (first.variant, first.runtime) == ("fp32", "onnxruntime")
    assert section.reference is first
    assert (first.latency_ratio, first.size_ratio, first.comparison) == (1.0, 1.0, None)
    student = row_of(section, "student")
    assert student.latency_ratio == pytest.approx(388 / 1240, rel=0.05)
    assert student.size_ratio == pytest.approx(61_200 / 312_400)


def test_rows_that_count_are_ranked_by_p50_and_the_others_are_not() -> None:
    section = section_of(make_sweep())
    ranked = [r for r in section.rows[1:] if r.counts]
    keys = [(r.rank or 0, r.figures.p50.value) for r in ranked if r.figures.p50]
    assert keys == sorted(keys)
    assert ranked[0].rank == 1
    tucker = row_of(section, "tucker")
    assert (tucker.status, tucker.rank, tucker.latency_ratio) == (RowStatus.SUSPECT, None, None)
    assert tucker.figures.p50 is not None
    failed = row_of(section, "int8-dynamic")
    assert (failed.status, failed.rank, failed.figures.p50) == (RowStatus.FAILED, None, None)
    assert section.rows[-2:] == (failed, tucker)


def test_overlapping_spreads_tie() -> None:
    shapes = [replace(SHAPES[0], name=name, p50_ns=p) for name, p in (("a", 1e6), ("b", 1.001e6))]
    section = section_of(make_sweep(shapes=shapes, runtimes=["onnxruntime"], spoil=False))
    assert [(r.rank, r.tied) for r in section.rows] == [(1, 1), (1, 1)]


def test_one_restart_is_clear_of_nothing() -> None:
    section = section_of(make_sweep(rounds=1, spoil=False))
    assert {r.rank for r in section.rows} == {1}


def test_few_rounds_never_have_a_winner() -> None:
    section = section_of(make_sweep(rounds=5, spoil=False))
    found = [r.comparison for r in section.rows if r.comparison]
    assert len(found) == len(section.rows) - 1
    assert {c.finding for c in found} == {Finding.INCONCLUSIVE}
    assert {c.confidence for c in found} == {None}


def test_enough_rounds_confirm_and_the_level_is_shared_by_all_comparisons() -> None:
    section = section_of(make_sweep(rounds=12, spoil=False))
    student = row_of(section, "student").comparison
    assert student is not None
    assert (student.finding, student.look) == (Finding.CONFIRMED, 12)
    assert student.confidence == pytest.approx(1 - 0.01 / (len(section.rows) - 1))


def test_a_cell_without_results_is_pending() -> None:
    data = make_sweep(spoil=False)
    key = next(c.cell_key for c in data.cells if c.run.variant_name == "student")
    less = replace(data, results=tuple(r for r in data.results if r.result.run.cell_key != key))
    row = row_of(section_of(less), "student")
    assert (row.status, row.total, verdict_text(row)) == (RowStatus.PENDING, 0, "PENDING")
    assert "1 cells have no result yet" in said(less)


def test_without_a_valid_baseline_there_are_no_ratios_and_it_is_said() -> None:
    data = make_sweep(spoil=False)
    keys = {c.cell_key for c in data.cells if c.baseline}
    spoiled = replace(
        data,
        results=tuple(
            replace(r, result=replace(r.result, verdict=INVALID))
            if r.result.run.cell_key in keys
            else r
            for r in data.results
        ),
    )
    section = section_of(spoiled)
    assert section.reference is None
    assert {r.latency_ratio for r in section.rows} == {None}
    assert "the baseline has no VALID result here" in said(spoiled)


def test_another_environment_is_ranked_apart_and_named() -> None:
    data = make_sweep(spoil=False)

    def moved(record: ResultRecord) -> ResultRecord:
        result = record.result
        if result.run.runtime.name != "litert":
            return record
        environment = dict(result.environment) | {"fidelity": "external_binary"}
        return replace(record, result=replace(result, environment=environment))

    data = replace(data, results=tuple(moved(r) for r in data.results))
    first, second = summarise(data).sections
    assert {r.runtime for r in first.rows} == {"onnxruntime"}
    assert {r.runtime for r in second.rows} == {"litert"}
    assert second.differs == ("fidelity: raw_binding, external_binary",)
    assert second.reference is not None and second.reference.runtime == "litert"
    assert "ranked among themselves" in said(data)


@pytest.mark.parametrize(("runtime", "sections"), [("litert", 1), ("onnxruntime", 2)])
def test_how_close_the_timing_comes_matters_within_one_runtime(runtime: str, sections: int) -> None:
    data = make_sweep(spoil=False)
    variants = {
        r.result.run.variant_id for r in data.results if r.result.run.runtime.name == runtime
    }
    apart = {"litert": variants, "onnxruntime": set(sorted(variants)[:1])}[runtime]

    def moved(record: ResultRecord) -> ResultRecord:
        result = record.result
        if result.run.runtime.name != runtime or result.run.variant_id not in apart:
            return record
        environment = dict(result.environment) | {"fidelity": "native_loop"}
        return replace(record, result=replace(result, environment=environment))

    data = replace(data, results=tuple(moved(r) for r in data.results))
    assert len(summarise(data).sections) == sections


def test_a_third_runtime_hides_no_difference_between_two_rows() -> None:
    """The baseline's runtime differs from theirs, so each of the two fits it; not one another."""
    data = make_sweep(spoil=False)

    def moved(record: ResultRecord) -> ResultRecord:
        result = record.result
        if (result.run.runtime.name, result.run.variant_name) != ("litert", "fp16"):
            return record
        environment = dict(result.environment) | {"fidelity": "native_loop"}
        return replace(record, result=replace(result, environment=environment))

    data = replace(data, results=tuple(moved(r) for r in data.results))
    first, second = summarise(data).sections
    assert {(r.variant, r.runtime) for r in second.rows} == {("fp16", "litert")}
    assert ("fp16", "litert") not in {(r.variant, r.runtime) for r in first.rows}
    assert second.differs == ("fidelity: raw_binding, native_loop",)


def test_devices_have_sections_of_their_own() -> None:
    data = make_sweep(devices=[make_device("pi-1"), make_device("pi-2")], spoil=False)
    assert [s.device for s in summarise(data).sections] == ["pi-1", "pi-2"]


def test_canaries_stand_apart() -> None:
    summary = summarise(make_sweep(rounds=6, spoil=False))
    assert "canary" not in {r.variant for r in summary.rows}
    assert [(c.runtime, c.valid, c.total) for c in summary.canaries] == [
        ("onnxruntime", 6, 6),
        ("litert", 6, 6),
    ]
    assert all(c.shift is not None and abs(c.shift) < 0.02 for c in summary.canaries)
    assert summary.total == 6 * len(summary.rows)


def test_counts_and_reasons_cover_every_result() -> None:
    summary = summarise(make_sweep())
    assert summary.total == summary.valid + summary.suspect + summary.invalid == 48
    counts = {r.code: r.count for r in summary.reasons}
    assert counts == {"steal": 5, "runtime_rejected": 3, "cpu_contended": 1, "drift": 1}


# sentences


def test_sentences_name_the_fastest_the_trade_and_what_limits_them() -> None:
    text = said(make_sweep())
    assert "Fastest: student in litert, p50 343 µs" in text
    assert "so few restarts confirm no winner" in text
    assert "Best trade: of those within one point of the baseline’s accuracy, int8-static" in text
    assert "Smallest file: separable (onnx), 52.8 kB" in text
    assert "Energy: not measured: no power sensor" in text
    assert "Left out of the ranking: int8-dynamic in onnxruntime (FAILED)" in text


def test_a_tie_is_said_and_no_winner_named() -> None:
    shapes = [replace(SHAPES[0], name=name, p50_ns=p) for name, p in (("a", 1e6), ("b", 1.001e6))]
    text = said(make_sweep(shapes=shapes, runtimes=["onnxruntime"], spoil=False))
    assert "not told apart from" in text


def test_validity_sentence_says_how_many_why_and_what_would_cure_it() -> None:
    sentence = validity_sentence(summarise(make_sweep()))
    assert sentence.caution
    assert sentence.text.startswith("9 of 48 results are not VALID because ")
    assert "(steal, 5×)" in sentence.text
    assert f"What would cure it: {reason('steal').cure}" in sentence.text
    fine = validity_sentence(summarise(make_sweep(spoil=False)))
    assert (fine.text, fine.caution) == ("all 48 results are VALID.", False)


def test_energy_is_said_with_its_uncertainty_where_it_was_measured() -> None:
    data = make_sweep(shapes=SHAPES[:2], runtimes=["onnxruntime"], spoil=False)
    data = replace(
        data,
        results=tuple(
            replace(r, result=replace(r.result, energy=make_energy())) for r in data.results
        ),
    )
    assert "Least energy: fp32 in onnxruntime, 4.10 mJ ± 98.4 µJ" in said(data)


@pytest.mark.parametrize("code", [each.code for each in CATALOGUE])
def test_every_reason_code_of_the_agent_has_a_meaning_and_a_cure(code: str) -> None:
    assert REASONS[code].meaning
    assert REASONS[code].cure


def test_an_unknown_code_is_repeated_rather_than_hidden() -> None:
    assert reason("new_guard").meaning == "new guard"


def test_a_failure_that_is_also_a_reason_is_counted_once() -> None:
    crashed = make_failure(make_cell())
    code = crashed.result.failure.code if crashed.result.failure else ""
    both = Verdict(Kind.INVALID, (Reason(code, True, "seen by the runner"),))
    record = replace(crashed, result=replace(crashed.result, verdict=both))
    (counted,) = count_reasons([record])
    assert (counted.code, counted.count) == (code, 1)


def test_failure_codes_of_the_table_that_a_run_may_carry_have_cures() -> None:
    carried = {code for code in TABLE if code.startswith(("runtime_", "worker_", "bad_inputs"))}
    assert carried <= REASONS.keys()


# terminal


def test_the_table_shows_every_row_with_its_verdict() -> None:
    text = printed(make_sweep())
    assert "fp32 (baseline)" in text
    assert "p50 ms [spread]" in text
    assert "FAILED 0/3 runtime_rejected" in text
    assert "SUSPECT 0/3 steal cpu_contended drift" in text
    assert "=11" in text
    assert "canary in litert on pi-bench-1" in text


@pytest.mark.parametrize("width", [80, 100, 120, 150, 190])
def test_the_table_fits_the_terminal_and_keeps_its_verdicts(width: int) -> None:
    lines = printed(make_sweep(), width).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    text = "\n".join(lines)
    assert "VALID 3/3" in text and "FAILED" in text and "0.28×" in text
    assert ("left out at this width" in text) == (width < 150)


def test_hostile_names_are_printed_as_they_are() -> None:
    shapes = [replace(SHAPES[0], name="[red]x[/red]")]
    assert "[red]x[/red]" in printed(make_sweep(shapes=shapes, spoil=False))


# reading


def test_cells_without_results_of_their_own_show_those_of_an_earlier_sweep() -> None:
    earlier = make_sweep(spoil=False)
    later = replace(
        earlier,
        sweep=make_sweep_record(sweep_id="s2", name="again", created_ns=T0_NS + 1),
        cells=tuple(replace(c, sweep_id="s2") for c in earlier.cells),
        results=(),
    )
    data = load_sweep(FakeStore(earlier, later), "again")  # type: ignore[arg-type]
    assert summarise(data).valid == 48
    assert data.dataset is not None
    # The canaries beside them too: they may speak against a comparison.
    now, before = ([c.total for c in summarise(one).canaries] for one in (data, earlier))
    assert now == before and all(now)


def test_an_unknown_sweep_is_not_found() -> None:
    with pytest.raises(NotFound):
        load_sweep(FakeStore(), "nope")  # type: ignore[arg-type]


# labels and numbers


@pytest.mark.parametrize(
    ("scenario", "label"),
    [
        (Scenario(), "single_stream"),
        (Scenario(ScenarioKind.OFFLINE, Mode.BURST, 32), "offline_32"),
        (Scenario(ScenarioKind.SERVER, Mode.SUSTAINED, 1, 50.0), "server_50qps_sustained"),
    ],
)
def test_scenario_labels(scenario: Scenario, label: str) -> None:
    assert scenario_label(scenario) == label


def test_runtime_label_names_whatever_a_sweep_can_vary() -> None:
    assert runtime_label(RuntimeSpec("litert")) == "litert"
    spec = RuntimeSpec("onnxruntime", "1.32.0", "XNNPACK", 4, False, {"a": "b"})
    assert runtime_label(spec) == "onnxruntime_1.32.0_XNNPACK_4t_nospin_a=b"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (812, "812 ns"),
        (999.7, "1.00 µs"),
        (1_240_000, "1.24 ms"),
        (12.3e9, "12.3 s"),
        (0.4, "0.400 ns"),
    ],
)
def test_durations(value: float, text: str) -> None:
    assert numbers.duration(value) == text


def test_a_column_shares_its_unit_and_decimals() -> None:
    unit = numbers.time_unit([343_000, 1_243_000])
    assert (unit.name, unit.number(343_000), unit.number(1_243_000)) == ("ms", "0.343", "1.243")
    coarse = numbers.time_unit([3_000, 45_000_000])
    assert coarse.number(45_000_000).replace(numbers.THIN_SPACE, "") == "45000"
    assert coarse.name == "µs"


def test_ratios_sizes_and_changes() -> None:
    assert [numbers.ratio(r) for r in (0.0412, 0.41, 0.996, 1.0, 12.34)] == [
        "0.041×",
        "0.41×",
        "1.00×",
        "1.00×",
        "12.3×",
    ]
    assert [numbers.size(n) for n in (12, 312_400, 1_240_000)] == ["12 B", "312 kB", "1.24 MB"]
    assert [numbers.signed(v, 1) for v in (-1.25, 0.04, 3.0)] == ["−1.2", "0.0", "+3.0"]
    assert numbers.percent(0.91314, 10_000) == "91.31 %"
    assert numbers.percent(0.91314, 100) == "91 %"


def test_a_made_up_variant_hangs_together() -> None:
    variant = make_variant()
    assert variant.files["model/onnx"].cost.macs == 12_530_000


def test_a_single_run_lies_behind_ranges_below_it_and_puts_nothing_behind_itself() -> None:
    data = make_sweep(spoil=False)
    lone = {"separable", "pruned-50"}
    kept = tuple(
        r
        for r in data.results
        if r.result.run.variant_name not in lone or r.result.round_index == 0
    )
    (section,) = summarise(replace(data, results=kept)).sections
    ranked = [r for r in section.rows if r.rank is not None and r.figures.p50 is not None]
    for row in ranked:
        own = row.figures.p50
        assert own is not None
        clear = [r for r in ranked if r.figures.p50 and r.figures.p50.clear_of(own)]
        assert row.rank == 1 + sum(r.variant not in lone for r in clear)
    assert max(r.rank or 0 for r in ranked if r.variant in lone) > 1


def test_unlike_conditions_are_compared_only_where_that_is_forced_and_then_named() -> None:
    data = unlike(make_sweep(spoil=False, runtimes=["onnxruntime"], rounds=12))
    kept_apart = summarise(data)
    assert len(kept_apart.sections) == 2 and not any(s.forced for s in kept_apart.sections)
    assert [len(r.figures.elsewhere) for r in kept_apart.rows if r.variant == "fp32"] == [1]
    (section,) = summarise(data, force=True).sections
    assert section.forced and len(section.rows) == len(kept_apart.rows)
    assert any(name.startswith("governor: ") for name in section.differs)
    assert "runtime: onnxruntime 1.31.0, onnxruntime 1.32.0" in section.differs
    assert [len(r.figures.elsewhere) for r in section.rows if r.variant == "fp32"] == [0]
    judged = [r for r in section.rows if r is not section.reference]
    assert all(r.comparison is not None and r.comparison.look for r in judged)
    text = "\n".join(f"{s.lead}: {s.text}" for s in sentences(summarise(data, force=True)))
    assert "Compared although conditions differ: " in text and "ranked among themselves" not in text


def test_a_forced_sweep_without_differences_says_nothing_of_it() -> None:
    data = make_sweep(spoil=False)
    plain, forced = sentences(summarise(data)), sentences(summarise(data, force=True))
    assert plain == forced


def test_forced_energies_are_pooled_and_named() -> None:
    cell = make_cell()
    made = [make_result(cell, round_index=i) for i in range(2)]
    mixed = [calibrated(made[0], 0.001), calibrated(made[1], 0.004, "p (0a1b)")]
    figure = cell_figures(mixed, force=True).energy
    assert isinstance(figure, EnergyFigure)
    assert figure.total.restarts == 2 and figure.apart == ("power_calibration: none, p (0a1b)",)
