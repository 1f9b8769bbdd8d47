"""Whether a Raspberry Pi's firmware holds its processor back, and why.

Bits of ``vcgencmd get_throttled``: 0-3 now, 16-19 since boot. Source: Raspberry Pi
documentation, "vcgencmd get_throttled". The sysfs node of the same name is left alone: some
kernels log a warning on every read.
"""

from __future__ import annotations

import re
from pathlib import Path

from assay.agent.sysroot import find, maybe_int, maybe_text, run_command
from assay.core.errors import SamplerError

NOW = {0: "under_voltage", 1: "frequency_capped", 2: "throttled", 3: "soft_temperature_limit"}
_SINCE_BOOT_SHIFT = 16
_ANSWER = re.compile(r"^throttled=0x([0-9a-fA-F]+)\s*$", re.MULTILINE)


def parse_throttled(text: str) -> int:
    """The bits in ``throttled=0x50005``; raises SamplerError for anything else."""
    match = _ANSWER.search(text)
    if match is None:
        raise SamplerError(f"vcgencmd get_throttled: unexpected answer {text.strip()!r}")
    return int(match.group(1), 16)


def read_throttled(sysroot: Path) -> int:
    """Asks the firmware (about 5 ms, one short process); raises SamplerError."""
    return parse_throttled(run_command(sysroot, "vcgencmd", "get_throttled"))


def throttled_now(bits: int) -> tuple[str, ...]:
    """Names of what holds the processor back at this moment."""
    return tuple(name for bit, name in NOW.items() if bits >> bit & 1)


def throttled_since_boot(bits: int) -> tuple[str, ...]:
    """Names of what has held the processor back at any time since boot (sticky)."""
    return throttled_now(bits >> _SINCE_BOOT_SHIFT)


def under_voltage_alarm(sysroot: Path) -> Path | None:
    """The kernel's cheap live alarm (hwmon ``rpi_volt``), None where there is none."""
    for folder in find(sysroot, "sys/class/hwmon/hwmon*"):
        alarm = folder / "in0_lcrit_alarm"
        if maybe_text(folder / "name") == "rpi_volt" and maybe_int(alarm) is not None:
            return alarm
    return None
