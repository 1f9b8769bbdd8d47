"""How the board fares, for every Sync: a few small reads."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from assay.agent.devices.temperature import board_temperature_c
from assay.agent.devices.throttling import under_voltage_alarm
from assay.agent.plane.spool import Spool
from assay.agent.sysroot import maybe_int, maybe_text
from assay.v1 import fleet_pb2


@dataclass(frozen=True, slots=True)
class HealthReader:
    """Reads the board under ``sysroot`` and the disk ``home`` lies on."""

    sysroot: Path
    home: Path
    spool: Spool

    def read(self) -> fleet_pb2.Health:
        """What a Sync carries; a missing temperature is unset."""
        alarm = under_voltage_alarm(self.sysroot)
        health = fleet_pb2.Health(
            memory_available_bytes=_memory_available_bytes(self.sysroot),
            disk_free_bytes=shutil.disk_usage(self.home).free,
            spool_entries=len(self.spool.entries),
            spool_bytes=self.spool.size_bytes,
            throttled=alarm is not None and maybe_int(alarm) == 1,
        )
        temperature = board_temperature_c(self.sysroot)
        if temperature is not None:
            health.temperature_c = temperature
        return health

    def spare_bytes(self) -> int:
        """What decoding a file may take: a quarter of the memory that is free. A device that swaps
        is a device that measures wrong."""
        return _memory_available_bytes(self.sysroot) // 4


def _memory_available_bytes(sysroot: Path) -> int:
    text = maybe_text(sysroot / "proc/meminfo") or ""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0
