"""State around a run: what is read, and what a difference proves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assay.agent.devices.cooling import holds_back, read_cooling
from assay.agent.devices.kernel import KernelCounters, parse_cpu_ticks
from assay.agent.devices.power import power_absence
from assay.agent.devices.state import DeviceState, difference, read_state
from assay.agent.devices.temperature import board_temperature_c
from assay.agent.samplers import sampler_facts
from tests.boards import break_with_eio, composed, copy_of, names, write

S = 1_000_000_000


def test_state_of_a_throttled_pi() -> None:
    found = read_state(composed("rpi3bplus"), lambda: 7)
    assert found.t_ns == 7
    assert found.throttle_bits == 0x80008
    assert found.throttled == ("soft_temperature_limit",)
    assert found.temperature_c == pytest.approx(60.69)
    assert found.clocks_hz == {"cpu0": 1_400_000_000}
    assert found.governors == ("ondemand",)
    assert found.kernel == KernelCounters(
        major_faults=507,
        swapped_pages=50,
        steal_ticks=0,
        idle_ticks=46828483 + 16683,
        # The ninth field is guest time, which user time holds already.
        total_ticks=10132153 + 290696 + 3084719 + 46828483 + 16683 + 25195,
        context_switches=38014093,
        psi_cpu_some_us=None,
    )


def test_state_of_a_jetson_and_of_a_laptop() -> None:
    jetson = read_state(composed("jetson_orin_nano"))
    assert jetson.over_current_events == {"oc1": 17, "oc2": 0, "oc3": 3}
    assert jetson.throttle_bits is None and jetson.on_battery is None
    assert jetson.cooling == {"cpufreq-cpu0": 0, "thermal-devfreq-0": 0}
    laptop = read_state(composed("x86_laptop"))
    assert laptop.thermal_throttle_events == 4 * (5 + 7)
    assert laptop.on_battery is True
    assert laptop.kernel.psi_cpu_some_us == 8831206


@pytest.mark.parametrize("board", names())
def test_reading_state_never_raises(board: str, tmp_path: Path) -> None:
    root = copy_of(board, tmp_path)
    for path in [path for path in root.rglob("*") if path.is_file()]:
        break_with_eio(path)
    found = read_state(root)
    assert found.temperature_c is None and found.clocks_hz == {}
    assert difference(found, found).throttled == ()


@pytest.mark.parametrize(
    ("kind", "means_throttling"),
    [
        ("thermal-cpufreq-0", True),
        ("cpufreq-cpu4", True),
        ("thermal-devfreq-0", True),
        ("cpu-balanced", True),
        ("gpu-emergency", True),
        ("Processor", True),
        ("intel_powerclamp", True),
        ("pwm-fan", False),
        ("rpi-poe-fan", False),
        ("Fan", False),
        ("smbb-usbin", False),
        ("TCC Offset", False),
        ("iwlwifi", False),
        ("battery", False),
        ("", False),
    ],
)
def test_only_listed_cooling_devices_mean_throttling(kind: str, means_throttling: bool) -> None:
    assert holds_back(kind) is means_throttling


def test_a_fan_a_charger_and_a_setting_are_not_throttling() -> None:
    assert read_cooling(composed("rpi5")) == {}
    assert read_cooling(composed("phone_milliamp")) == {"thermal-cpufreq-7": 0}
    # intel_powerclamp says -1 while unused.
    assert read_cooling(composed("x86_laptop")) == {"Processor": 0, "intel_powerclamp": 0}


def test_a_sticky_bit_that_appeared_was_set_by_the_run() -> None:
    clean, now = DeviceState(0, throttle_bits=0), DeviceState(S, throttle_bits=0x40000)
    assert difference(clean, now).throttled == ("throttled",)
    assert not difference(clean, now).throttle_history_dirty


def test_a_sticky_bit_from_before_proves_nothing_and_is_said() -> None:
    dirty = DeviceState(0, throttle_bits=0x50000)
    change = difference(dirty, replace(dirty, t_ns=S))
    assert change.throttled == () and change.throttle_history_dirty


def test_a_live_bit_is_throttling_on_either_side() -> None:
    hot, cool = DeviceState(0, throttle_bits=0x80008), DeviceState(S, throttle_bits=0x80000)
    assert difference(hot, cool).throttled == ("soft_temperature_limit",)


def test_over_current_events_are_a_rate() -> None:
    before = DeviceState(0, over_current_events={"oc1": 100, "oc3": 5})
    after = DeviceState(2 * S, over_current_events={"oc1": 160, "oc3": 5})
    change = difference(before, after)
    assert change.over_current_rate_hz == {"oc1": 30.0, "oc3": 0.0}
    assert change.throttled == ()


def test_cooling_and_x86_counters_are_throttling() -> None:
    before = DeviceState(0, thermal_throttle_events=10, cooling={"cpufreq-cpu0": 0})
    after = DeviceState(S, thermal_throttle_events=11, cooling={"cpufreq-cpu0": 3})
    assert difference(before, after).throttled == (
        "thermal_throttle_events",
        "cooling:cpufreq-cpu0",
    )


def test_counters_are_differenced() -> None:
    before = DeviceState(0, 40.0, {"cpu0": 1_000}, kernel=KernelCounters(5, 7, 10, 0, 1000, 50, 0))
    after = DeviceState(
        S, 43.5, {"cpu0": 950}, kernel=KernelCounters(9, 7, 30, 0, 1200, 90, 250_000)
    )
    change = difference(before, after)
    assert (change.major_faults, change.swapped_pages, change.context_switches) == (4, 0, 40)
    assert change.steal_share == pytest.approx(0.1)
    assert change.psi_cpu_some_share == pytest.approx(0.25)
    assert change.temperature_rise_c == pytest.approx(3.5)
    assert change.clock_moved_share == pytest.approx(0.05)


def test_a_counter_that_went_backwards_is_unknown() -> None:
    before = DeviceState(0, kernel=KernelCounters(major_faults=9, context_switches=4))
    after = DeviceState(S, kernel=KernelCounters(major_faults=1))
    change = difference(before, after)
    assert change.major_faults is None and change.context_switches is None


def test_a_governor_that_changed_is_seen() -> None:
    before, after = DeviceState(0, governors=("performance",)), DeviceState(S, governors=("p",))
    assert difference(before, after).governor_changed


def test_clocks_locked_by_jetson_clocks_are_told_whatever_the_governor(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    assert read_state(root).clocks_locked is None
    policies = root / "sys/devices/system/cpu/cpufreq"
    for policy in ("policy0", "policy4"):
        write(policies / policy, {"scaling_min_freq": 1728000, "scaling_max_freq": 1728000})
    assert read_state(root).clocks_locked is True
    write(policies / "policy4", {"scaling_min_freq": 729600})
    assert read_state(root).clocks_locked is False


def test_guest_time_is_not_counted_twice() -> None:
    assert sum(parse_cpu_ticks("cpu  1 2 3 4 5 6 7 8 900 900\n").values()) == 36


@pytest.mark.parametrize(
    ("board", "celsius"),
    [
        ("jetson_nano", 38.5),  # neither PMIC-Die's 100 nor AO-therm's 46
        ("jetson_agx_orin", 44.5),
        ("phone_milliamp", 36.1),  # not the battery
        ("x86_laptop", 51.0),  # not acpitz' constant, not the disk
        ("x86_server", 52.0),
        ("bare", None),
    ],
)
def test_the_processors_temperature_is_picked(board: str, celsius: float | None) -> None:
    found = board_temperature_c(composed(board))
    assert found == (celsius if celsius is None else pytest.approx(celsius))


def test_firmware_zone_is_the_last_resort(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    root = write(tmp_path, {f"{zone}/type": "acpitz", f"{zone}/temp": 42000})
    assert board_temperature_c(root) == 42.0


@pytest.mark.parametrize("placeholder", [-256000, -274000, 2147483647])
def test_a_placeholder_alone_is_no_temperature(placeholder: int, tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    root = write(tmp_path, {f"{zone}/type": "CPU-therm", f"{zone}/temp": placeholder})
    assert board_temperature_c(root) is None


@pytest.mark.parametrize(
    ("device_class", "absent", "expected"),
    [
        ("rpi4", {}, "no current sensor"),
        ("rpi5", {"rpi_pmic": "vcgencmd: no such program"}, "rpi_pmic: vcgencmd"),
        ("jetson_nano", {"ina3221": "no INA3221 driver is bound"}, "ina3221: no INA3221"),
        ("x86_64", {"rapl": "energy_uj may be read by root only"}, "root only"),
        ("rpi4", {"ina2xx": "ina219 runs on the driver's default shunt"}, "ina2xx: ina219 runs"),
        ("rpi4", {"ina2xx": "2 current monitors and none is named"}, "2 current monitors"),
        ("x86_64", {"rapl": "root only", "um25c": "/dev/x: gone"}, "um25c: /dev/x"),
        ("android", {}, "not calibrated"),
        ("aarch64", {}, "no power sensor"),
    ],
)
def test_missing_power_is_explained_by_the_board(
    device_class: str, absent: dict[str, str], expected: str
) -> None:
    assert expected in power_absence(device_class, absent)


def test_a_meter_that_nobody_attached_is_not_why_power_is_missing() -> None:
    absent = {one.name: one.absent_reason for one in sampler_facts(composed("rpi4"))}
    assert "no current sensor" in power_absence("rpi4", absent)
