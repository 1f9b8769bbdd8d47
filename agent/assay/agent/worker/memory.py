"""This process's own memory by /proc/self, read at quiet points only.

VmHWM is set back to VmRSS by writing 5 to ``clear_refs`` (proc(5), since Linux 4.0), so that the
peak of the first inference is not hidden below the peak of loading. Not ``ru_maxrss``: a child
inherits its parent's.
"""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


class ProcessMemory:
    """Bytes of the process whose folder under /proc is ``root``; a missing figure is None."""

    def __init__(self, root: Path = Path("/proc/self")) -> None:
        self._root = root

    def resident_bytes(self) -> int | None:
        """Resident now (VmRSS)."""
        return self._value("status", "VmRSS")

    def peak_bytes(self) -> int | None:
        """Highest resident size since the start or the last reset (VmHWM)."""
        return self._value("status", "VmHWM")

    def pss_bytes(self) -> int | None:
        """Proportional share: shared pages counted in parts. About a millisecond."""
        return self._value("smaps_rollup", "Pss")

    def uss_bytes(self) -> int | None:
        """What only this process holds, and its end would free. About a millisecond."""
        parts = [self._value("smaps_rollup", f"Private_{kind}") for kind in ("Clean", "Dirty")]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def reset_peak(self) -> bool:
        """Sets the peak back to what is resident; False where the kernel does not allow it."""
        try:
            (self._root / "clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def _value(self, file: str, name: str) -> int | None:
        try:
            text = (self._root / file).read_text()
        except OSError:
            return None
        found = dict(_LINE.findall(text))
        return int(found[name]) * 1024 if name in found else None
