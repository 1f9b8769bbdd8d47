"""How many bytes may go to a phone in a day, and how many went; kept in a file over restarts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from assay.agent.home import write_atomically
from assay.core.errors import DiskFull


@dataclass(frozen=True, slots=True)
class DailyBudget:
    """Counts bytes of each day (UTC) in ``file``; ``limit_bytes`` None only counts.

    Bytes are charged before they are sent and given back where they were not, so that a crash
    counts too much and never too little. ``clock_s`` tells seconds since 1970.
    """

    file: Path
    limit_bytes: int | None = None
    clock_s: Callable[[], float] = time.time

    def spent_bytes(self) -> int:
        """What went today."""
        try:
            kept = json.loads(self.file.read_text())
            return int(kept["bytes"]) if kept["day"] == self._today() else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def charge(self, size: int) -> None:
        """Counts ``size`` bytes; :class:`DiskFull`, and nothing is counted, where they are more
        than is left of the day's."""
        spent = self.spent_bytes()
        if self.limit_bytes is not None and spent + size > self.limit_bytes:
            raise DiskFull(
                f"{size} bytes are more than is left of the day's {self.limit_bytes} bytes "
                f"({spent} are sent): wait for the next day (UTC) or raise --daily-bytes"
            )
        self._keep(spent + size)

    def give_back(self, size: int) -> None:
        """Takes off what was charged and not sent."""
        self._keep(max(0, self.spent_bytes() - size))

    def _keep(self, spent: int) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, json.dumps({"day": self._today(), "bytes": spent}).encode())

    def _today(self) -> str:
        return datetime.fromtimestamp(self.clock_s(), timezone.utc).date().isoformat()
