"""Raspberry Pi sensors and the ways a first guess at them goes wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from assay.agent import sysroot
from assay.agent.devices.state import read_state
from assay.agent.devices.temperature import board_temperature_c
from assay.agent.devices.throttling import parse_throttled, throttled_now, throttled_since_boot
from assay.agent.examine import examine
from assay.agent.recording.collect import collect
from assay.agent.samplers import Sampler
from assay.agent.samplers.cpufreq import Cpufreq
from assay.agent.samplers.rpi_clock import RpiClock, parse_clock
from assay.agent.samplers.rpi_pmic import RpiPmic, input_voltage_problem, parse_pmic
from assay.agent.samplers.rpi_throttle import RpiThrottle, RpiVolt
from assay.core.errors import SamplerError
from assay.core.model import Absent
from tests.boards import composed, copy_of, write

PMIC = "commands/vcgencmd-pmic_read_adc.txt"


def test_throttle_bits_tell_now_from_since_boot() -> None:
    bits = parse_throttled("throttled=0x50005\n")
    assert throttled_now(bits) == ("under_voltage", "throttled")
    assert throttled_since_boot(bits) == ("under_voltage", "throttled")
    assert throttled_now(parse_throttled("throttled=0x50000")) == ()


def test_soft_temperature_limit_of_a_3bplus_is_seen() -> None:
    found = RpiThrottle.probe(composed("rpi3bplus"))
    assert isinstance(found, RpiThrottle)
    (reading,) = found.read()
    assert throttled_now(int(reading.value)) == ("soft_temperature_limit",)


@pytest.mark.parametrize(
    "text",
    ["", "error=1 error_msg=\"Command not registered\"", "throttled=", "throttled=0x5000g",
     "VCHI initialization failed"],
)  # fmt: skip
def test_a_strange_answer_about_throttling_is_no_reading(text: str) -> None:
    with pytest.raises(SamplerError, match="get_throttled"):
        parse_throttled(text)


def test_the_kernels_live_under_voltage_alarm_is_found_by_chip_name(tmp_path: Path) -> None:
    root = copy_of("rpi4", tmp_path)
    (root / "sys/class/hwmon/hwmon1/in0_lcrit_alarm").write_text("1\n")
    # Other chips have such an alarm too, and may come first.
    write(root / "sys/class/hwmon/hwmon0", {"name": "ina226", "in0_lcrit_alarm": 0})
    found = RpiVolt.probe(root)
    assert isinstance(found, RpiVolt)
    assert found.read()[0].value == 1


@pytest.mark.parametrize(
    ("text", "hz"),
    [
        ("frequency(45)=700000000\n", 700_000_000),
        ("frequency(48)=1500345728\n", 1_500_345_728),
        ("frequency(0)=2400033792\n", 2_400_033_792),
    ],
)
def test_the_firmwares_clock_comes_under_any_index(text: str, hz: int) -> None:
    assert parse_clock(text) == hz


@pytest.mark.parametrize("text", ["frequency(48)=0", "", "frequency(48)=fast"])
def test_a_clock_of_zero_is_no_reading(text: str) -> None:
    with pytest.raises(SamplerError):
        parse_clock(text)


def test_pmic_has_twelve_rails_and_two_bare_voltages() -> None:
    found = parse_pmic((composed("rpi5") / PMIC).read_text())
    assert len(found.amperes) == 12
    assert set(found.volts) - set(found.amperes) == {"EXT5V", "BATT"}
    assert sum(found.watts.values()) == pytest.approx(2.1015, abs=1e-4)


def test_pmic_sum_leaves_the_input_voltage_out_and_names_itself() -> None:
    pmic = RpiPmic.probe(composed("rpi5"))
    assert isinstance(pmic, RpiPmic)
    total, ext5v, *rails = pmic.read()
    assert total.channel.name == "pmic_rail_sum_w"
    assert total.channel.meter is not None and total.channel.meter.scope == "rail_sum"
    assert total.channel.meter.gain_u is None
    assert total.value == pytest.approx(sum(rail.value for rail in rails))
    assert ext5v.value == pytest.approx(5.13872)
    # By this the guard knows it from any other rail's volts.
    assert ext5v.channel.quantity == "input_voltage"


def test_pmic_rails_are_paired_by_name_whatever_the_order() -> None:
    lines = (composed("rpi5") / PMIC).read_text().splitlines()
    straight, reversed_ = parse_pmic("\n".join(lines)), parse_pmic("\n".join(reversed(lines)))
    assert straight.watts == reversed_.watts


def test_early_firmware_names_a_rail_otherwise() -> None:
    text = (composed("rpi5") / PMIC).read_text().replace("0V8_SW_", "0V8_SYS_")
    assert "0V8_SYS" in parse_pmic(text).watts


def test_an_idle_rail_of_exactly_zero_ampere_counts() -> None:
    assert parse_pmic((composed("rpi5") / PMIC).read_text()).watts["DDR_VDDQ"] == 0


def test_half_a_pmic_answer_is_no_smaller_sum(tmp_path: Path) -> None:
    root = copy_of("rpi5", tmp_path)
    pmic = RpiPmic.probe(root)
    assert isinstance(pmic, RpiPmic)
    lines = (root / PMIC).read_text().splitlines(keepends=True)
    without = [line for line in lines if "VDD_CORE" not in line]
    (root / PMIC).write_text("".join(without))
    with pytest.raises(SamplerError, match="VDD_CORE"):
        pmic.read()
    (root / PMIC).write_text("".join(lines[:15]))
    with pytest.raises(SamplerError):
        pmic.read()


def test_a_first_answer_that_is_not_whole_starts_no_smaller_sum(tmp_path: Path) -> None:
    root = copy_of("rpi5", tmp_path)
    lines = (root / PMIC).read_text().splitlines(keepends=True)
    (root / PMIC).write_text("".join(line for line in lines if "VDD_CORE" not in line))
    found = RpiPmic.probe(root)
    assert isinstance(found, Absent) and "11 rails, a whole answer has 12" in found.reason


def test_a_rail_that_reads_backwards_is_no_smaller_sum() -> None:
    text = (composed("rpi5") / PMIC).read_text()
    with pytest.raises(SamplerError, match=r"flows back in VDD_CORE \(-0.885 A\)"):
        parse_pmic(text.replace("current(7)=0.8", "current(7)=-0.8"))
    noise = parse_pmic(text.replace("current(4)=0.00000000", "current(4)=-0.00050000"))
    assert noise.watts["DDR_VDDQ"] == pytest.approx(-0.0003, abs=1e-4)


def test_a_pi_4_answers_with_status_0_that_it_has_no_pmic() -> None:
    found = RpiPmic.probe(composed("rpi4"))
    assert isinstance(found, Absent)
    assert "Command not registered" in found.reason


@pytest.mark.parametrize(
    ("volts", "fails"), [(5.14, None), (4.8, None), (4.79, False), (4.7, False), (4.69, True)]
)
def test_a_sagging_input_warns_and_then_fails(volts: float, fails: bool | None) -> None:
    problem = input_voltage_problem(volts)
    assert (problem[1] if problem else None) is fails


def test_the_kernels_clock_is_never_taken_for_the_firmwares(tmp_path: Path) -> None:
    # Seen: the kernel said 600 MHz while the firmware ran 700.
    root = copy_of("rpi4", tmp_path)
    write(root / "sys/devices/system/cpu/cpufreq/policy0", {"scaling_cur_freq": 600000})
    (root / "commands/vcgencmd-measure_clock-arm.txt").write_text("frequency(48)=700000000\n")
    told = {
        f"{kind.name}.{reading.channel.name}": (reading.value, reading.channel.quantity)
        for kind in (RpiClock, Cpufreq)
        for reading in opened(kind, root).read()
    }
    assert told == {
        "rpi_clock.arm": (700_000_000, "firmware_clock"),
        "cpufreq.cpu0": (600_000_000, "cpu_clock"),
    }


def opened(kind: type[Sampler], root: Path) -> Sampler:
    found = kind.probe(root)
    assert not isinstance(found, Absent), found
    return found


def test_what_warns_or_lies_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sysfs node of get_throttled makes some kernels log a warning for each read, and
    ``measure_temp pmic`` answers with the processor's temperature before the Pi 4."""
    root = copy_of("rpi3bplus", tmp_path)
    node = "sys/devices/platform/soc/soc:firmware/get_throttled"
    write(root, {node: "0", "commands/vcgencmd-measure_temp-pmic.txt": "temp=48.3'C"})
    for linked in ("sys/class/hwmon/hwmon1/device/get_throttled", "sys/class/hwmon/get_throttled"):
        write(root, {linked: "0"})
    read: list[str] = []
    real = os.open

    def watched(path: str | Path, *rest: int) -> int:
        read.append(str(path))
        return real(path, *rest)

    asked: list[tuple[str, ...]] = []
    answer = sysroot._recorded

    def heard(root: Path, argv: tuple[str, ...]) -> str:
        asked.append(argv)
        return answer(root, argv)

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setattr(sysroot, "_recorded", heard)
    examine(root, ())
    read_state(root)
    collect(root)
    assert any("scaling_cur_freq" in path for path in read)
    assert not [path for path in read if path.endswith("/get_throttled")]
    assert ("vcgencmd", "get_throttled") in asked
    assert not [argv for argv in asked if "measure_temp" in argv]


def test_the_io_chips_temperature_is_not_the_cpus() -> None:
    # rp1_adc of a Pi 5 reads 66.4 C while the processor is at 48.5.
    assert board_temperature_c(composed("rpi5")) == pytest.approx(48.5)


def test_without_a_thermal_zone_the_processors_chip_is_taken_and_not_the_hotter_one(
    tmp_path: Path,
) -> None:
    root = copy_of("rpi5", tmp_path)
    shutil.rmtree(root / "sys/class/thermal")
    assert board_temperature_c(root) == pytest.approx(48.5, abs=0.5)
