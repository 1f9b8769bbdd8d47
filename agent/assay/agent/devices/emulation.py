"""Whether this program runs on the kind of processor it was built for, or under an emulator of it.

An emulator of programs (qemu-user) answers ``uname`` with the machine it imitates, while the kernel
below tells its own in ``/proc/sys/kernel/arch`` (Linux 6.1) and in the alias of its processor
(``/sys/devices/system/cpu/modalias``). A whole emulated machine has a kernel of its own, which
these cannot tell.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from assay.agent.sysroot import maybe_text
from assay.core.model import DeviceFacts, Reason

EMULATED = "emulated"
"""The capability word, and the code of the reason."""

_FAMILIES = {r"x86|i[3-6]86|amd64": "x86", r"aarch64|arm": "arm"}


def is_emulated(sysroot: Path = Path("/"), machine: str = os.uname().machine) -> bool:
    """Whether the kernel runs on another kind of processor than ``machine``; False where it does
    not tell. A 32-bit program on a 64-bit processor of its kind is not emulated."""
    kernel = maybe_text(sysroot / "proc/sys/kernel/arch") or _alias(sysroot)
    families = _family(kernel), _family(machine)
    return "" not in families and len(set(families)) == 2


def emulation_reasons(device: DeviceFacts) -> tuple[Reason, ...]:
    """What speaks against every time taken under an emulator."""
    if EMULATED not in device.capabilities:
        return ()
    told = f"{device.cpu.architecture} programs run under an emulator here: times mean nothing"
    return (Reason(EMULATED, True, told),)


def _alias(sysroot: Path) -> str:
    alias = maybe_text(sysroot / "sys/devices/system/cpu/modalias") or ""
    return alias.removeprefix("cpu:type:").partition(":")[0]


def _family(machine: str) -> str:
    found = (name for pattern, name in _FAMILIES.items() if re.match(pattern, machine))
    return next(found, "")
