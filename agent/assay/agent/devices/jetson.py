"""NVIDIA Jetson modules, by the module's part number in the device tree.

The carrier is the maker's business (``model`` may be AAEON's); the module is what computes, and
its ``pNNNN-SKU`` stands in ``compatible``. ``BOARD=`` in nv_tegra_release is no identity.
"""

from __future__ import annotations

import re

from assay.agent.devices.family import Clues, Identity
from assay.agent.sysroot import find, maybe_text, run_command
from assay.core.errors import SamplerError

# Module part -> class; where one part serves two products the SKU decides.
_BY_PART = {
    "p2180": "jetson_tx1",
    "p2371": "jetson_tx1",
    "p3310": "jetson_tx2",
    "p3489": "jetson_tx2",
    "p2771": "jetson_tx2",
    "p3636": "jetson_tx2",
    "p3448": "jetson_nano",
    "p3450": "jetson_nano",
    "p2888": "jetson_agx_xavier",
    "p2972": "jetson_agx_xavier",
    "p3668": "jetson_xavier_nx",
    "p3701": "jetson_agx_orin",
    "p3834": "jetson_thor",
}
_ORIN_SMALL = {
    "0000": "jetson_orin_nx",
    "0001": "jetson_orin_nx",
    "0003": "jetson_orin_nano",
    "0004": "jetson_orin_nano",
    "0005": "jetson_orin_nano",
}
_PART = re.compile(r"(p\d{4})-(\d{4})")
# JetPack 4 without compatible, and cpuinfo's Hardware line; longer names first.
_BY_NAME = (
    (r"AGX Orin|Orin Jetson-Small", "jetson_agx_orin"),
    (r"Orin NX", "jetson_orin_nx"),
    (r"Orin Nano", "jetson_orin_nano"),
    (r"Xavier NX", "jetson_xavier_nx"),
    (r"AGX Xavier|Jetson-AGX|Jetson AGX", "jetson_agx_xavier"),
    (r"TX2|quill|lightning", "jetson_tx2"),
    (r"TX1|jetson_tx1", "jetson_tx1"),
    (r"Thor", "jetson_thor"),
    (r"Jetson Nano|Jetson-Nano", "jetson_nano"),
)
_MODE = re.compile(r"^NV Power Mode:\s*(?:MODE_)?(\S+)\s*$", re.MULTILINE)


def identify(clues: Clues) -> Identity | None:
    """The Jetson this is, or None for any other board."""
    device_class = _by_compatible(clues.compatible) or _by_name(clues)
    if device_class is None:
        return None
    board = clues.model or clues.info.value("Hardware")
    return Identity(
        board,
        device_class,
        power_mode=_read_power_mode(clues),
        capabilities=("gpu:nvidia", *_l4t(clues)),
    )


def parse_power_mode(text: str) -> str | None:
    """The mode in what ``nvpmodel -q`` prints, without its ``MODE_`` prefix.

    A line ``NV Fan Mode:`` may come first; without root it prints errors, with status 0.
    """
    match = _MODE.search(text)
    return match.group(1) if match else None


def _by_compatible(compatible: tuple[str, ...]) -> str | None:
    if not any(name.startswith("nvidia,") for name in compatible):
        return None
    # carrier+module: the module stands last in an entry.
    for name in compatible:
        for part, sku in reversed(_PART.findall(name)):
            if part == "p3767":
                return _ORIN_SMALL.get(sku, "jetson")
            if part in _BY_PART:
                return _BY_PART[part]
    tegra = any(re.match(r"nvidia,tegra(2|1[89])", name) for name in compatible)
    return "jetson" if tegra else None


def _by_name(clues: Clues) -> str | None:
    name = clues.model or clues.info.value("Hardware")
    if not re.search(r"nvidia|jetson|quill|lightning", name, re.IGNORECASE):
        return None
    for pattern, device_class in _BY_NAME:
        if re.search(pattern, name):
            return device_class
    return None


def _read_power_mode(clues: Clues) -> str | None:
    try:
        return parse_power_mode(run_command(clues.sysroot, "nvpmodel", "-q"))
    except SamplerError:
        return None


def _l4t(clues: Clues) -> tuple[str, ...]:
    """``# R35 (release), REVISION: 3.1`` as ``l4t:35.3.1``."""
    for path in find(clues.sysroot, "etc/nv_tegra_release"):
        match = re.search(r"R(\d+) .*?REVISION:\s*([\d.]+)", maybe_text(path) or "")
        if match:
            return (f"l4t:{match.group(1)}.{match.group(2)}",)
    return ()
