"""Android phones and tablets that run the agent themselves (Termux), by system properties.

A tethered phone is another matter: its host's agent presents it. ``/proc/cpuinfo`` alone does
not identify a phone and is not used for it.
"""

from __future__ import annotations

import re
from pathlib import Path

from assay.agent.devices.family import Clues, Identity
from assay.agent.sysroot import maybe_text, run_command
from assay.core.errors import SamplerError

_PROPERTY = re.compile(r"^\[?([\w.]+)\]?[=:]\s*\[?(.*?)\]?\s*$")


def identify(clues: Clues) -> Identity | None:
    """The phone this is, or None where there are no Android properties."""
    properties = read_properties(clues.sysroot)
    model = properties.get("ro.product.model") or properties.get("ro.product.system.model")
    if not model or "ro.build.version.release" not in properties:
        return None
    maker = properties.get("ro.product.manufacturer") or properties.get("ro.product.brand", "")
    maker = "" if maker == "unknown" else maker
    chip = soc(properties) or clues.info.value("Hardware")
    name = model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
    return Identity(
        board=f"{name} ({chip})" if chip else name,
        device_class="android",
        os=f"Android {properties['ro.build.version.release']}",
        capabilities=tuple(f"abi:{abi}" for abi in abis(properties)),
    )


def read_properties(sysroot: Path) -> dict[str, str]:
    """From ``getprop``, which an app may run, else ``/system/build.prop``; {} elsewhere."""
    build = maybe_text(sysroot / "system/build.prop")
    if sysroot == Path("/") and build is None and not Path("/system/bin").is_dir():
        # Not Android: no process is started for nothing.
        return {}
    try:
        asked = parse_properties(run_command(sysroot, "getprop"))
    except SamplerError:
        asked = {}
    return {**parse_properties(build or ""), **asked}


def parse_properties(text: str) -> dict[str, str]:
    """``key=value`` of build.prop and ``[key]: [value]`` of getprop; the first of a key holds."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _PROPERTY.match(line.strip())
        if match:
            found.setdefault(match.group(1), match.group(2))
    return found


def soc(properties: dict[str, str]) -> str:
    """The chip by the most telling property there is."""
    for key in ("ro.soc.model", "ro.board.platform", "ro.product.board", "ro.hardware"):
        if properties.get(key):
            return properties[key]
    return ""


def abis(properties: dict[str, str]) -> list[str]:
    """What native code it runs, best first."""
    listed = properties.get("ro.product.cpu.abilist") or properties.get("ro.product.cpu.abi", "")
    return [abi for abi in listed.split(",") if abi]
