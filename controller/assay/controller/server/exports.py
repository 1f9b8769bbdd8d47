"""Files that are made to be read once by who asked for them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from assay.controller.home import Home
from assay.core.errors import UsageError

LONGEST_S = 3600.0
_AT_ONCE = 2


class Exports:
    """Room for such files below the home: two at once, each gone with its call, and whatever a
    killed controller left behind gone at the start."""

    def __init__(self, home: Home) -> None:
        self._room = home.root / "exports"
        self._places = asyncio.Semaphore(_AT_ONCE)
        shutil.rmtree(self._room, ignore_errors=True)

    @asynccontextmanager
    async def place(self, context: Any) -> AsyncIterator[Path]:
        """A path for one file; :class:`UsageError` for a call without an end, since who reads
        nothing would keep the place."""
        left_s = context.time_remaining()
        if left_s is None or left_s > LONGEST_S:
            raise UsageError(f"set a deadline of at most {LONGEST_S:g} s")
        async with self._places:
            self._room.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._room) as folder:
                yield Path(folder) / "results"
