"""One look at the board: what it is, and what it can do."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from assay.agent.devices import android, generic, jetson, raspberrypi
from assay.agent.devices.clocks import governors
from assay.agent.devices.cpu import cpu_capabilities, read_cpu_facts
from assay.agent.devices.emulation import EMULATED, is_emulated
from assay.agent.devices.family import Clues, Identity, gather
from assay.agent.platform import userland_bits
from assay.agent.samplers import sampler_facts
from assay.agent.sysroot import find, maybe_text
from assay.core.model import DeviceFacts, RuntimeFacts, SamplerFacts
from assay.core.version import __version__

# Accelerators by the device node or bus address their drivers make.
_ACCELERATORS = (
    ("dev/hailo[0-9]*", "npu:hailo"),
    ("dev/apex_[0-9]*", "tpu:coral"),
    ("dev/nvhost-ctrl-gpu", "gpu:nvidia"),
    ("dev/nvidia[0-9]*", "gpu:nvidia"),
    ("dev/kfd", "gpu:amd"),
    ("dev/dri/renderD*", "gpu:drm"),
    ("dev/rknpu*", "npu:rockchip"),
    ("dev/accel/accel[0-9]*", "npu:accel"),
)
_CORAL_USB = ("1a6e:089a", "18d1:9302")


def detect(
    sysroot: Path = Path("/"),
    runtimes: tuple[RuntimeFacts, ...] = (),
    samplers: tuple[SamplerFacts, ...] | None = None,
) -> DeviceFacts:
    """Reads what the board under ``sysroot`` says about itself; changes nothing, never raises.

    ``runtimes`` is what the runtime probe found; ``samplers`` are probed here where not given.
    """
    cpu = read_cpu_facts(sysroot)
    clues = gather(sysroot, cpu)
    identity = _identify(clues)
    return DeviceFacts(
        board=identity.board,
        device_class=identity.device_class,
        cpu=cpu,
        memory_total_bytes=_memory_total_bytes(sysroot),
        os=identity.os or _os_name(sysroot),
        kernel=maybe_text(sysroot / "proc/sys/kernel/osrelease") or "unknown",
        governor=",".join(governors(sysroot)) or None,
        power_mode=identity.power_mode,
        boot_id=maybe_text(sysroot / "proc/sys/kernel/random/boot_id") or "",
        agent_version=__version__,
        python_version=platform.python_version(),
        runtimes=runtimes,
        samplers=sampler_facts(sysroot) if samplers is None else samplers,
        capabilities=_capabilities(clues, identity),
    )


def _identify(clues: Clues) -> Identity:
    return (
        raspberrypi.identify(clues)
        or jetson.identify(clues)
        or android.identify(clues)
        or generic.identify(clues)
    )


def _memory_total_bytes(sysroot: Path) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", maybe_text(sysroot / "proc/meminfo") or "", re.M)
    return int(match.group(1)) * 1024 if match else 0


def _os_name(sysroot: Path) -> str:
    for name in ("etc/os-release", "usr/lib/os-release"):
        match = re.search(
            r'^PRETTY_NAME="?([^"\n]+)"?', maybe_text(sysroot / name) or "", re.MULTILINE
        )
        if match:
            return match.group(1)
    return "unknown"


def _capabilities(clues: Clues, identity: Identity) -> tuple[str, ...]:
    found = [*cpu_capabilities(clues.cpu.flags), *identity.capabilities]
    found += [word for pattern, word in _ACCELERATORS if find(clues.sysroot, pattern)]
    if _has_usb(clues.sysroot, _CORAL_USB):
        found.append("tpu:coral")
    if _in_container(clues.sysroot):
        found.append("container")
    if clues.sysroot == Path("/"):
        found.append(f"userland:{userland_bits()}")
        found += [EMULATED] * is_emulated()
    return tuple(dict.fromkeys(found))


def _has_usb(sysroot: Path, identities: tuple[str, ...]) -> bool:
    for folder in find(sysroot, "sys/bus/usb/devices/*"):
        vendor, product = maybe_text(folder / "idVendor"), maybe_text(folder / "idProduct")
        if f"{vendor}:{product}" in identities:
            return True
    return False


def _in_container(sysroot: Path) -> bool:
    return (sysroot / ".dockerenv").exists() or (sysroot / "run/.containerenv").exists()
