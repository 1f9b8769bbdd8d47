"""Why a board tells no power, in words that say what would."""

from __future__ import annotations

from collections.abc import Mapping

_METER = "attach a meter (docs/devices.md, External meters)"
_NO_SENSOR = frozenset({"rpi1", "rpizero", "rpi2", "rpi3", "rpizero2", "rpi4"})
# The sampler whose reason for being absent is the board's, by device class.
_EXPECTED = {"rpi5": "rpi_pmic", "x86_64": "rapl", "i686": "rapl"}
# Meters somebody attached, and how the reason begins where nobody did.
_ATTACHED = {
    "ina2xx": "no INA219",
    "ina2xx_i2c": "no chip is named",
    "um25c": "no port is named",
}


def power_absence(device_class: str, absent: Mapping[str, str]) -> str:
    """Why there is no power reading; ``absent`` are the reasons of absent samplers by name. A meter
    that is there and refused comes first: its owner can mend that."""
    for name, nobody in _ATTACHED.items():
        why = absent.get(name, "")
        if why and not why.startswith(nobody):
            return f"{name}: {why}"
    if device_class in _NO_SENSOR:
        return f"this board has no current sensor: {_METER}"
    if device_class == "android":
        return (
            "the battery's gauge is not calibrated for this phone (assay-agent calibrate power "
            "--gauge), or it was being charged"
        )
    own = "ina3221" if device_class.startswith("jetson") else _EXPECTED.get(device_class)
    if own is not None and absent.get(own):
        return f"{own}: {absent[own]}"
    return f"no power sensor on this board: {_METER}"
