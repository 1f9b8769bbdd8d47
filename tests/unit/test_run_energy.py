"""The energy of a whole run: the meter's calibration, and every doubt reaches the verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from assay.agent.devices.state import DeviceState
from assay.agent.measuring import measure as measuring
from assay.agent.measuring.cpus import CpuPlan
from assay.agent.measuring.measure import Measured, RunPaths
from assay.agent.measuring.observe import Observed
from assay.agent.measuring.settle import Settled
from assay.agent.power.calibration import LinearCalibration
from assay.agent.power.calibration_store import FILE, BoardCalibration, store
from assay.agent.power.energy import Window
from assay.agent.samplers.base import Meter
from assay.agent.samplers.recording import Series
from assay.core.comparing.meters import meter_differences, meter_of
from assay.core.model import (
    PROFILES,
    Absent,
    CpuFacts,
    DeviceFacts,
    Energy,
    GoldenCheck,
    Isolation,
    Mode,
    PowerTier,
    SamplerFacts,
    Scenario,
)
from tests.tinymodels import run_of
from tests.unit.test_energy import ACTIVE, IDLE, METER, sampled, step
from tests.unit.test_guard import REPORT

BOARD = "Raspberry Pi 5 Model B"
KEY = "rpi_pmic.rail_sum"
RAIL_SUM = Meter(PowerTier.BOARD_SENSOR, "rail_sum", total=True)
FIT = LinearCalibration(1.12, 0.4, 0.01, 0.02, 1.0, 9.0, 8)
DEVICE = DeviceFacts(
    board=BOARD,
    device_class="rpi5",
    cpu=CpuFacts("cpu", "aarch64"),
    memory_total_bytes=1 << 30,
    os="linux",
    kernel="6",
    governor="performance",
    power_mode=None,
    boot_id="b",
    agent_version="0",
    python_version="3",
    samplers=(SamplerFacts("rpi_pmic", "W"),),
)
COUNTED = replace(
    REPORT,
    latency=replace(REPORT.latency, n=100),  # type: ignore[type-var]
    golden=GoldenCheck(1, 0.0, within_tolerance=True),
    timed_start_ns=ACTIVE.start_ns,
    timed_end_ns=ACTIVE.end_ns,
)


@pytest.fixture
def run_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Measured]:
    """A run of which the sampler has recorded the given readings; all else is well."""
    file = tmp_path / "file"
    file.write_bytes(b"x")

    def run(
        readings: Series,
        scenario: Scenario | None = None,
        idle: tuple[Window, ...] = IDLE,
        calibration_dir: Path | None = None,
        device: DeviceFacts = DEVICE,
        absent: Mapping[str, str] | None = None,
        troubles: Mapping[str, str] | None = None,
        loss: str = "",
    ) -> Measured:
        still = DeviceState(0, governors=("performance",))
        seen = Observed(
            COUNTED,
            still,
            still,
            Settled(0, 40.0, timed_out=False),
            {KEY: readings} if readings.t_ns else {},
            idle,
            loss,
            absent=absent or {},
            troubles=troubles or {},
        )
        monkeypatch.setattr(measuring, "observe", lambda *_: seen)
        spec = run_of(file, file, scenario=scenario or Scenario())
        return measuring.measure(
            replace(spec, profile=PROFILES["standard"]),
            RunPaths(file, file),
            device,
            "here",
            CpuPlan((1,), (0,), Isolation.PINNED),
            tmp_path,
            tmp_path,
            lambda _: None,
            threading.Event(),
            calibration_dir=calibration_dir,
        )

    return run


def energy_of(found: Measured) -> Energy:
    assert isinstance(found.energy, Energy), found.energy
    return found.energy


def codes(found: Measured) -> list[str]:
    assert not any(one.hard for one in found.verdict.reasons)
    return [one.code for one in found.verdict.reasons]


def notes(found: Measured) -> dict[str, str]:
    assert found.conditions is not None
    return dict(found.conditions.notes)


def test_a_kept_calibration_is_applied_and_told(
    tmp_path: Path, run_with: Callable[..., Measured]
) -> None:
    store(tmp_path / "home", BoardCalibration(BOARD, "board_input", {KEY: FIT}))
    readings = sampled(step(), meter=RAIL_SUM)
    found = run_with(readings, calibration_dir=tmp_path / "home")
    energy = energy_of(found)
    assert energy.active_w == pytest.approx(1.12 * 5 + 0.4, abs=0.05)
    assert energy.idle_w == pytest.approx(1.12 * 2 + 0.4, abs=0.05)
    assert energy.total_j == pytest.approx(6.0 * 30 / 100, abs=0.02)
    assert (energy.tier, energy.source, energy.scope) == (
        PowerTier.BOARD_SENSOR,
        KEY,
        "board_input",
    )
    assert energy.total_u_j >= 0.01 * energy.total_j
    assert notes(found)["power_calibration"].startswith(f"{KEY}: 1.1200 x reading +0.400 W")
    assert notes(found)["power_meter"].startswith("gain ± 2.0%, zero ± 0.04 W")
    assert codes(found) == []


def test_another_calibration_is_another_meter_though_it_prints_alike(
    tmp_path: Path, run_with: Callable[..., Measured]
) -> None:
    readings = sampled(step(), meter=RAIL_SUM)
    raw = run_with(readings, calibration_dir=tmp_path / "none")
    assert notes(raw)["power_meter"].startswith("gain unknown")
    found = []
    for gain in (1.12, 1.12, 1.12001):
        store(tmp_path / "home", BoardCalibration(BOARD, power={KEY: replace(FIT, gain=gain)}))
        found.append(meter_of(run_with(readings, calibration_dir=tmp_path / "home")))
    once, again, anew = found
    assert meter_differences(once, again) == []
    (named,) = meter_differences(once, anew)
    assert named.startswith(f"power_calibration: {KEY}: 1.1200 x reading")
    assert {n.partition(":")[0] for n in meter_differences(meter_of(raw), once)} == {
        "power_scope",
        "power_calibration",
    }


def test_without_one_the_reading_is_raw_and_says_so(
    tmp_path: Path, run_with: Callable[..., Measured]
) -> None:
    found = run_with(sampled(step(), meter=RAIL_SUM), calibration_dir=tmp_path / "none")
    assert energy_of(found).active_w == pytest.approx(5, abs=0.05)
    assert energy_of(found).scope == "rail_sum"
    assert "has not been calibrated" in notes(found)["power_calibration_absent"]
    assert codes(found) == ["power_uncalibrated"]


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda home: (home / FILE).write_text("rubbish"), "cannot be read"),
        (
            lambda home: store(home, BoardCalibration(BOARD, power={KEY: replace(FIT, high_w=3)})),
            "calibrated for 1.00 to 3.00 W",
        ),
    ],
    ids=["broken file", "outside its range"],
)
def test_a_calibration_that_cannot_be_used_is_a_doubt(
    prepare: Callable[[Path], object],
    told: str,
    tmp_path: Path,
    run_with: Callable[..., Measured],
) -> None:
    prepare(tmp_path)
    found = run_with(sampled(step()), calibration_dir=tmp_path)
    assert energy_of(found).active_w == pytest.approx(5, abs=0.05)
    (reason,) = found.verdict.reasons
    assert (reason.code, reason.hard) == ("power_uncalibrated", False) and told in reason.detail
    assert told in notes(found)["power_calibration_absent"]


def test_another_boards_calibration_is_left_alone(
    tmp_path: Path, run_with: Callable[..., Measured]
) -> None:
    store(tmp_path, BoardCalibration("Raspberry Pi 4", power={KEY: FIT}))
    found = run_with(sampled(step()), calibration_dir=tmp_path)
    assert energy_of(found).active_w == pytest.approx(5, abs=0.05) and codes(found) == []
    assert "calibrated on Raspberry Pi 4" in notes(found)["power_calibration_absent"]


PACED = Scenario(mode=Mode.PACED, target_qps=2.0)
PROVOKED: dict[str, tuple[Series, Scenario | None, tuple[Window, ...]]] = {
    "energy_inconclusive": (sampled(step(active_w=2.01), noise_w=0.5), None, IDLE),
    "energy_aliased": (sampled(step(), hz=4), PACED, IDLE),
    "baseline_drift": (sampled(lambda t: step()(t) + t / 200), None, IDLE),
    "power_uncalibrated": (sampled(step(), meter=replace(METER, gain_u=None)), None, IDLE),
}


@pytest.mark.parametrize("code", PROVOKED)
def test_a_doubt_about_energy_reaches_the_verdict(
    code: str, run_with: Callable[..., Measured]
) -> None:
    readings, scenario, idle = PROVOKED[code]
    found = run_with(readings, scenario, idle)
    (reason,) = [one for one in found.verdict.reasons if one.code == code]
    assert reason.detail and not reason.hard
    assert set(codes(found)) == {code}


def test_one_idle_side_cannot_show_a_drift(run_with: Callable[..., Measured]) -> None:
    assert codes(run_with(sampled(step()), None, IDLE[:1])) == ["baseline_drift"]


# Sensors that fail: the reason names them, and there is no number.

GONE = sampled(step(), until_s=45.0)
NOTHING = Series([], [], "power", "W")


def test_a_sensor_that_vanishes_on_the_way_is_named_with_its_error(
    run_with: Callable[..., Measured],
) -> None:
    told = "400 of 900 reads failed: hwmon1/in1_input: Input/output error"
    found = run_with(GONE, troubles={"rpi_pmic": told})
    assert isinstance(found.energy, Absent)
    assert "does not cover the measured window" in found.energy.reason
    assert told in found.energy.reason
    assert notes(found)["sensors_failed"] == f"rpi_pmic: {told}"


def test_a_sensor_that_was_there_when_the_agent_started_says_why_it_is_gone(
    run_with: Callable[..., Measured],
) -> None:
    found = run_with(NOTHING, absent={"rpi_pmic": "vcgencmd pmic_read_adc: status 1: silent"})
    assert found.energy == Absent("rpi_pmic: vcgencmd pmic_read_adc: status 1: silent")


def test_a_sampler_process_that_was_lost_is_why_there_is_no_energy(
    run_with: Callable[..., Measured],
) -> None:
    told = "the sampler process was not ready within 10 s"
    assert run_with(NOTHING, loss=told).energy == Absent(told)


def test_current_that_flowed_back_all_along_is_why_there_are_no_watts(
    run_with: Callable[..., Measured],
) -> None:
    device = replace(DEVICE, device_class="rpi4", samplers=(SamplerFacts("ina2xx", "W"),))
    told = "900 readings were left out: -0.040 A flow back into the supply"
    found = run_with(NOTHING, device=device, troubles={"ina2xx": told})
    assert found.energy == Absent(f"ina2xx: {told}")


@pytest.mark.parametrize(
    ("device_class", "name", "why", "told"),
    [
        ("rpi4", "ina2xx", "ina219 runs on the driver's default shunt", "ina2xx: ina219 runs on"),
        ("rpi4", "ina2xx", "no INA219, INA226, INA260 or INA238 driver", "no current sensor"),
        ("rpi4", "um25c", "/dev/rfcomm0: 0 of 130 bytes came", "um25c: /dev/rfcomm0"),
        ("x86_64", "rapl", "energy_uj may be read by root only", "rapl: energy_uj may be read by"),
    ],
)
def test_a_refused_meter_says_so_in_the_result(
    device_class: str, name: str, why: str, told: str, run_with: Callable[..., Measured]
) -> None:
    samplers = (SamplerFacts(name, "W", why),)
    found = run_with(NOTHING, device=replace(DEVICE, device_class=device_class, samplers=samplers))
    assert isinstance(found.energy, Absent) and told in found.energy.reason
