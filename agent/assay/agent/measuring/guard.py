"""Decides whether a number holds; pure, and free of numpy.

:func:`judge` looks at everything that is known of one run and returns the conditions it ran under
and a verdict with every reason, hard ones first. The codes and thresholds stand in
:mod:`assay.agent.measuring.reasons`; each rule below answers with the reasons it sees.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from assay.agent.devices.throttling import throttled_now
from assay.agent.measuring import reasons as limits
from assay.agent.measuring.evidence import Evidence, conditions
from assay.agent.measuring.reasons import is_finding, reason
from assay.agent.measuring.throttle_time import NOTE, time_to_throttle
from assay.agent.samplers.rpi_pmic import input_voltage_problem
from assay.core import stats
from assay.core.model import (
    Conditions,
    Isolation,
    Latency,
    Mode,
    Reason,
    ScenarioKind,
    Verdict,
    VerdictKind,
)

_LOCKED_GOVERNORS = frozenset({"performance", "userspace"})
_CPU_PROVIDERS = frozenset({"", "CPUExecutionProvider", "XNNPACK", "builtin"})
_MIN_EVENTS_PER_S = 5.0


def judge(evidence: Evidence) -> tuple[Conditions, Verdict]:
    """The conditions of a run that has a number, and whether that number holds."""
    seen = [found for rule in _RULES for found in rule(evidence)]
    mode = evidence.run.scenario.mode
    faults = [one for one in seen if not is_finding(one.code, mode)]
    findings = {f"finding_{one.code}": one.detail for one in seen if is_finding(one.code, mode)}
    if told := _over_current_unjudged(evidence):
        findings["over_current"] = told
    if mode is Mode.SUSTAINED and (told := time_to_throttle(evidence)):
        findings[NOTE] = told
    return conditions(evidence, findings), verdict_of([*faults, *evidence.extra])


def verdict_of(found: Iterable[Reason]) -> Verdict:
    """INVALID with a hard reason, SUSPECT with a soft one, else VALID; hard ones come first."""
    ordered = tuple(sorted(found, key=lambda one: not one.hard))
    if not ordered:
        return Verdict(VerdictKind.VALID)
    return Verdict(VerdictKind.INVALID if ordered[0].hard else VerdictKind.SUSPECT, ordered)


def _throttled(evidence: Evidence) -> Iterable[Reason]:
    causes = list(evidence.change.throttled)
    for values in evidence.timed("throttle_bits").values():
        causes += [name for bits in values for name in throttled_now(int(bits))]
    for key, values in evidence.timed("under_voltage_alarm").items():
        causes += [f"{key} alarm"] if any(values) else []
    for key, values in evidence.timed("cooling_state").items():
        causes += [f"{key} at {max(values):g}"] if any(values) else []
    causes += _over_current(evidence)
    if causes:
        yield reason("throttled", ", ".join(dict.fromkeys(causes)))


def _over_current_unjudged(evidence: Evidence) -> str:
    """The rates where no idle rate was taken, which only runs that read energy do; a rate alone
    proves nothing, so it is told and not judged."""
    window = (evidence.report.timed_start_ns, evidence.report.timed_end_ns)
    moved = {k: v for k, v in evidence.rates("over_current_events", window).items() if v > 0}
    if evidence.idle is not None or not moved:
        return ""
    return ", ".join(f"{key} {rate:.1f}/s" for key, rate in moved.items()) + ", idle rate unknown"


def _over_current(evidence: Evidence) -> list[str]:
    """Counters move on healthy boards: the rate counts, against the idle one."""
    if evidence.idle is None:
        return []
    window = (evidence.report.timed_start_ns, evidence.report.timed_end_ns)
    resting = evidence.rates("over_current_events", evidence.idle)
    return [
        f"{key} {active:.1f}/s, idle {resting[key]:.1f}/s"
        for key, active in evidence.rates("over_current_events", window).items()
        if key in resting and active > 2 * resting[key] + _MIN_EVENTS_PER_S
    ]


def _freq_moved(evidence: Evidence) -> Iterable[Reason]:
    governors = evidence.before.governors
    held = bool(evidence.before.clocks_locked)
    locked = held or (bool(governors) and _LOCKED_GOVERNORS.issuperset(governors))
    if held and evidence.after.clocks_locked is False:
        told = "every clock was held when the run began and not when it ended (nvpmodel undoes "
        yield reason("freq_moved", f"{told}jetson_clocks)", hard=True)
        return
    clocks = evidence.measured_clocks_hz()
    if clocks:
        centre = statistics.median(clocks)
        far = sum(abs(hz - centre) > limits.MAX_CLOCK_MOVE * centre for hz in clocks)
        if far > limits.CLOCK_MOVED_SHARE * len(clocks):
            told = f"{far} of {len(clocks)} readings, {min(clocks) / 1e6:.0f} to "
            told += f"{max(clocks) / 1e6:.0f} MHz around {centre / 1e6:.0f}"
            yield reason("freq_moved", told, hard=locked)
            return
    change = evidence.report.clock_probe_change
    if change is not None and abs(change) > limits.MAX_CLOCK_PROBE_CHANGE:
        told = f"a calibrated loop took {change:+.1%} after the timed part"
        yield reason("freq_moved", told, hard=locked)


def _cpu_contended(evidence: Evidence) -> Iterable[Reason]:
    report, run = evidence.report, evidence.run
    ratio = evidence.wall_per_cpu
    on_cpu = run.runtime.provider in _CPU_PROVIDERS
    if run.runtime.threads == 1 and on_cpu and not evidence.is_open and ratio is not None:
        if ratio > limits.MAX_WALL_PER_CPU:
            yield reason("cpu_contended", f"wall time is {ratio:.3f} of CPU time")
        return
    delay = report.run_delay_share
    if delay is not None:
        if delay > limits.MAX_RUN_DELAY_SHARE:
            yield reason("cpu_contended", f"a thread waited for a CPU {delay:.1%} of the time")
        return
    psi, seconds = evidence.psi_share, evidence.timed_s
    switches = report.involuntary_switches / seconds if seconds else 0.0
    if psi is not None and psi > limits.MAX_PSI_SHARE and switches > limits.MAX_SWITCHES_PER_S:
        told = f"PSI {psi:.1%} and {switches:.0f} involuntary switches a second"
        yield reason("cpu_contended", told)


def _not_steady(evidence: Evidence) -> Iterable[Reason]:
    report = evidence.report
    if not report.steady:
        told = f"block medians still moved after {report.warmup_ns / 1e9:.1f} s of warm-up"
        yield reason("not_steady", told)
    if evidence.run.scenario.kind is ScenarioKind.SERVER:
        offered = float(report.notes.get("offered_qps", 0))
        served = float(report.notes.get("served_qps", 0))
        if served < limits.MIN_SERVED_SHARE * offered:
            yield reason("not_steady", f"{served:g} of {offered:g} queries a second were served")


def _output_mismatch(evidence: Evidence) -> Iterable[Reason]:
    golden, notes = evidence.report.golden, evidence.report.notes
    if golden is not None and not golden.within_tolerance:
        told = f"largest error {golden.max_abs_error:.3g} over {golden.n} golden samples"
        yield reason("output_mismatch", told)
    if "outputs_nonfinite" in notes and "golden_nonfinite" not in notes:
        yield reason("output_mismatch", f"not finite: {notes['outputs_nonfinite']}")
    if "paths_differ" in notes:
        told = f"the timed path is off the plain one by {notes['paths_differ']}"
        yield reason("output_mismatch", told)


def _clock_jump(evidence: Evidence) -> Iterable[Reason]:
    jump_ns, seconds = evidence.report.clock_jump_ns, evidence.timed_s
    if abs(jump_ns) > limits.MAX_CLOCK_JUMP_NS + limits.MAX_CLOCK_SLEW * seconds * 1e9:
        yield reason("clock_jump", f"the clocks parted by {jump_ns / 1e9:+.3f} s")


def _low_n(evidence: Evidence) -> Iterable[Reason]:
    latency = evidence.report.latency
    if latency is not None and latency.n < stats.n_min(0.5):
        yield reason("low_n", f"{latency.n} samples, {stats.n_min(0.5)} are needed")


def _swap_or_major_faults(evidence: Evidence) -> Iterable[Reason]:
    report = evidence.report
    if report.swapped_pages or report.major_faults:
        told = f"{report.swapped_pages} pages swapped, {report.major_faults} major faults"
        yield reason("swap_or_major_faults", told)


def _samples(evidence: Evidence) -> Iterable[Reason]:
    """drift, outliers, overhead_bound."""
    latency, drift = evidence.report.latency, evidence.report.drift
    if abs(drift) > limits.MAX_DRIFT:
        yield reason("drift", f"{drift:+.1%} from the first to the last quarter")
    if latency is None:
        return
    if latency.outlier_time_share > limits.MAX_OUTLIER_TIME_SHARE:
        told = f"{latency.outliers} of {latency.n} samples took {latency.outlier_time_share:.1%}"
        yield reason("outliers", f"{told} of the time beyond the median")
    yield from _overhead_bound(latency)


def _overhead_bound(latency: Latency) -> Iterable[Reason]:
    if latency.harness_floor_ns > limits.MAX_FLOOR_SHARE * latency.p50_ns:
        share = latency.harness_floor_ns / latency.p50_ns if latency.p50_ns else 1.0
        told = f"the loop alone takes {latency.harness_floor_ns:.0f} ns, {share:.1%} of the median"
        yield reason("overhead_bound", told)


def _board(evidence: Evidence) -> Iterable[Reason]:
    """throttle_history_dirty, low_voltage, hot_start, battery_low."""
    if evidence.change.throttle_history_dirty and not evidence.watched("throttle_bits"):
        yield reason("throttle_history_dirty", ", ".join(evidence.before.throttle_history))
    for values in evidence.timed("input_voltage").values():
        if values and (problem := input_voltage_problem(min(values))):
            yield reason("low_voltage", problem[0], hard=problem[1])
    settled = evidence.settled
    if settled.timed_out and settled.temperature_c is not None:
        told = f"{settled.temperature_c:.1f} °C after waiting {settled.waited_ns / 1e9:.0f} s"
        yield reason("hot_start", told)
    charges = [value for values in evidence.timed("battery_charge").values() for value in values]
    if charges and min(charges) < limits.MIN_BATTERY_CHARGE:
        yield reason("battery_low", f"{min(charges):.0%} left")


def _company(evidence: Evidence) -> Iterable[Reason]:
    """isolation_none, background_load, steal."""
    if evidence.isolation is Isolation.NONE:
        cpus = ",".join(map(str, evidence.measure_cpus)) or "all"
        yield reason("isolation_none", f"CPU {cpus} also serves the agent")
    background = evidence.report.background_share
    if background is not None and background > limits.MAX_BACKGROUND_SHARE:
        yield reason("background_load", f"the other CPUs were busy {background:.0%} of the time")
    steal = evidence.steal_share
    if steal is not None and steal > limits.MAX_STEAL_SHARE:
        yield reason("steal", f"{steal:.1%} of the time")


def _honesty(evidence: Evidence) -> Iterable[Reason]:
    """fallback_ops, outputs_nonfinite, outputs_unchecked, synthetic_input."""
    report, run = evidence.report, evidence.run
    if "outputs_nonfinite" in report.notes and "golden_nonfinite" in report.notes:
        yield reason("outputs_nonfinite", report.notes["outputs_nonfinite"])
    if report.notes.get("fallback"):
        yield reason("fallback_ops", report.notes["fallback"])
    if run.inputs.dataset == limits.SYNTHETIC_DATASET:
        yield reason("synthetic_input", "seeded random values in the model's declared shapes")
    if report.golden is None and report.quality is None and not run.canary:
        yield reason("outputs_unchecked", "no golden outputs and no labels came with this run")


_RULES: tuple[Callable[[Evidence], Iterable[Reason]], ...] = (
    _throttled,
    _freq_moved,
    _cpu_contended,
    _not_steady,
    _output_mismatch,
    _clock_jump,
    _low_n,
    _swap_or_major_faults,
    _samples,
    _board,
    _company,
    _honesty,
)
