"""Power from meters, counters and batteries, and the wrong numbers each could give."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.agent.samplers import Sampler
from assay.agent.samplers.battery import Battery, discharge_w, find_gauge, read_current
from assay.agent.samplers.hwmon_power import HwmonPower
from assay.agent.samplers.hwmon_temp import HwmonTemp
from assay.agent.samplers.ina2xx import SHUNT_VARIABLE, SIGN_VARIABLE, Ina2xx
from assay.agent.samplers.rapl import Rapl
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier
from tests.boards import break_with_eio, composed, copy_of, write

CHIP = "sys/class/hwmon/hwmon2"
RAPL = "sys/class/powercap/intel-rapl:"
BATTERY = "sys/class/power_supply"


def values(found: Sampler | Absent) -> dict[str, float]:
    assert not isinstance(found, Absent), found
    return {reading.channel.name: reading.value for reading in found.read()}


# INA2xx


def test_power_is_signed_amperes_times_volts() -> None:
    assert values(Ina2xx.probe(composed("rpi4_ina219"), {})) == pytest.approx(
        {"watts": 5.104 * 0.62, "volts": 5.104, "amperes": 0.62}
    )


def test_the_drivers_default_shunt_is_refused_until_stated(tmp_path: Path) -> None:
    root = copy_of("rpi4_ina219", tmp_path)
    (root / CHIP / "shunt_resistor").write_text("10000\n")
    refused = Ina2xx.probe(root, {})
    assert isinstance(refused, Absent) and SHUNT_VARIABLE in refused.reason
    # The driver divided the shunt's volts by 10 mΩ; the board carries 100 mΩ.
    stated = values(Ina2xx.probe(root, {SHUNT_VARIABLE: "100000"}))
    assert stated["amperes"] == pytest.approx(0.062)
    confirmed = values(Ina2xx.probe(root, {SHUNT_VARIABLE: "10000"}))
    assert confirmed["amperes"] == pytest.approx(0.62)


@pytest.mark.parametrize("nonsense", ["0", "-5", "100 mOhm", "0.1", "10²"])
def test_a_shunt_stated_wrongly_is_refused(nonsense: str) -> None:
    refused = Ina2xx.probe(composed("rpi4_ina219"), {SHUNT_VARIABLE: nonsense})
    assert isinstance(refused, Absent) and nonsense in refused.reason


def test_current_that_flows_back_gives_no_watts(tmp_path: Path) -> None:
    # power1 of the kernel is unsigned and would say 0.176 W.
    root = copy_of("rpi4_ina219", tmp_path)
    write(root / CHIP, {"curr1_input": -40, "in1_input": 4228, "power1_input": 176000})
    found = Ina2xx.probe(root, {})
    assert set(values(found)) == {"volts", "amperes"}
    assert isinstance(found, Ina2xx)
    assert found.silence.startswith("-0.040 A flow back") and SIGN_VARIABLE in found.silence
    turned = values(Ina2xx.probe(root, {SIGN_VARIABLE: "-1"}))
    assert turned["watts"] == pytest.approx(0.04 * 4.228)


def test_noise_around_an_idle_shunt_is_zero_watts(tmp_path: Path) -> None:
    root = copy_of("rpi4_ina219", tmp_path)
    (root / CHIP / "curr1_input").write_text("-1\n")
    assert values(Ina2xx.probe(root, {}))["watts"] == 0


def test_several_unnamed_monitors_are_not_guessed_between(tmp_path: Path) -> None:
    root = copy_of("rpi4_ina219", tmp_path)
    write(root / "sys/class/hwmon/hwmon3", {"name": "ina226", "in1_input": 3300, "curr1_input": 5})
    found = Ina2xx.probe(root, {})
    assert isinstance(found, Absent) and "2 current monitors" in found.reason


def test_an_ina260_brings_its_own_shunt(tmp_path: Path) -> None:
    root = write(tmp_path / CHIP, {"name": "ina260", "in1_input": 5000, "curr1_input": 1000})
    assert values(Ina2xx.probe(tmp_path, {}))["watts"] == pytest.approx(5.0), root


def test_reads_never_outrun_the_converter(tmp_path: Path) -> None:
    root = copy_of("rpi4_ina219", tmp_path)
    (root / CHIP / "update_interval").write_text("140\n")
    found = Ina2xx.probe(root, {})
    assert isinstance(found, Ina2xx)
    assert found.max_hz == pytest.approx(1000 / 140)
    assert Ina2xx.max_hz == 100


# RAPL


def test_packages_are_summed_and_subzones_and_psys_are_not(tmp_path: Path) -> None:
    root = copy_of("x86_laptop", tmp_path)
    # A zone without a name may be a package; a subzone is none, whatever it is called.
    write(root / f"{RAPL}0:1", {"energy_uj": 1, "max_energy_range_uj": 262143328850})
    found = Rapl.probe(root)
    assert values(found) == {"packages": 0, "package-0": 0}
    for zone, rise in (("0", 2_000_000), ("0:0", 700_000), ("1", 9_000_000)):
        path = root / f"{RAPL}{zone}/energy_uj"
        path.write_text(f"{int(path.read_text()) + rise}\n")
    assert values(found) == pytest.approx({"packages": 2.0, "package-0": 2.0})


def test_two_sockets_wrap_around_each_on_its_own(tmp_path: Path) -> None:
    root = copy_of("x86_server", tmp_path)
    found = Rapl.probe(root)
    values(found)
    (root / f"{RAPL}0/energy_uj").write_text("3000000\n")  # it stood at its range exactly
    (root / f"{RAPL}1/energy_uj").write_text(f"{262143328850}\n")
    assert values(found) == pytest.approx({"packages": 4.0, "package-0": 3.0, "package-1": 1.0})


@pytest.mark.parametrize("socket", [0, 1])
def test_an_implausible_counter_is_refused_and_the_other_sockets_is_no_total(
    socket: int, tmp_path: Path
) -> None:
    root = copy_of("x86_server", tmp_path)
    (root / f"{RAPL}{socket}/energy_uj").write_text("60293987000000\n")
    found = Rapl.probe(root)
    assert isinstance(found, Absent) and "60293987000000" in found.reason


def test_a_socket_that_is_dead_from_the_start_is_no_smaller_sum(tmp_path: Path) -> None:
    root = copy_of("x86_server", tmp_path)
    break_with_eio(root / f"{RAPL}1/energy_uj")
    found = Rapl.probe(root)
    assert isinstance(found, Absent) and "intel-rapl:1/energy_uj" in found.reason


def test_a_machine_whose_zones_are_no_packages_says_so(tmp_path: Path) -> None:
    zone = {"name": "psys", "energy_uj": 5, "max_energy_range_uj": 100}
    found = Rapl.probe(write(tmp_path, {f"{RAPL}0/{name}": text for name, text in zone.items()}))
    assert found == Absent("no zone is a package")


def test_a_counter_without_permission_says_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> int:
        raise PermissionError(13, "Permission denied")

    # Root, as tests may run, is refused by no file mode.
    monkeypatch.setattr("assay.agent.samplers.rapl.read_int", refuse)
    found = Rapl.probe(composed("x86_laptop"))
    assert isinstance(found, Absent) and "root" in found.reason


def test_one_silent_socket_is_no_smaller_sum(tmp_path: Path) -> None:
    root = copy_of("x86_server", tmp_path)
    found = Rapl.probe(root)
    assert isinstance(found, Rapl)
    break_with_eio(root / f"{RAPL}1/energy_uj")
    with pytest.raises(SamplerError):
        found.read()


@pytest.mark.parametrize(
    "layout",
    ["sys/class/powercap/intel-rapl/", "sys/devices/virtual/powercap/intel-rapl/"],
)
def test_zones_are_found_flat_and_nested(layout: str, tmp_path: Path) -> None:
    write(
        tmp_path / layout / "intel-rapl:10",
        {"name": "package-10", "energy_uj": 5, "max_energy_range_uj": 100},
    )
    assert "package-10" in values(Rapl.probe(tmp_path))


# hwmon


def test_the_machines_own_meter_is_a_total_and_a_gpu_is_not() -> None:
    found = HwmonPower.probe(composed("x86_server"))
    assert values(found) == pytest.approx({"power_meter/power1": 213.0, "amdgpu/PPT": 36.0})
    assert isinstance(found, HwmonPower)
    totals = [c.name for c in found.channels if c.meter is not None and c.meter.total]
    assert totals == ["power_meter/power1"]


def test_amdgpu_with_only_an_instantaneous_file_is_read(tmp_path: Path) -> None:
    write(tmp_path / CHIP, {"name": "amdgpu", "power1_input": 12_000_000, "power1_label": "PPT"})
    assert values(HwmonPower.probe(tmp_path)) == pytest.approx({"amdgpu/PPT": 12.0})


def test_two_sockets_temperatures_keep_apart_and_the_disk_is_not_asked() -> None:
    assert values(HwmonTemp.probe(composed("x86_server"))) == pytest.approx(
        {"coretemp/temp1": 47.0, "coretemp/temp1_2": 52.0}
    )
    assert not any("nvme" in name for name in values(HwmonTemp.probe(composed("x86_laptop"))))


# batteries


def test_a_laptop_on_battery_tells_its_power() -> None:
    found = Battery.probe(composed("x86_laptop"))
    assert values(found)["watts"] == pytest.approx(6.482)
    assert isinstance(found, Battery)
    meter = found.channels[0].meter
    assert meter is not None and meter.tier is PowerTier.BATTERY_GAUGE


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_no_load_is_read_from_a_battery_that_is_not_discharging(
    status: str, tmp_path: Path
) -> None:
    root = copy_of("x86_laptop", tmp_path)
    (root / BATTERY / "BAT0/status").write_text(f"{status}\n")
    assert "watts" not in values(Battery.probe(root))


def test_a_mouse_is_not_the_boards_battery() -> None:
    gauge = find_gauge(composed("x86_laptop"))
    assert gauge is not None and gauge.folder.name == "BAT0"


@pytest.mark.parametrize("board", ["phone_reversed_sign", "phone_milliamp"])
def test_a_phones_gauge_gives_no_watts_before_it_is_calibrated(board: str) -> None:
    found = Battery.probe(composed(board))
    assert set(values(found)) == {"volts", "charge", "temperature", "current"}
    assert isinstance(found, Battery)
    assert all(channel.meter is None for channel in found.channels)


def test_bms_gives_way_to_battery_and_any_name_will_do(tmp_path: Path) -> None:
    write(tmp_path / BATTERY / "bms", {"type": "BMS", "voltage_now": 4_000_000})
    write(tmp_path / BATTERY / "MainBattery", {"voltage_now": 4_000_000, "capacity": 50})
    gauge = find_gauge(tmp_path)
    assert gauge is not None and gauge.folder.name == "MainBattery" and gauge.android


@pytest.mark.parametrize("errno_value", [-5, -22, -61])
def test_an_errno_is_no_current(errno_value: int, tmp_path: Path) -> None:
    write(tmp_path, {"current_now": errno_value})
    assert read_current(tmp_path) is None
    write(tmp_path, {"current_now": -326171})
    assert read_current(tmp_path) == -326171


def test_watts_that_cannot_be_are_not_given(tmp_path: Path) -> None:
    # 412 "µA" is mA in truth; the product would be 1.6 mW.
    write(tmp_path, {"status": "Discharging", "current_now": 412, "voltage_now": 4_000_000})
    assert discharge_w(tmp_path) is None
    write(tmp_path, {"current_now": -1_500_000, "voltage_now": 12_000_000})
    assert discharge_w(tmp_path) == pytest.approx(18.0)
