"""Simulated meters, of which the truth is known: it lies within ± 2u as often as is said."""

from __future__ import annotations

import random
from dataclasses import dataclass

from assay.agent.power.energy import EnergyEstimate, Window, estimate_energy
from assay.agent.samplers.base import Meter
from assay.agent.samplers.recording import Series
from assay.core.model import PowerTier

S = 1_000_000_000
IDLE_W, INFERENCES = 2.0, 100
ACTIVE = Window(30 * S, 60 * S)
IDLE = (Window(0, 30 * S), Window(60 * S, 90 * S))
TRIALS = 200
#: Fewer inside would be seen once in 200 times (of 1,000), in 1,000 (of 200), if 95 % were true.
LEAST, LEAST_OF_A_KIND = 932, 180


@dataclass(frozen=True)
class Fault:
    """What is wrong with a meter: standard deviations, but for the step and the share of readings
    lost; ``wrap_j`` makes it a counter."""

    gain: float = 0.0
    offset_w: float = 0.0
    noise_w: float = 0.02
    quantum: float = 0.0
    jitter_s: float = 0.0
    lost: float = 0.0
    wrap_j: float | None = None


FAULTS = {
    "gain and offset": Fault(gain=0.01, offset_w=0.03),
    "steps": Fault(quantum=0.08),
    "jitter": Fault(jitter_s=0.03, noise_w=0.1),
    "gaps": Fault(lost=0.3, noise_w=0.1),
    "a counter that wraps": Fault(wrap_j=50.0, quantum=0.02, gain=0.01),
}


def recorded(fault: Fault, active_w: float, rng: random.Random) -> Series:
    gain, offset_w = 1 + rng.gauss(0, fault.gain), rng.gauss(0, fault.offset_w)
    meter = Meter(
        PowerTier.BOARD_SENSOR,
        "board_input",
        total=True,
        quantum=fault.quantum,
        gain_u=fault.gain,
        offset_u=fault.offset_w,
        wrap_j=fault.wrap_j,
    )
    phase, joules, before = rng.random() / 5, rng.uniform(0, 40), -1.0
    times, values = [], []
    for number in range(-5, 460):
        t = number / 5 + phase
        watts = active_w if 30 <= t < 60 else IDLE_W
        shown = gain * watts + offset_w + rng.gauss(0, fault.noise_w)
        if fault.wrap_j is not None:
            joules += gain * _between(before, t, active_w)
            before = t
            shown = joules % fault.wrap_j
        if rng.random() < fault.lost:
            continue
        times.append(round((t + rng.gauss(0, fault.jitter_s)) * S))
        step = fault.quantum
        values.append(round(shown / step) * step if step else shown)
    quantity, unit = ("power", "W") if fault.wrap_j is None else ("energy", "J")
    return Series(sorted(times), values, quantity, unit, meter)


def _between(start: float, end: float, active_w: float) -> float:
    busy = max(0.0, min(end, 60.0) - max(start, 30.0))
    return busy * active_w + (end - start - busy) * IDLE_W


def hits(kind: str) -> tuple[int, int]:
    """How often the whole and the dynamic energy's truth lay inside."""
    rng, total, dynamic = random.Random(kind), 0, 0
    for _ in range(TRIALS):
        active_w = rng.uniform(3.0, 6.0)
        readings = recorded(FAULTS[kind], active_w, rng)
        found = estimate_energy({"meter.total": readings}, IDLE, ACTIVE, INFERENCES)
        assert isinstance(found, EnergyEstimate), found
        one, seconds = found.energy, ACTIVE.seconds
        true_j, true_dynamic_j = active_w * seconds, (active_w - IDLE_W) * seconds
        total += abs(one.total_j - true_j / INFERENCES) <= 2 * one.total_u_j
        dynamic += abs(one.dynamic_j - true_dynamic_j / INFERENCES) <= 2 * one.dynamic_u_j
    return total, dynamic


def test_the_truth_lies_within_two_uncertainties_as_often_as_said() -> None:
    found = {kind: hits(kind) for kind in FAULTS}
    assert len(FAULTS) * TRIALS == 1000
    for inside in zip(*found.values(), strict=True):
        assert sum(inside) >= LEAST, found
        assert min(inside) >= LEAST_OF_A_KIND, found
