"""Raspberry Pi boards, by the device tree, cpuinfo's ``Model`` or the revision code.

Revision codes: Raspberry Pi documentation, "New-style revision codes in use".
"""

from __future__ import annotations

import re

from assay.agent.devices.family import Clues, Identity

# Longer names first: "Zero 2" before "Zero", "Compute Module 5" before "5".
_CLASS_BY_NAME = (
    (r"Zero 2", "rpizero2"),
    (r"Zero", "rpizero"),
    (r"Compute Module 5|5 Compute Module|500|5 Model", "rpi5"),
    (r"Compute Module 4|4 Compute Module|400|4 Model", "rpi4"),
    (r"Compute Module 3|3 Compute Module|3 Model", "rpi3"),
    (r"2 Model", "rpi2"),
    (r"Compute Module|Model [AB]", "rpi1"),
)
# Type field (bits 4-11) of a new-style code -> name and class.
_BY_TYPE = {
    0x00: ("Model A", "rpi1"),
    0x01: ("Model B", "rpi1"),
    0x02: ("Model A Plus", "rpi1"),
    0x03: ("Model B Plus", "rpi1"),
    0x04: ("2 Model B", "rpi2"),
    0x06: ("Compute Module", "rpi1"),
    0x08: ("3 Model B", "rpi3"),
    0x09: ("Zero", "rpizero"),
    0x0A: ("Compute Module 3", "rpi3"),
    0x0C: ("Zero W", "rpizero"),
    0x0D: ("3 Model B Plus", "rpi3"),
    0x0E: ("3 Model A Plus", "rpi3"),
    0x10: ("Compute Module 3 Plus", "rpi3"),
    0x11: ("4 Model B", "rpi4"),
    0x12: ("Zero 2 W", "rpizero2"),
    0x13: ("400", "rpi4"),
    0x14: ("Compute Module 4", "rpi4"),
    0x15: ("Compute Module 4S", "rpi4"),
    0x17: ("5 Model B", "rpi5"),
    0x18: ("Compute Module 5", "rpi5"),
    0x19: ("500", "rpi5"),
    0x1A: ("Compute Module 5 Lite", "rpi5"),
}
_NEW_STYLE = 1 << 23


def identify(clues: Clues) -> Identity | None:
    """The Raspberry Pi this is, or None for any other board."""
    name = clues.model or clues.info.value("Model")
    if name.startswith("Raspberry Pi"):
        return Identity(name, _class_of(name))
    for compatible in clues.compatible:
        if compatible.startswith("raspberrypi,"):
            name = _name_of(compatible)
            return Identity(name, _class_of(name))
    if not re.match(r"BCM2[78]", clues.info.value("Hardware")):
        return None
    return _by_revision(clues.info.value("Revision"))


def _class_of(name: str) -> str:
    for pattern, device_class in _CLASS_BY_NAME:
        if re.search(pattern, name):
            return device_class
    return "aarch64"


def _name_of(compatible: str) -> str:
    """``raspberrypi,5-model-b`` as ``Raspberry Pi 5 Model B``."""
    words = compatible.partition(",")[2].split("-")
    return " ".join(["Raspberry Pi", *(word.capitalize() for word in words)])


def _by_revision(text: str) -> Identity | None:
    """Kernels before 5.x name the chip (as BCM2835 whatever it is) and give the code only."""
    try:
        code = int(text, 16) & 0xFFFFFF
    except ValueError:
        return None
    if not code & _NEW_STYLE:
        # Old-style codes stopped with the first generation.
        return Identity("Raspberry Pi Model B", "rpi1") if 0 < code <= 0x15 else None
    known = _BY_TYPE.get(code >> 4 & 0xFF)
    return Identity(f"Raspberry Pi {known[0]}", known[1]) if known else None
