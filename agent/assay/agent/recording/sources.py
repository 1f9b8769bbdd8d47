"""What a recording may hold: kernel files and commands by name, and nothing else.

An allow-list is the only way to promise that nothing private is in it. A sampler that reads a new
file adds it here; the tests replay every composed board from its recording and see the difference.
"""

from __future__ import annotations

_CPU = "sys/devices/system/cpu"
_HWMON = (
    "name",
    "label",
    "device/name",
    "update_interval",
    "samples",
    "shunt_resistor",
    "shunt[0-9]*_resistor",
    "in[0-9]*_input",
    "in[0-9]*_label",
    "in[0-9]*_enable",
    "in[0-9]*_lcrit_alarm",
    "curr[0-9]*_input",
    "curr[0-9]*_label",
    "curr[0-9]*_crit",
    "power[0-9]*_input",
    "power[0-9]*_average",
    "power[0-9]*_label",
    "energy[0-9]*_input",
    "energy[0-9]*_label",
    "temp[0-9]*_input",
    "temp[0-9]*_label",
    "device/temp[0-9]*_input",
    "device/temp[0-9]*_label",
    "oc[0-9]*_event_cnt",
    "oc[0-9]*_throt_en",
)
_HWMON_FOLDERS = (
    "sys/class/hwmon/hwmon*",
    "sys/class/drm/card[0-9]*/device/hwmon/hwmon*",
    "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*",
)
_POLICY = (
    "scaling_governor",
    "scaling_cur_freq",
    "scaling_min_freq",
    "scaling_max_freq",
    "cpuinfo_cur_freq",
    "cpuinfo_max_freq",
    "related_cpus",
    "affected_cpus",
)
_BATTERY = (
    "type",
    "scope",
    "status",
    "online",
    "capacity",
    "temp",
    "voltage_now",
    "current_now",
    "power_now",
    "charge_counter",
)

FILES: tuple[str, ...] = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/stat",
    "proc/vmstat",
    "proc/loadavg",
    "proc/pressure/*",
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/random/boot_id",
    "proc/sys/kernel/sched_rt_runtime_us",
    "etc/os-release",
    "usr/lib/os-release",
    "etc/nv_tegra_release",
    "system/build.prop",
    "sys/firmware/acpi/platform_profile",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
    f"{_CPU}/online",
    f"{_CPU}/cpu[0-9]*/cpu_capacity",
    f"{_CPU}/cpu[0-9]*/topology/thread_siblings_list",
    f"{_CPU}/cpu[0-9]*/thermal_throttle/*_throttle_count",
    *(f"{_CPU}/cpufreq/policy[0-9]*/{name}" for name in _POLICY),
    *(f"{_CPU}/cpu[0-9]*/cpufreq/{name}" for name in _POLICY),
    *(f"{folder}/{name}" for folder in _HWMON_FOLDERS for name in _HWMON),
    *(
        f"sys/bus/i2c/drivers/ina3221x/*/iio[:_]device*/{name}"
        for name in ("rail_name_*", "in_voltage*_input", "in_current*_input", "in_power*_input")
    ),
    "sys/bus/iio/devices/iio:device*/energy_value",
    *(f"sys/class/power_supply/*/{name}" for name in _BATTERY),
    *(
        f"sys/{zone}/{name}"
        for zone in (
            "class/powercap/intel-rapl:*",
            "class/powercap/intel-rapl/intel-rapl:*",
            "devices/virtual/powercap/intel-rapl/intel-rapl:*",
        )
        for name in ("name", "enabled", "energy_uj", "max_energy_range_uj")
    ),
    "sys/class/thermal/thermal_zone*/type",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/cooling_device*/type",
    "sys/class/thermal/cooling_device*/cur_state",
    "sys/class/thermal/cooling_device*/max_state",
    "sys/class/devfreq/*/cur_freq",
    "sys/class/devfreq/*/device/of_node/name",
    *(
        f"sys/devices/{folder}{gpu}/load"
        for folder in ("", "platform/", "platform/bus@0/")
        for gpu in ("gpu.0", "[0-9]*.gpu", "[0-9]*.gv11b", "[0-9]*.ga10b", "[0-9]*.gp10b")
    ),
    "sys/bus/usb/devices/*/idVendor",
    "sys/bus/usb/devices/*/idProduct",
)
"""Globs under the root of a board; what matches is read whole."""

PRESENCE: tuple[str, ...] = (
    "dev/hailo[0-9]*",
    "dev/apex_[0-9]*",
    "dev/nvhost-ctrl-gpu",
    "dev/nvidia[0-9]*",
    "dev/kfd",
    "dev/dri/renderD*",
    "dev/rknpu*",
    "dev/accel/accel[0-9]*",
    ".dockerenv",
    "run/.containerenv",
)
"""Globs whose matches are recorded as empty files: that they are there is all that is looked at."""

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("vcgencmd", "get_throttled"),
    ("vcgencmd", "measure_clock", "arm"),
    ("vcgencmd", "pmic_read_adc"),
    ("nvpmodel", "-q"),
    # Read by no sampler (sysfs tells as much), but by whoever composes a board from the recording.
    ("jetson_clocks", "--show"),
    ("getprop",),
)
"""Commands that only ask; each is run once with a deadline, and left out where it fails."""
