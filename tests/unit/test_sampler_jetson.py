"""Jetson rails in both layouts, counters that move on healthy boards, zones that never answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay.agent.devices.state import read_state
from assay.agent.samplers import Sampler
from assay.agent.samplers.cpufreq import Cpufreq
from assay.agent.samplers.ina2xx import Ina2xx
from assay.agent.samplers.ina3221 import Ina3221, current_step_a
from assay.agent.samplers.jetson import JetsonGpu, JetsonOverCurrent
from assay.agent.samplers.thermal import Thermal
from assay.core.errors import SamplerError
from assay.core.model import Absent
from tests.boards import break_with_eio, composed, copy_of, write

NANO = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
ORIN = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
AGX = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


def watts(root: Path) -> dict[str, float]:
    found = Ina3221.probe(root)
    assert isinstance(found, Ina3221), found
    return values(found)


def values(found: Sampler) -> dict[str, float]:
    return {reading.channel.name: reading.value for reading in found.read()}


def test_jetpack_4_tells_milliwatts() -> None:
    assert watts(composed("jetson_nano")) == pytest.approx(
        {"total": 2.194, "POM_5V_IN": 2.194, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.487}
    )


def test_jetpack_4_folder_may_be_spelt_with_an_underscore(tmp_path: Path) -> None:
    root = copy_of("jetson_nano", tmp_path)
    (root / NANO).rename((root / NANO).with_name("iio_device0"))
    assert watts(root)["total"] == pytest.approx(2.194)


@pytest.mark.parametrize("bus", [0, 1, 6, 7])
def test_the_bus_may_be_any(bus: int, tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    chip = (root / ORIN).parents[1]
    moved = chip.with_name(f"{bus}-0040")
    if moved != chip:
        chip.rename(moved)
    assert watts(root)["total"] == pytest.approx(5.056 * 1.032)


def test_jetpack_6_power_is_volts_times_amperes() -> None:
    assert watts(composed("jetson_orin_nano")) == pytest.approx(
        {
            "total": 5.056 * 1.032,
            "VDD_IN": 5.056 * 1.032,
            "VDD_CPU_GPU_CV": 5.048 * 0.192,
            "VDD_SOC": 5.056 * 0.288,
        }
    )


def test_sums_and_shunt_voltages_are_no_rails(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    # Some trees label the shunt voltages too.
    write(root / ORIN, {"in4_label": "shunt", "in7_label": "sum of shunt voltages"})
    assert "sum_of_shunt_voltages" not in watts(root)
    assert len(watts(root)) == 4


def test_the_input_rail_is_the_total_and_nothing_is_added() -> None:
    for board, rail in (("jetson_nano", "POM_5V_IN"), ("jetson_xavier_nx", "VDD_IN")):
        found = watts(composed(board))
        assert found["total"] == found[rail]


def test_agx_orin_has_no_input_rail_so_its_rails_are_summed() -> None:
    found = watts(composed("jetson_agx_orin"))
    total = found.pop("total")
    assert set(found) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert total == pytest.approx(sum(found.values()))
    sampler = Ina3221.probe(composed("jetson_agx_orin"))
    assert isinstance(sampler, Ina3221)
    meter = sampler.channels[0].meter
    assert meter is not None and meter.total and meter.scope == "rail_sum"


def test_a_sum_with_a_silent_rail_is_not_given(tmp_path: Path) -> None:
    root = copy_of("jetson_agx_orin", tmp_path)
    sampler = Ina3221.probe(root)
    assert isinstance(sampler, Ina3221)
    break_with_eio(root / AGX / "curr2_input")
    found = values(sampler)
    assert "total" not in found and "VDD_CPU_CV" not in found
    assert "VDD_GPU_SOC" in found


def test_a_rail_whose_current_flows_back_makes_no_smaller_sum(tmp_path: Path) -> None:
    root = copy_of("jetson_agx_orin", tmp_path)
    (root / AGX / "curr2_input").write_text("-400\n")
    # It is a rail all the same where the board is looked at.
    sampler = Ina3221.probe(root)
    assert isinstance(sampler, Ina3221)
    assert set(values(sampler)) == {"VDD_GPU_SOC", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert sampler.silence == "VDD_CPU_CV reads -7.994 W: its current flows back"
    (root / AGX / "curr2_input").write_text("20\n")
    assert "total" in values(sampler) and sampler.silence == ""


def test_a_step_below_zero_on_an_idle_rail_is_nothing(tmp_path: Path) -> None:
    root = copy_of("jetson_agx_orin", tmp_path)
    (root / AGX / "curr2_input").write_text("-20\n")
    found = watts(root)
    assert found["VDD_CPU_CV"] == 0
    assert found["total"] == pytest.approx(19.984 * 0.08 + 5.064 * 0.26 + 5.056 * 0.12)


def test_an_input_rail_that_reads_backwards_leaves_no_total(tmp_path: Path) -> None:
    root = copy_of("jetson_nano", tmp_path)
    (root / NANO / "in_power0_input").write_text("-2194\n")
    assert set(watts(root)) == {"POM_5V_GPU", "POM_5V_CPU"}


def test_a_channel_switched_off_answers_eio_and_is_left_out(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    break_with_eio(root / ORIN / "in3_input")
    assert set(watts(root)) == {"total", "VDD_IN", "VDD_CPU_GPU_CV"}


@pytest.mark.parametrize(
    ("board", "folder"), [("jetson_agx_orin", AGX), ("jetson_orin_nano", ORIN)]
)
def test_a_rail_that_is_on_and_dead_from_the_start_is_no_reason_for_a_smaller_total(
    board: str, folder: str, tmp_path: Path
) -> None:
    root = copy_of(board, tmp_path)
    break_with_eio(root / folder / "in1_input")
    write(root / folder, {"in1_enable": 1})
    found = Ina3221.probe(root)
    assert isinstance(found, Ina3221)
    assert "total" not in values(found)
    assert found.silence.endswith("in1_input: Input/output error")
    # Switched off it is no rail, and the board's total is what the others tell.
    write(root / folder, {"in1_enable": 0})
    assert "total" in watts(root)


def test_a_silent_input_rail_leaves_no_total_rather_than_a_sum(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    sampler = Ina3221.probe(root)
    assert isinstance(sampler, Ina3221)
    break_with_eio(root / ORIN / "curr1_input")
    assert set(values(sampler)) == {"VDD_CPU_GPU_CV", "VDD_SOC"}


def test_no_rail_connected_is_absent(tmp_path: Path) -> None:
    root = write(tmp_path, {f"{ORIN}/in{i}_label": "NC" for i in (1, 2, 3)})
    assert isinstance(Ina3221.probe(root), Absent)


def test_the_step_of_the_converter_follows_from_the_shunt() -> None:
    assert current_step_a(composed("jetson_agx_orin") / AGX, 1) == pytest.approx(0.020)
    assert current_step_a(composed("jetson_orin_nano") / ORIN, 1) == pytest.approx(0.008)
    found = Ina3221.probe(composed("jetson_orin_nano"))
    assert isinstance(found, Ina3221)
    meter = found.channels[0].meter
    assert meter is not None and meter.quantum == pytest.approx(0.008 * 5.056)


@pytest.mark.parametrize(("interval_ms", "hz"), [(2, 100.0), (0, 100.0), (3378, 1000 / 3378)])
def test_a_chip_that_averages_512_samples_is_read_at_its_own_pace(
    interval_ms: int, hz: float, tmp_path: Path
) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    write(root / ORIN, {"samples": 512, "update_interval": interval_ms})
    found = Ina3221.probe(root)
    assert isinstance(found, Ina3221) and found.max_hz == pytest.approx(hz)


def test_limits_are_no_readings(tmp_path: Path) -> None:
    # 32.76 A is what an unset limit reads; curr4 is the sum of three.
    root = copy_of("jetson_orin_nano", tmp_path)
    assert (root / ORIN / "curr1_crit").read_text() == "32760\n"
    assert (root / ORIN / "curr4_input").read_text() == "1512\n"
    found = watts(root)
    assert max(found.values()) == found["total"] < 5.3
    assert len(found) == 4


def test_the_clock_the_hardware_tells_is_taken_before_the_kernels_word(tmp_path: Path) -> None:
    root = copy_of("jetson_nano", tmp_path)
    policy = root / "sys/devices/system/cpu/cpufreq/policy0"
    write(policy, {"cpuinfo_cur_freq": 1428000, "scaling_cur_freq": 102000})
    found = Cpufreq.probe(root)
    assert isinstance(found, Cpufreq) and values(found) == {"cpu0": 1_428_000_000}
    assert read_state(root).clocks_hz == {"cpu0": 1_428_000_000}
    # It is root's on most kernels.
    break_with_eio(policy / "cpuinfo_cur_freq")
    found = Cpufreq.probe(root)
    assert isinstance(found, Cpufreq) and values(found) == {"cpu0": 102_000_000}


def test_thors_total_is_its_ina238_not_its_rails() -> None:
    found = Ina2xx.probe(composed("jetson_thor"), {})
    assert isinstance(found, Ina2xx)
    assert values(found)["watts"] == pytest.approx(19.8 * 1.75)
    meter = found.channels[0].meter
    assert meter is not None and meter.total and meter.scope == "module"


def test_over_current_counters_are_counters_not_alarms() -> None:
    found = JetsonOverCurrent.probe(composed("jetson_orin_nano"))
    assert isinstance(found, JetsonOverCurrent)
    assert values(found) == {"oc1": 17, "oc2": 0, "oc3": 3}


@pytest.mark.parametrize(
    ("board", "load"),
    [("jetson_nano", 0.132), ("jetson_orin_nano", 0.63), ("jetson_xavier_nx", 0.0)],
)
def test_gpu_load_is_per_mille_wherever_the_gpu_hangs(board: str, load: float) -> None:
    found = JetsonGpu.probe(composed(board))
    assert isinstance(found, JetsonGpu)
    assert found.read()[0].value == pytest.approx(load)


def test_zones_of_a_unit_that_is_off_are_left_out() -> None:
    found = Thermal.probe(composed("jetson_agx_orin"))
    assert isinstance(found, Thermal)
    assert "CV0-therm" not in values(found)


def test_the_pmics_constant_is_no_temperature() -> None:
    found = Thermal.probe(composed("jetson_nano"))
    assert isinstance(found, Thermal)
    assert "PMIC-Die" not in values(found)
    assert values(found)["CPU-therm"] == pytest.approx(38.5)


def test_a_zone_that_answers_eagain_for_ever_is_an_error_not_a_hang(tmp_path: Path) -> None:
    # A pipe that is held open and empty is how EAGAIN is had without a Tegra.
    root = copy_of("jetson_orin_nano", tmp_path)
    zone = root / "sys/class/thermal/thermal_zone2/temp"
    zone.unlink()
    os.mkfifo(zone)
    held = os.open(zone, os.O_RDWR)
    try:
        found = Thermal.probe(root)
        assert isinstance(found, Thermal)
        assert "cv0-thermal" not in values(found)
        only = write(tmp_path / "only", {"sys/class/thermal/thermal_zone0/type": "cv0-thermal"})
        os.mkfifo(only / "sys/class/thermal/thermal_zone0/temp")
        other = os.open(only / "sys/class/thermal/thermal_zone0/temp", os.O_RDWR)
        absent = Thermal.probe(only)
        os.close(other)
        assert isinstance(absent, Absent) and "unavailable" in absent.reason
    finally:
        os.close(held)


def test_all_zones_dying_in_a_run_is_a_sampler_error(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "CPU-therm",
            "sys/class/thermal/thermal_zone0/temp": 40000,
        },
    )
    found = Thermal.probe(root)
    assert isinstance(found, Thermal)
    break_with_eio(root / "sys/class/thermal/thermal_zone0/temp")
    with pytest.raises(SamplerError, match="Input/output error"):
        found.read()
