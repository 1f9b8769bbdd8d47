"""The bounded set of device classes, and from what temperature a run may start on each.

Sweeps select by class and dashboards label by it, so it must not grow with the fleet. The limits
leave room below the point where the vendor starts to hold the clock back (Pi 3B+: 60 °C soft
limit; Pi 4, 5: 80 °C; Jetson: 85 to 99 °C).
"""

from __future__ import annotations

START_LIMIT_C: dict[str, float] = {
    "rpi1": 55.0,
    "rpizero": 55.0,
    "rpi2": 55.0,
    "rpi3": 50.0,
    "rpizero2": 55.0,
    "rpi4": 60.0,
    "rpi5": 60.0,
    "jetson_nano": 55.0,
    "jetson_tx1": 55.0,
    "jetson_tx2": 55.0,
    "jetson_xavier_nx": 55.0,
    "jetson_agx_xavier": 55.0,
    "jetson_orin_nano": 60.0,
    "jetson_orin_nx": 60.0,
    "jetson_agx_orin": 60.0,
    "jetson_thor": 60.0,
    "jetson": 55.0,
    "android": 38.0,
    "x86_64": 65.0,
    "aarch64": 60.0,
    "armv7l": 55.0,
    "armv6l": 55.0,
    "i686": 65.0,
    "other": 60.0,
}

DEVICE_CLASSES = frozenset(START_LIMIT_C)


def start_limit_c(device_class: str) -> float:
    """The temperature at or below which a run may start; :mod:`assay.agent.measuring.settle`."""
    return START_LIMIT_C.get(device_class, START_LIMIT_C["other"])


def class_of_architecture(architecture: str) -> str:
    """The class of a board that nothing more is known about."""
    name = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l"}.get(
        architecture, architecture
    )
    return name if name in DEVICE_CLASSES else "other"
