"""What an agent's home directory tells about it; read only, nothing secret comes back."""

from __future__ import annotations

import json
from pathlib import Path

_TOLD = ("name", "device_id", "enrolled_at", "fleet_address", "not_after_unix_s")


def identity(home: Path) -> dict:
    """Name, id, controller and the certificate's end; empty before enrolment."""
    try:
        found = json.loads((home / "identity.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: found[key] for key in _TOLD if key in found}


def rounds_held(home: Path) -> int:
    """How many rounds of work it holds."""
    return len(list((home / "rounds").glob("*.json")))


def spool_bytes(home: Path) -> int:
    """The size of what waits to be acknowledged."""
    try:
        return (home / "spool.log").stat().st_size
    except OSError:
        return 0
