"""A phone's gauge: its current as it stands, and joules of a run once sign and unit are known."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from assay.agent.devices.state import DeviceState
from assay.agent.measuring import measure as measuring
from assay.agent.measuring.cpus import CpuPlan
from assay.agent.measuring.measure import Measured, RunPaths
from assay.agent.measuring.observe import Observed, Setting
from assay.agent.measuring.settle import Settled
from assay.agent.power.calibration import GaugeCalibration, gauge_watts
from assay.agent.power.calibration_store import BoardCalibration, apply, store
from assay.agent.samplers.battery import Battery, find_gauge
from assay.agent.samplers.recording import Series
from assay.core.model import PROFILES, Absent, Energy, Isolation, PowerTier, SamplerFacts
from tests.boards import composed, copy_of, write
from tests.tinymodels import run_of
from tests.unit.test_energy import IDLE, sampled, step
from tests.unit.test_run_energy import COUNTED, DEVICE

FOLDER = "sys/class/power_supply/battery"
GAUGE = GaugeCalibration(1, 1e-6)
PHONE = replace(
    DEVICE, board="Phone", device_class="android", samplers=(SamplerFacts("battery", "V"),)
)


def told(found: Battery | Absent) -> dict[str, float]:
    assert isinstance(found, Battery)
    return {reading.channel.name: reading.value for reading in found.read()}


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_the_current_counts_only_while_it_discharges(status: str, tmp_path: Path) -> None:
    root = copy_of("phone_reversed_sign", tmp_path)
    found = Battery.probe(root)
    assert told(found)["current"] == 326_171
    (root / FOLDER / "status").write_text(f"{status}\n")
    assert "current" not in told(found)
    (root / FOLDER / "status").write_text("Discharging\n")
    (root / FOLDER / "current_now").write_text("-22\n")
    assert "current" not in told(found)


def test_the_other_gauge_of_a_phone_gives_way(tmp_path: Path) -> None:
    # On one Pixel 5 bms and battery differ in sign or by 7 %.
    for name in ("bms", "max17050_battery"):
        write(tmp_path / "sys/class/power_supply" / name, {"type": "", "voltage_now": 4_000_000})
    gauge = find_gauge(tmp_path)
    assert gauge is not None and gauge.folder.name == "max17050_battery"


def test_it_is_no_power_before_it_is_calibrated() -> None:
    found = Battery.probe(composed("phone_milliamp"))
    assert isinstance(found, Battery)
    assert {channel.name for channel in found.channels} >= {"current", "volts"}
    assert all(channel.meter is None for channel in found.channels)


@pytest.mark.parametrize(
    ("current", "gauge"), [(326_171, GAUGE), (-412, GaugeCalibration(-1, 1e-3))]
)
def test_a_calibrated_gauge_gives_watts_out_of_the_battery(
    current: int, gauge: GaugeCalibration
) -> None:
    volts = Series([1, 2, 3], [3.9, 3.9, 4.0], "voltage", "V")
    found = gauge_watts(Series([1, 3], [current, current]), volts, gauge)
    assert isinstance(found, Series) and list(found.t_ns) == [1, 3]
    amperes = abs(current) * gauge.unit_a
    assert found.value == pytest.approx([amperes * 3.9, amperes * 4.0])
    assert found.meter is not None and found.meter.tier is PowerTier.BATTERY_GAUGE
    assert found.meter.gain_u is None and found.meter.total


@pytest.mark.parametrize(
    ("current", "gauge"),
    [
        (326_171, GaugeCalibration(-1, 1e-6)),
        (412, GAUGE),
        (326_171, GaugeCalibration(1, 1e-3)),
    ],
)
def test_anothers_calibration_gives_no_watts(current: int, gauge: GaugeCalibration) -> None:
    volts = Series([1], [3.9], "voltage", "V")
    found = gauge_watts(Series([1], [current]), volts, gauge)
    assert isinstance(found, Absent) and "calibrate it again" in found.reason


def test_a_phone_that_was_charged_all_along_says_so() -> None:
    volts = Series([1, 2], [3.9, 3.9], "voltage", "V")
    kept = BoardCalibration("phone", gauge=GAUGE)
    series, why = apply({"battery.volts": volts}, kept)
    assert "battery.watts" not in series and "not discharging" in why["battery.watts"]
    # Elsewhere it says nothing.
    assert apply({}, kept) == ({}, {})


def run_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, amperes: Series, *, calibrated: bool
) -> tuple[Measured, bool]:
    """A run of a phone whose gauge read ``amperes`` at 4 V, and whether it waited for energy."""
    file = folder / "file"
    file.write_bytes(b"x")
    current = [round(one * 1e6) for one in amperes.value]
    series = {
        "battery.current": Series(amperes.t_ns, current, "battery_current", "1"),
        "battery.volts": Series(amperes.t_ns, [4.0] * len(current), "voltage", "V"),
    }
    wanted: list[bool] = []

    def watched(setting: Setting, *_: object) -> Observed:
        wanted.append(setting.wants_energy)
        still = DeviceState(0, governors=("performance",))
        settled = Settled(0, 40.0, timed_out=False)
        return Observed(COUNTED, still, still, settled, series, IDLE, absent={}, troubles={})

    monkeypatch.setattr(measuring, "observe", watched)
    if calibrated:
        store(folder / "home", BoardCalibration(PHONE.board, gauge=GAUGE))
    found = measuring.measure(
        replace(run_of(file, file), profile=PROFILES["standard"]),
        RunPaths(file, file),
        PHONE,
        "here",
        CpuPlan((1,), (0,), Isolation.PINNED),
        folder,
        folder,
        lambda _: None,
        threading.Event(),
        calibration_dir=folder / "home",
    )
    return found, wanted[0]


def test_a_run_on_a_calibrated_phone_has_joules_from_its_battery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    amperes = sampled(step(0.25, 0.5), hz=2)
    found, wanted = run_on(tmp_path, monkeypatch, amperes, calibrated=True)
    assert wanted and isinstance(found.energy, Energy), found.energy
    assert (found.energy.source, found.energy.tier) == ("battery.watts", PowerTier.BATTERY_GAUGE)
    assert (found.energy.idle_w, found.energy.active_w) == pytest.approx((1.0, 2.0), rel=0.05)
    assert found.conditions is not None
    assert found.conditions.notes["power_calibration"] == "battery.watts: sign +1, unit 1e-06 A"
    assert "power_uncalibrated" in {reason.code for reason in found.verdict.reasons}


def test_without_a_calibration_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    amperes = sampled(step(0.25, 0.5), hz=2)
    found, wanted = run_on(tmp_path, monkeypatch, amperes, calibrated=False)
    assert not wanted and isinstance(found.energy, Absent)
    assert "not calibrated for this phone" in found.energy.reason


def test_a_gauge_that_updates_too_seldom_is_inconclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    amperes = sampled(lambda t: 0.25 + 0.25 * (30 <= t < 60) + 0.01 * (t // 5 % 2), hz=2, noise_w=0)
    found, _ = run_on(tmp_path, monkeypatch, amperes, calibrated=True)
    assert isinstance(found.energy, Energy) and found.energy.inconclusive
    assert any("20 are needed" in reason.detail for reason in found.verdict.reasons)
