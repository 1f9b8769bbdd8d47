"""What a tethered phone is: its own kernel files and properties, read as any board's are."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.agent.devices.android import abis, parse_properties
from assay.agent.devices.detect import detect
from assay.agent.phones.adb import Phone
from assay.agent.recording.scrub import scrub_content
from assay.agent.recording.sources import FILES
from assay.core.errors import BadMessage
from assay.core.model import DeviceFacts, RuntimeFacts

_READ_S = 30.0
# What an Android kernel has of the list; the rest would only cost the phone time.
_FOLDERS = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/sys/",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/cpufreq/",
    "sys/devices/system/cpu/cpu[0-9]*/cpu_capacity",
    "sys/bus/iio/devices/",
    "sys/class/power_supply/",
    "sys/class/thermal/",
)
_SERIAL = ("ro.serialno", "ro.boot.serialno")


@dataclass(frozen=True, slots=True)
class Handset:
    """A phone's identity; ``facts.board`` and the rest come from the phone itself."""

    serial_number: str
    abis: tuple[str, ...]
    facts: DeviceFacts


def read_handset(phone: Phone, mirror: Path, runtimes: tuple[RuntimeFacts, ...] = ()) -> Handset:
    """Copies the phone's files into the folder ``mirror``, laid out like a board, and looks at
    that. :class:`BadMessage` where it is no Android."""
    properties = phone.shell("getprop", timeout_s=_READ_S).text
    told = parse_properties(properties)
    serial = next((told[key] for key in _SERIAL if told.get(key)), "")
    for path, content in _read_files(phone).items():
        target = mirror / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    kept = mirror / "commands/getprop.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(scrub_content("commands/getprop.txt", properties.encode()))
    facts = detect(mirror, runtimes)
    if facts.device_class != "android":
        raise BadMessage(f"{phone.serial} has no Android properties: it is no phone")
    # Python runs on the host and tells nothing of the phone.
    facts = replace(facts, python_version="", capabilities=(*facts.capabilities, "tethered"))
    return Handset(serial, tuple(abis(told)), facts)


def cluster_mask(facts: DeviceFacts, threads: int) -> int:
    """The ``taskset`` mask of the fastest cluster, joined by the next ones until ``threads`` fit;
    0 (no mask) where the clusters are not known."""
    chosen: list[int] = []
    for cluster in facts.cpu.clusters:
        if len(chosen) >= threads:
            break
        chosen += cluster.cpus
    mask = 0
    for cpu in chosen:
        mask |= 1 << cpu
    return mask


def _read_files(phone: Phone) -> Mapping[str, bytes]:
    """One round trip for all; each file between marks that no file can hold."""
    mark = secrets.token_hex(8)
    wanted = [
        pattern
        for pattern in FILES
        if pattern.startswith(_FOLDERS) and not pattern.endswith("boot_id")
    ]
    script = (
        f"cd /; for f in {' '.join(wanted)} proc/sys/kernel/random/boot_id; do "
        f'[ -f "$f" ] && echo "{mark} $f" && cat "$f" 2>/dev/null && echo; done; true'
    )
    text = phone.shell(script, timeout_s=_READ_S).text
    found = {}
    for part in text.split(f"{mark} ")[1:]:
        path, _, content = part.partition("\n")
        # The boot id is kept: it tells a reboot from a pause, and goes to the controller anyway.
        if re.fullmatch(r"(proc|sys)/[\w./:-]+", path) and ".." not in path:
            found[path] = content.removesuffix("\n").encode()
    return found
