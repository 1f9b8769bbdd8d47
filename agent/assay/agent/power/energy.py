"""Joules per inference from power readings around a run; pure.

Idle - active - idle: the board's power is recorded before, during and after the timed part; the
idle mean is taken off for the dynamic part. Every number comes with a standard uncertainty that
combines gain, offset, quantisation, sampling and clock terms (GUM, JCGM 100:2008, 5.1.2).
A missing reading is :class:`Absent` with its reason; power is never modelled and never zero.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from assay.agent.power.integral import Window, distinct_readings, integrate
from assay.agent.samplers.base import Meter
from assay.agent.samplers.recording import Series
from assay.core.model import Absent, Energy, PowerTier, Reason

__all__ = ["EnergyEstimate", "Window", "choose_source", "estimate_energy"]

MIN_DISTINCT = 100
MIN_DISTINCT_BATTERY = 20
GAP_FACTOR = 5
MIN_SAMPLES_PER_PERIOD = 20
MAX_RELATIVE_U = 0.20
MAX_BASELINE_DRIFT = 0.05

_READINGS_PER_BATCH = 5
_MIN_BATCHES, _MAX_BATCHES = 4, 20
_TIER_RANK = (PowerTier.EXTERNAL_METER, PowerTier.BOARD_SENSOR, PowerTier.BATTERY_GAUGE)
# Within a tier the source that sees more of the board.
_SCOPE_RANK = ("wall", "board_input", "module", "package", "rail_sum", "battery")
_ROOT_12 = math.sqrt(12)


@dataclass(frozen=True, slots=True)
class EnergyEstimate:
    """The energy of one inference, and what speaks against trusting it (soft reasons)."""

    energy: Energy
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class _Phase:
    """One state of the board: its energy, the standard error of its mean power, its pace."""

    window: Window
    joules: float
    sampling_u_w: float
    distinct: int
    read_every_s: float
    longest_gap_s: float

    @property
    def interval_s(self) -> float:
        """Between updates of the sensor, which may be slower than the reads of it."""
        return max(self.read_every_s, self.window.seconds / self.distinct)

    @property
    def watts(self) -> float:
        return self.joules / self.window.seconds


def estimate_energy(
    series: Mapping[str, Series],
    idle: Sequence[Window],
    active: Window,
    inferences: int,
    *,
    period_ns: int | None = None,
    no_source: str = "no power sensor on this board",
) -> EnergyEstimate | Absent:
    """Energy per inference of the board's best power source, or why there is none.

    ``idle`` holds the idle window before and, where there is one, after; ``inferences`` ran in
    ``active``; ``period_ns`` is the pacing of a paced load; ``no_source`` is the board's own reason
    (:func:`assay.agent.devices.power.power_absence`).
    """
    chosen = choose_source(series, no_source)
    if isinstance(chosen, Absent):
        return chosen
    source, readings, meter = chosen
    if inferences <= 0:
        return Absent("no inference completed in the measured window")
    if not idle:
        return Absent(f"{source} was not recorded while the board was idle")
    phases: list[_Phase] = []
    for window in (active, *idle):
        phase = _phase(readings, window)
        if phase is None:
            state = "idle" if phases else "measured"
            return Absent(f"{source} does not cover the {state} window from edge to edge")
        phases.append(phase)
    energy = _per_inference(source, readings, meter, phases, inferences)
    return EnergyEstimate(energy, _reasons(meter, phases, energy, period_ns))


def choose_source(
    series: Mapping[str, Series], no_source: str = "no power sensor on this board"
) -> tuple[str, Series, Meter] | Absent:
    """The total channel of the best tier that sees most of the board; its rails are not added."""
    totals = [
        (key, one, one.meter)
        for key, one in series.items()
        if one.meter is not None and one.meter.total and one.meter.tier in _TIER_RANK
    ]
    if not totals:
        return Absent(no_source)
    return min(totals, key=lambda total: (*_rank(total[2]), total[0]))


def _rank(meter: Meter) -> tuple[int, int]:
    known = meter.scope in _SCOPE_RANK
    scope = _SCOPE_RANK.index(meter.scope) if known else len(_SCOPE_RANK)
    return _TIER_RANK.index(meter.tier), scope


def _phase(readings: Series, window: Window) -> _Phase | None:
    joules = integrate(readings, window)
    if joules is None:
        return None
    inside = slice(
        bisect_left(readings.t_ns, window.start_ns), bisect_right(readings.t_ns, window.end_ns)
    )
    times = [window.start_ns, *readings.t_ns[inside], window.end_ns]
    steps = sorted((b - a) / 1e9 for a, b in pairwise(times))
    distinct = max(1, distinct_readings(readings.value[inside]))
    batches = min(_MAX_BATCHES, max(_MIN_BATCHES, distinct // _READINGS_PER_BATCH))
    return _Phase(
        window,
        joules,
        _sampling_u_w(readings, window, batches),
        distinct,
        steps[len(steps) // 2],
        steps[-1],
    )


def _sampling_u_w(readings: Series, window: Window, batches: int) -> float:
    """Standard uncertainty of the mean power by batch means, which autocorrelation does not fool.

    Widened for few batches by sqrt((n - 1) / (n - 3)), the spread of Student's t.
    """
    step_ns = (window.end_ns - window.start_ns) // batches
    edges = [window.start_ns + i * step_ns for i in range(batches + 1)]
    parts = [integrate(readings, Window(a, b)) for a, b in pairwise(edges)]
    watts = [joules * 1e9 / step_ns for joules in parts if joules is not None]
    mean = math.fsum(watts) / batches
    variance = math.fsum((w - mean) ** 2 for w in watts) / (batches - 3)
    return math.sqrt(variance / batches)


def _per_inference(
    source: str, readings: Series, meter: Meter, phases: Sequence[_Phase], inferences: int
) -> Energy:
    busy, *resting = phases
    seconds = busy.window.seconds
    idle_w = math.fsum(phase.watts for phase in resting) / len(resting)
    dynamic_j = busy.joules - idle_w * seconds
    gain_u = meter.gain_u or 0.0
    # Not averaged away: a steady load sits on the same step of the converter all the time. A
    # counter is a step off at each edge, a power reading all along.
    step_u = meter.quantum / _ROOT_12
    step_u_j = step_u * math.sqrt(2) if readings.quantity == "energy" else step_u * seconds
    # Each edge of the window lies anywhere within one interval of the real step in power.
    clock_u_j = abs(busy.watts - idle_w) * busy.interval_s / _ROOT_12 * math.sqrt(2)
    both = (clock_u_j, busy.sampling_u_w * seconds, step_u_j)
    total_u = math.hypot(*both, gain_u * busy.joules, meter.offset_u * seconds)
    idle_u_j = math.hypot(_idle_u_w(resting) * seconds, step_u_j / math.sqrt(len(resting)))
    dynamic_u = math.hypot(*both, gain_u * dynamic_j, idle_u_j)
    distinct = min(phase.distinct for phase in phases)
    too_wide = dynamic_j <= 0 or dynamic_u / dynamic_j > MAX_RELATIVE_U
    return Energy(
        tier=meter.tier,
        source=source,
        scope=meter.scope,
        total_j=busy.joules / inferences,
        dynamic_j=dynamic_j / inferences,
        total_u_j=total_u / inferences,
        dynamic_u_j=dynamic_u / inferences,
        idle_w=idle_w,
        active_w=busy.watts,
        distinct_readings=distinct,
        inconclusive=too_wide or distinct < _wanted(meter),
    )


def _wanted(meter: Meter) -> int:
    """Distinct readings in each state."""
    return MIN_DISTINCT_BATTERY if meter.tier is PowerTier.BATTERY_GAUGE else MIN_DISTINCT


def _idle_u_w(resting: Sequence[_Phase]) -> float:
    """Of the mean of the idle windows; a drift between them counts as a uniform spread."""
    spread = max(p.watts for p in resting) - min(p.watts for p in resting)
    sampling = math.hypot(*(phase.sampling_u_w for phase in resting)) / len(resting)
    return math.hypot(sampling, spread / _ROOT_12)


def _reasons(
    meter: Meter, phases: Sequence[_Phase], energy: Energy, period_ns: int | None
) -> tuple[Reason, ...]:
    found: list[Reason] = []
    share = energy.dynamic_u_j / abs(energy.dynamic_j) if energy.dynamic_j else math.inf
    if energy.dynamic_j <= 0 or share > MAX_RELATIVE_U:
        found.append(
            Reason("energy_inconclusive", False, f"uncertainty is {share:.0%} of the energy")
        )
    wanted = _wanted(meter)
    if energy.distinct_readings < wanted:
        told = f"{energy.distinct_readings} distinct readings in one state, {wanted} are needed"
        found.append(Reason("energy_inconclusive", False, told))
    found += _aliasing(phases, period_ns)
    found += _baseline(phases[1:])
    if meter.gain_u is None:
        told = f"nobody stated the gain of this {meter.scope} sensor: compare on this board only"
        found.append(Reason("power_uncalibrated", False, told))
    return tuple(found)


def _aliasing(phases: Sequence[_Phase], period_ns: int | None) -> list[Reason]:
    found = []
    worst = max(phases, key=lambda phase: phase.longest_gap_s / phase.read_every_s)
    if worst.longest_gap_s > GAP_FACTOR * worst.read_every_s:
        pace = f"one reading every {worst.read_every_s:.2f} s"
        told = f"a gap of {worst.longest_gap_s:.2f} s at {pace}"
        found.append(Reason("energy_aliased", False, told))
    per_period = None if period_ns is None else period_ns / 1e9 / phases[0].interval_s
    if per_period is not None and per_period < MIN_SAMPLES_PER_PERIOD:
        told = f"{per_period:.1f} readings a period, {MIN_SAMPLES_PER_PERIOD} are needed"
        found.append(Reason("energy_aliased", False, told))
    return found


def _baseline(resting: Sequence[_Phase]) -> list[Reason]:
    if len(resting) < 2:
        return [Reason("baseline_drift", False, "idle power was recorded on one side only")]
    low, high = sorted(phase.watts for phase in resting)
    drift = (high - low) / ((high + low) / 2) if high + low > 0 else 0.0
    if drift <= MAX_BASELINE_DRIFT:
        return []
    return [Reason("baseline_drift", False, f"idle power moved by {drift:.1%} around the run")]
