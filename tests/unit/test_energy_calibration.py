"""Calibration: a line through loads, and the sign and unit of a phone's gauge."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.agent.power.calibration import (
    GaugeCalibration,
    GaugeReading,
    LinearCalibration,
    calibrate_gauge,
    calibrate_line,
    calibrated,
)
from assay.agent.samplers.base import Meter
from assay.agent.samplers.recording import Series
from assay.core.model import Absent, PowerTier
from tests.conftest import SHARED_DATA, need

LOADS = [2.0, 2.9, 4.1, 5.2, 6.4, 7.9, 8.8]
SUM = Meter(PowerTier.BOARD_SENSOR, "rail_sum", total=True, quantum=0.01)


def discharge(current: int, count: int = 60, voltage_uv: int = 3_900_000) -> list[GaugeReading]:
    rng = random.Random(3)
    return [
        GaugeReading(round(current * rng.uniform(0.9, 1.1)), voltage_uv, "Discharging")
        for _ in range(count)
    ]


@settings(deadline=None)
@given(st.floats(0.5, 2.0), st.floats(-1, 3))
def test_an_exact_line_is_found(gain: float, offset_w: float) -> None:
    found = calibrate_line(LOADS, [gain * x + offset_w for x in LOADS])
    assert isinstance(found, LinearCalibration)
    assert found.gain == pytest.approx(gain) and found.offset_w == pytest.approx(offset_w, abs=1e-9)
    assert found.residual_w == pytest.approx(0, abs=1e-6)
    assert (found.low_w, found.high_w, found.points) == (2.0, 8.8, 7)


def test_scatter_is_reported_and_covers_the_error() -> None:
    rng = random.Random(5)
    inside = 0
    for _ in range(200):
        truth = [1.12 * x + 0.55 + rng.gauss(0, 0.05) for x in LOADS]
        found = calibrate_line(LOADS, truth)
        assert isinstance(found, LinearCalibration)
        inside += abs(found.gain - 1.12) / 1.12 <= 2 * found.gain_u
    assert inside >= 170


def test_the_reference_meters_own_gain_is_added() -> None:
    found = calibrate_line(LOADS, LOADS, reference_gain_u=0.01)
    assert isinstance(found, LinearCalibration) and found.gain_u == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("reading", "reference", "told"),
    [
        (LOADS[:5], LOADS[:5], "5 load points"),
        ([5.0, 5.1, 5.2, 5.3, 5.4, 5.5], LOADS[:6], "factor of 1.5"),
        (LOADS, LOADS[::-1], "falls"),
        ([0.0, *LOADS], [0.0, *LOADS], "factor of 1.5"),
    ],
)
def test_too_few_too_narrow_or_falling_is_no_calibration(
    reading: list[float], reference: list[float], told: str
) -> None:
    found = calibrate_line(reading, reference)
    assert isinstance(found, Absent) and told in found.reason


def test_unpaired_points_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="7 readings and 6 references"):
        calibrate_line(LOADS, LOADS[:6])


def test_calibrated_readings_carry_their_uncertainty() -> None:
    line = LinearCalibration(1.1, 0.5, 0.02, 0.05, 2.0, 8.0, 7)
    found = calibrated(Series([0, 1], [3.0, 4.0], "power", "W", SUM), line, "board_input")
    assert isinstance(found, Series)
    assert found.value == pytest.approx([3.8, 4.9])
    assert found.meter is not None
    assert (found.meter.scope, found.meter.gain_u, found.meter.offset_u) == (
        "board_input",
        0.02,
        0.05,
    )
    assert found.meter.quantum == pytest.approx(0.011)


def test_a_line_is_a_promise_only_between_its_points() -> None:
    line = LinearCalibration(1.1, 0.5, 0.02, 0.05, 2.0, 8.0, 7)
    found = calibrated(Series([0, 1], [3.0, 9.5], "power", "W", SUM), line, "board_input")
    assert isinstance(found, Absent) and "calibrated for 2.00 to 8.00 W" in found.reason
    assert isinstance(calibrated(Series([0], [3.0], "power", "W"), line, "x"), Absent)


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (-326_171, GaugeCalibration(-1, 1e-6)),  # by the kernel's word
        (326_171, GaugeCalibration(1, 1e-6)),  # reversed: Mi 6, Mi 8
        (-412, GaugeCalibration(-1, 1e-3)),  # milliamperes
        (412, GaugeCalibration(1, 1e-3)),
    ],
)
def test_sign_and_unit_follow_from_a_clear_discharge(
    current: int, expected: GaugeCalibration
) -> None:
    found = calibrate_gauge(discharge(current))
    assert found == expected
    assert isinstance(found, GaugeCalibration) and 0.2 <= found.watts(current, 3_900_000) <= 15


@pytest.mark.parametrize("status", ["Full", "Not charging", "Charging"])
def test_the_leakage_of_a_full_battery_is_not_taken_for_milliamperes(status: str) -> None:
    # 976 µA; as mA it would be a plausible 3.7 W.
    readings = [GaugeReading(976 + i % 3, 3_815_175, status) for i in range(60)]
    found = calibrate_gauge(readings)
    assert isinstance(found, Absent) and status in found.reason


def test_a_leakage_that_calls_itself_a_discharge_is_no_load_in_microamperes() -> None:
    found = calibrate_gauge(discharge(30))
    assert isinstance(found, Absent) and "neither" in found.reason


def test_a_gauge_that_hardly_updates_or_changes_sign_is_refused() -> None:
    few = calibrate_gauge([GaugeReading(-300_000, 3_900_000, "Discharging")] * 100)
    assert isinstance(few, Absent) and "1 updates" in few.reason
    mixed = [*discharge(-300_000, 30), *discharge(300_000, 30)]
    found = calibrate_gauge(mixed)
    assert isinstance(found, Absent) and "sign" in found.reason
    assert isinstance(calibrate_gauge([]), Absent)


@pytest.mark.parametrize("board", ["phone-pixel3a", "phone-xiaomi-mi8"])
def test_two_real_phones_on_a_cable_are_not_calibrated_from(board: str) -> None:
    need(path=SHARED_DATA / "boards")
    (folder,) = (SHARED_DATA / "boards" / board).glob("*/sys/class/power_supply/battery")
    current, voltage = (int((folder / name).read_text()) for name in ("current_now", "voltage_now"))
    status = (folder / "status").read_text().strip()
    readings = [GaugeReading(current + i, voltage, status) for i in range(60)]
    found = calibrate_gauge(readings)
    assert isinstance(found, Absent) and status in found.reason
