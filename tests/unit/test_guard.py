"""Every reason code the guard can see is provoked, and says with figures what was seen."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from assay.agent.devices.state import DeviceState
from assay.agent.measuring.evidence import Evidence
from assay.agent.measuring.guard import judge, verdict_of
from assay.agent.measuring.reasons import BY_CODE, CATALOGUE, SYNTHETIC_DATASET, reason
from assay.agent.measuring.settle import Settled
from assay.agent.samplers.recording import Series
from assay.core.model import (
    ArtifactRef,
    Fidelity,
    GoldenCheck,
    InputSpec,
    Isolation,
    Latency,
    Mode,
    Reason,
    RunSpec,
    RuntimeSpec,
    Scenario,
    ScenarioKind,
    Verdict,
    VerdictKind,
    WorkerReport,
)
from tests.tinymodels import SHORT

S = 1_000_000_000
START, END = 100 * S, 110 * S
REF = ArtifactRef("sha256:" + "0" * 64, 1, "model/onnx")
LATENCY = Latency(
    n=1000,
    p50_ns=1e6,
    p50_low_ns=0.99e6,
    p50_high_ns=1.01e6,
    p90_ns=1.1e6,
    p95_ns=1.2e6,
    p99_ns=1.3e6,
    p999_ns=None,
    mean_ns=1e6,
    min_ns=0.9e6,
    max_ns=2e6,
    mad_ns=1e4,
    cv=0.05,
    outliers=0,
    fidelity=Fidelity.RAW_BINDING,
    harness_floor_ns=80.0,
    binding_floor_ns=3e3,
    duration_ns=10 * S,
)
REPORT = WorkerReport(
    latency=LATENCY,
    cold=None,
    memory=None,
    quality=None,
    golden=GoldenCheck(16, 1e-6, within_tolerance=True),
    runtime_version="1",
    placement=(),
    isolation=Isolation.PINNED,
    timed_start_ns=START,
    timed_end_ns=END,
    steady=True,
    cpu_ns=9.99 * S,
    run_delay_share=0.0,
    steal_share=0.0,
    background_share=0.02,
    psi_cpu_some_share=0.01,
    clock_probe_change=0.001,
)
RUN = RunSpec(
    attempt_id="a",
    cell_key="c",
    variant_id="v",
    variant_name="fp32",
    artifact=REF,
    runtime=RuntimeSpec("onnxruntime"),
    scenario=Scenario(),
    profile=SHORT,
    inputs=InputSpec("digits", REF),
)
CALM = DeviceState(
    t_ns=90 * S, temperature_c=45.0, governors=("performance",), thermal_throttle_events=0
)
CLEAN = Evidence(
    run=RUN,
    report=REPORT,
    before=CALM,
    after=replace(CALM, t_ns=120 * S, temperature_c=50.0),
    measure_cpus=(3,),
    housekeeping_cpus=(0,),
    isolation=Isolation.PINNED,
)


def report(**changes: Any) -> Evidence:
    return replace(CLEAN, report=replace(REPORT, **changes))


def latency(**changes: Any) -> Evidence:
    return report(latency=replace(LATENCY, **changes))


def run(evidence: Evidence = CLEAN, **changes: Any) -> Evidence:
    return replace(evidence, run=replace(evidence.run, **changes))


def after(**changes: Any) -> Evidence:
    return replace(CLEAN, after=replace(CLEAN.after, **changes))


def readings(quantity: str, values: Mapping[int, float]) -> Series:
    """Values by seconds since the start of the timed part."""
    stamps = array("q", [START + second * S for second in values])
    return Series(stamps, array("d", values.values()), quantity)


def sensed(key: str, quantity: str, values: Mapping[int, float], **changes: Any) -> Evidence:
    return replace(CLEAN, series={key: readings(quantity, values)}, **changes)


def clocks(*values: float) -> Evidence:
    return sensed("cpufreq.cpu0", "cpu_clock", dict(enumerate(values)))


def unlocked(evidence: Evidence) -> Evidence:
    return replace(evidence, before=replace(evidence.before, governors=("ondemand",)))


def held_by_limits(evidence: Evidence, *, held_after: bool = True) -> Evidence:
    """As jetson_clocks leaves a board: the governor is called as ever."""
    before = replace(evidence.before, governors=("schedutil",), clocks_locked=True)
    left = replace(evidence.after, governors=("schedutil",), clocks_locked=held_after)
    return replace(evidence, before=before, after=left)


SERVER = Scenario(ScenarioKind.SERVER, target_qps=100.0)
THREADS = RuntimeSpec("onnxruntime", threads=2)
PROVOKED: list[tuple[str, bool, Evidence]] = [
    ("throttled", True, after(throttle_bits=0x4 << 16)),
    ("throttled", True, after(thermal_throttle_events=3)),
    ("throttled", True, after(cooling={"thermal-cpufreq-0": 2})),
    ("throttled", True, sensed("rpi_throttle.bits", "throttle_bits", {0: 0, 5: 0x50005})),
    ("throttled", True, sensed("rpi_volt.under_voltage", "under_voltage_alarm", {4: 1.0})),
    ("throttled", True, sensed("cooling.cpu", "cooling_state", {1: 0.0, 2: 3.0})),
    (
        "throttled",
        True,
        sensed(
            "jetson_oc.oc1",
            "over_current_events",
            {-60: 0, -30: 30, 0: 60, 10: 360},
            idle=(START - 60 * S, START - 30 * S),
        ),
    ),
    ("freq_moved", True, clocks(2.4e9, 2.4e9, 2.4e9, 1.8e9)),
    ("freq_moved", False, unlocked(clocks(2.4e9, 2.4e9, 2.4e9, 1.8e9))),
    ("freq_moved", False, unlocked(report(clock_probe_change=0.2))),
    ("freq_moved", True, report(clock_probe_change=-0.2)),
    ("freq_moved", True, held_by_limits(clocks(2.4e9, 2.4e9, 2.4e9, 1.8e9))),
    ("freq_moved", True, held_by_limits(CLEAN, held_after=False)),
    (
        "freq_moved",
        True,
        sensed("rpi_clock.arm", "firmware_clock", {0: 2.4e9, 1: 1.5e9, 2: 2.4e9, 3: 2.4e9}),
    ),
    ("cpu_contended", True, report(cpu_ns=9.7 * S)),
    ("cpu_contended", True, run(report(cpu_ns=19 * S, run_delay_share=0.05), runtime=THREADS)),
    (
        "cpu_contended",
        True,
        run(
            report(run_delay_share=None, psi_cpu_some_share=0.4, involuntary_switches=5000),
            runtime=THREADS,
        ),
    ),
    (
        "cpu_contended",
        True,
        run(
            report(
                cpu_ns=2 * S,
                run_delay_share=0.05,
                notes={"offered_qps": "100", "served_qps": "99.5"},
            ),
            scenario=SERVER,
        ),
    ),
    ("not_steady", True, report(steady=False)),
    (
        "not_steady",
        True,
        run(report(notes={"offered_qps": "100", "served_qps": "60"}), scenario=SERVER),
    ),
    ("output_mismatch", True, report(golden=GoldenCheck(16, 3.0, within_tolerance=False))),
    ("output_mismatch", True, report(notes={"outputs_nonfinite": "y: 3 of 10 values"})),
    ("output_mismatch", True, report(notes={"paths_differ": "0.5"})),
    ("clock_jump", True, report(clock_jump_ns=-2 * S)),
    ("low_n", True, latency(n=10)),
    ("swap_or_major_faults", True, report(swapped_pages=1)),
    ("swap_or_major_faults", True, report(major_faults=2)),
    ("drift", False, report(drift=-0.03)),
    ("outliers", False, latency(outlier_time_share=0.06)),
    ("overhead_bound", False, latency(p50_ns=3900.0)),
    (
        "throttle_history_dirty",
        False,
        replace(
            CLEAN,
            before=replace(CALM, throttle_bits=0x1 << 16),
            after=replace(CLEAN.after, throttle_bits=0x1 << 16),
        ),
    ),
    (
        "throttle_history_dirty",
        False,
        # The sensor died three seconds into the timed part: the rest was not watched.
        sensed(
            "rpi_throttle.bits",
            "throttle_bits",
            {0: 65536.0, 1: 65536.0, 3: 65536.0},
            before=replace(CALM, throttle_bits=1 << 16),
            after=replace(CLEAN.after, throttle_bits=1 << 16),
        ),
    ),
    ("low_voltage", False, sensed("rpi_pmic.EXT5V", "input_voltage", {1: 5.1, 2: 4.79})),
    ("low_voltage", True, sensed("rpi_pmic.EXT5V", "input_voltage", {1: 5.1, 2: 4.69, 3: 5.1})),
    ("hot_start", False, replace(CLEAN, settled=Settled(300 * S, 71.5, timed_out=True))),
    ("battery_low", False, sensed("battery.charge", "battery_charge", {2: 0.12})),
    ("isolation_none", False, replace(CLEAN, isolation=Isolation.NONE)),
    ("fallback_ops", False, report(notes={"fallback": "TopK x1"})),
    ("background_load", False, report(background_share=0.8)),
    ("steal", False, report(steal_share=0.04)),
    (
        "outputs_nonfinite",
        False,
        report(notes={"outputs_nonfinite": "y: 3 of 10 values", "golden_nonfinite": "it too"}),
    ),
    ("outputs_unchecked", False, report(golden=None)),
    ("synthetic_input", False, run(inputs=InputSpec(SYNTHETIC_DATASET, REF))),
]


def test_a_clean_run_is_valid() -> None:
    assert judge(CLEAN)[1] == Verdict(VerdictKind.VALID)


@pytest.mark.parametrize(
    ("code", "hard", "evidence"), PROVOKED, ids=[f"{i}-{p[0]}" for i, p in enumerate(PROVOKED)]
)
def test_a_code_is_provoked_alone(code: str, hard: bool, evidence: Evidence) -> None:
    _, verdict = judge(evidence)
    assert [(one.code, one.hard) for one in verdict.reasons] == [(code, hard)]
    assert verdict.reasons[0].detail
    assert verdict.kind is (VerdictKind.INVALID if hard else VerdictKind.SUSPECT)


def test_every_code_the_guard_sees_has_a_provocation() -> None:
    seen = {entry.code for entry in CATALOGUE if entry.seen_by == "guard"}
    assert {code for code, _, _ in PROVOKED} == seen


INNOCENT = {
    "a healthy Jetson counts over-current events at the same rate as idle": sensed(
        "jetson_oc.oc1",
        "over_current_events",
        {-60: 0, -30: 900, 0: 1800, 10: 2150},
        idle=(START - 60 * S, START - 30 * S),
    ),
    "a clock may blink once": clocks(*[2.4e9] * 30, 2.3e9),
    "another cluster's clock is not ours": replace(
        CLEAN,
        series={
            "cpufreq.cpu0": readings("cpu_clock", {1: 1e9, 2: 2e9, 3: 1.5e9}),
            "cpufreq.cpu2": readings("cpu_clock", {1: 2.4e9, 2: 2.4e9, 3: 2.4e9}),
        },
    ),
    "throttling before the timed part is over": sensed(
        "rpi_throttle.bits", "throttle_bits", {-5: 4.0, 1: 0.0, 2: 0.0}
    ),
    "a dirty history that was watched live": sensed(
        "rpi_throttle.bits",
        "throttle_bits",
        {1: 65536.0, 5: 65536.0, 9: 65536.0},
        before=replace(CALM, throttle_bits=1 << 16),
        after=replace(CLEAN.after, throttle_bits=1 << 16),
    ),
    "a sag of the supply before the timed part": sensed(
        "rpi_pmic.EXT5V", "input_voltage", {-3: 4.5, 1: 5.1, 2: 4.8}
    ),
    "other voltages than the board's input": sensed("ina2xx.volts", "voltage", {1: 3.3, 2: 3.3}),
    "two threads use more CPU than wall": run(report(cpu_ns=19.9 * S), runtime=THREADS),
    "a paced run rests": run(report(cpu_ns=1 * S), scenario=Scenario(mode=Mode.PACED)),
    "an accelerator rests the CPU": run(
        report(cpu_ns=1 * S), runtime=RuntimeSpec("onnxruntime", provider="CUDAExecutionProvider")
    ),
    "labels are a check of outputs too": run(
        report(golden=None, quality=object()),  # any quality at all
    ),
    "a canary brings no golden outputs of its own": run(report(golden=None), canary=True),
    "time synchronisation slews": report(clock_jump_ns=5_000_000),
}


@pytest.mark.parametrize("evidence", INNOCENT.values(), ids=INNOCENT)
def test_what_looks_like_a_fault_and_is_none(evidence: Evidence) -> None:
    assert judge(evidence)[1].reasons == ()


@pytest.mark.parametrize("evidence", [after(cooling={"cpu": 1}), clocks(2e9, 2e9, 1e9)])
def test_in_a_sustained_run_throttling_is_a_finding(evidence: Evidence) -> None:
    sustained = run(evidence, scenario=Scenario(mode=Mode.SUSTAINED))
    sustained = replace(sustained, report=replace(sustained.report, drift=0.3))
    conditions, verdict = judge(sustained)
    assert verdict.kind is VerdictKind.VALID
    assert "finding_drift" in conditions.notes
    assert {"finding_throttled", "finding_freq_moved"} & set(conditions.notes)


def sustained(evidence: Evidence) -> Evidence:
    return run(evidence, scenario=Scenario(mode=Mode.SUSTAINED))


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (sensed("rpi_throttle.bits", "throttle_bits", {0: 0, 3: 0, 6: 0x4, 9: 0x4}), "6.0"),
        (sensed("cooling.cpu", "cooling_state", {1: 0.0, 4: 2.0, 5: 3.0}), "4.0"),
        (sensed("cooling.cpu", "cooling_state", {1: 0.0, 9: 0.0}), "none within 10 s"),
        (after(thermal_throttle_events=3), "some time in the run: only its end was seen"),
        (CLEAN, None),
    ],
)
def test_a_sustained_run_tells_when_throttling_began(evidence: Evidence, told: str | None) -> None:
    conditions, verdict = judge(sustained(evidence))
    assert conditions.notes.get("time_to_throttle_s") == told
    assert verdict.kind is VerdictKind.VALID
    assert "time_to_throttle_s" not in judge(evidence)[0].notes


def test_over_current_without_an_idle_rate_is_told_and_not_judged() -> None:
    moving = sensed("jetson_oc.oc1", "over_current_events", {0: 60, 10: 360})
    conditions, verdict = judge(moving)
    assert verdict.reasons == ()
    assert conditions.notes["over_current"] == "jetson_oc.oc1 30.0/s, idle rate unknown"
    still = sensed("jetson_oc.oc1", "over_current_events", {0: 60, 10: 60})
    assert "over_current" not in judge(still)[0].notes


def test_hard_reasons_come_first_and_all_are_kept() -> None:
    evidence = report(drift=0.1, steady=False, background_share=0.9)
    _, verdict = judge(replace(evidence, extra=(reason("baseline_drift", "6 %"),)))
    assert [one.hard for one in verdict.reasons] == [True, False, False, False]
    assert {one.code for one in verdict.reasons} == {
        "not_steady",
        "drift",
        "background_load",
        "baseline_drift",
    }


def test_what_the_run_could_not_see_is_none() -> None:
    conditions, verdict = judge(report(steal_share=None, psi_cpu_some_share=None, cpu_ns=0.0))
    assert conditions.steal_share is conditions.psi_cpu_some_share is None
    assert conditions.clock_median_hz is None
    assert verdict.kind is VerdictKind.VALID


def test_conditions_tell_the_state_of_the_board() -> None:
    evidence = replace(
        CLEAN,
        series={
            "thermal.cpu-thermal": readings("temperature", {-1: 90.0, 1: 61.0, 2: 62.5}),
            "thermal.battery": readings("temperature", {1: 99.0}),
            "cpufreq.cpu0": readings("cpu_clock", {1: 2.4e9, 2: 2.39e9, 3: 2.4e9}),
        },
        processor_labels=frozenset({"cpu-thermal"}),
        notes={"cpus": "as configured"},
    )
    conditions, _ = judge(evidence)
    assert conditions.temperature_start_c == 45.0 and conditions.temperature_end_c == 50.0
    assert conditions.temperature_max_c == 62.5
    assert (conditions.clock_median_hz, conditions.clock_min_hz) == (2.4e9, 2.39e9)
    assert conditions.wall_per_cpu == pytest.approx(10 / 9.99)
    assert conditions.notes["cpus"] == "as configured"
    assert conditions.notes["background_share"] == "0.0200"


def test_a_verdict_needs_no_order() -> None:
    soft, hard = Reason("drift", False), Reason("low_n", True)
    assert verdict_of([soft, hard]) == verdict_of([hard, soft])


def test_codes_are_unique() -> None:
    assert len(BY_CODE) == len(CATALOGUE)
