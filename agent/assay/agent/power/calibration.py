"""From a sensor's numbers to watts that may be compared between boards; pure.

Two cases need it: a sum of rails that stands in for input power (Raspberry Pi 5, published fits of
which disagree) and a phone's gauge, whose sign and unit differ from model to model. What is
ambiguous gives :class:`Absent`, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from assay.agent.samplers.base import Meter
from assay.agent.samplers.recording import Series
from assay.core.model import Absent, PowerTier

MIN_POINTS = 6
MIN_GAUGE_UPDATES = 20
PHONE_W = (0.2, 15.0)
"""What a phone in use can draw; microamperes and milliamperes cannot both fall into it."""

_MIN_SPREAD = 1.5
_SAME_SIGN = 0.95
_UNITS_A = (1e-6, 1e-3)


@dataclass(frozen=True, slots=True)
class LinearCalibration:
    """``input_w = gain * reading_w + offset_w``, fitted between ``low_w`` and ``high_w``.

    ``gain_u`` is the relative standard uncertainty of the gain, ``residual_w`` the standard
    deviation of what the line leaves over.
    """

    gain: float
    offset_w: float
    gain_u: float
    residual_w: float
    low_w: float
    high_w: float
    points: int


@dataclass(frozen=True, slots=True)
class GaugeReading:
    """A battery's files at one moment: ``current_now`` and ``voltage_now`` (µV) as they stand."""

    current: int
    voltage_uv: int
    status: str


@dataclass(frozen=True, slots=True)
class GaugeCalibration:
    """Amperes out of the battery are ``sign * unit_a * current_now``."""

    sign: int
    unit_a: float

    def watts(self, current: int, voltage_uv: int) -> float:
        """Power out of the battery; negative while it is charged."""
        return self.sign * self.unit_a * current * voltage_uv / 1e6


def calibrate_line(
    reading_w: Sequence[float], reference_w: Sequence[float], reference_gain_u: float = 0.0
) -> LinearCalibration | Absent:
    """Least squares of a reference meter over the board's own reading, one point per load.

    Needs six loads or more whose readings span at least a factor of 1.5; a falling line is no
    calibration. ``reference_gain_u`` is the meter's own and is added to the fit's.
    """
    n = len(reading_w)
    if n != len(reference_w):
        raise ValueError(f"{n} readings and {len(reference_w)} references")
    if n < MIN_POINTS:
        return Absent(f"{n} load points, at least {MIN_POINTS} are needed")
    low, high = min(reading_w), max(reading_w)
    if low <= 0 or high < _MIN_SPREAD * low:
        return Absent(f"readings from {low:.2f} to {high:.2f} W do not span a factor of 1.5")
    mean_x, mean_y = math.fsum(reading_w) / n, math.fsum(reference_w) / n
    spread = math.fsum((x - mean_x) ** 2 for x in reading_w)
    pairs = list(zip(reading_w, reference_w, strict=True))
    gain = math.fsum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread
    offset_w = mean_y - gain * mean_x
    if gain <= 0:
        return Absent(f"the reference falls as the reading rises (slope {gain:.3f})")
    left = math.fsum((y - gain * x - offset_w) ** 2 for x, y in pairs)
    residual_w = math.sqrt(left / (n - 2))
    gain_u = math.hypot(residual_w / math.sqrt(spread) / gain, reference_gain_u)
    return LinearCalibration(gain, offset_w, gain_u, residual_w, low, high, n)


def calibrated(readings: Series, calibration: LinearCalibration, scope: str) -> Series | Absent:
    """``readings`` as watts of ``scope``; Absent where they leave the range it was fitted for by
    more than a tenth, since a line is a promise only between its points."""
    if readings.meter is None or readings.quantity != "power":
        return Absent("only power readings can be calibrated")
    low, high = min(readings.value, default=0.0), max(readings.value, default=0.0)
    if readings.value and (low < 0.9 * calibration.low_w or high > 1.1 * calibration.high_w):
        fitted = f"{calibration.low_w:.2f} to {calibration.high_w:.2f} W"
        return Absent(f"readings from {low:.2f} to {high:.2f} W, calibrated for {fitted}")
    meter = replace(
        readings.meter,
        scope=scope,
        total=True,
        quantum=readings.meter.quantum * calibration.gain,
        gain_u=calibration.gain_u,
        offset_u=calibration.residual_w,
    )
    watts = [calibration.gain * value + calibration.offset_w for value in readings.value]
    return replace(readings, value=watts, meter=meter)


def gauge_watts(current: Series, volts: Series, calibration: GaugeCalibration) -> Series | Absent:
    """Power out of the battery at each reading of both; Absent where that is nothing a phone in use
    can draw, since then the calibration is not this gauge's."""
    at = dict(zip(volts.t_ns, volts.value, strict=True))
    pairs = [(t, i, at[t]) for t, i in zip(current.t_ns, current.value, strict=True) if t in at]
    watts = [calibration.watts(round(i), round(v * 1e6)) for _, i, v in pairs]
    if not watts:
        return Absent("the battery was not discharging")
    middle = sorted(watts)[len(watts) // 2]
    if not PHONE_W[0] <= middle <= PHONE_W[1]:
        return Absent(f"{middle:.3g} W by the gauge's calibration cannot be: calibrate it again")
    quantum = calibration.unit_a * max(v for _, _, v in pairs)
    meter = Meter(PowerTier.BATTERY_GAUGE, "battery", total=True, quantum=quantum)
    return Series([t for t, _, _ in pairs], watts, "power", "W", meter)


def calibrate_gauge(readings: Sequence[GaugeReading]) -> GaugeCalibration | Absent:
    """Sign and unit of a phone's gauge from an interval in which it is known to discharge.

    Only a clear discharge tells: at Full or Not charging a gauge shows a leakage of some 976 µA,
    which as mA would look like a plausible load.
    """
    others = sorted({r.status for r in readings if r.status != "Discharging"})
    if others:
        return Absent(f"the battery was {', '.join(others)}: unplug it and keep the phone busy")
    updates = 1 + sum(a.current != b.current for a, b in pairwise(readings))
    if not readings or updates < MIN_GAUGE_UPDATES:
        seen = updates if readings else 0
        return Absent(f"{seen} updates of the gauge, at least {MIN_GAUGE_UPDATES} are needed")
    outward = sum(r.current > 0 for r in readings) / len(readings)
    if min(outward, 1 - outward) > 1 - _SAME_SIGN:
        return Absent(f"the sign of the current changes ({outward:.0%} positive)")
    sign = 1 if outward > 0.5 else -1
    middle = sorted(readings, key=lambda r: abs(r.current))[len(readings) // 2]
    for unit_a in _UNITS_A:
        watts = abs(middle.current) * unit_a * middle.voltage_uv / 1e6
        if PHONE_W[0] <= watts <= PHONE_W[1]:
            return GaugeCalibration(sign, unit_a)
    return Absent(
        f"{middle.current} at {middle.voltage_uv} µV is a plausible load neither in µA nor in mA"
    )
