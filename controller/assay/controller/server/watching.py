"""The watching process seen from the controller: its command, and what it is told of devices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import IO

from assay.controller.home import Home
from assay.controller.metrics.tally import Tallied, Tally
from assay.controller.metrics.vitals import VitalsBoard, to_line
from assay.controller.server.leash import Child

_PACE_S = 0.25


def watching_command(
    home: Home, host: str, log_level: str, *, json_lines: bool, tls: bool
) -> list[str]:
    """The command line of the child, but for its ports."""
    module = "assay.controller.live.process"
    style, access = "json" if json_lines else "text", "tls" if tls else "usual"
    return [sys.executable, "-m", module, log_level, style, str(home.root), host, access]


async def tell(child: Child, vitals: VitalsBoard, tally: Tally) -> None:
    """Passes vitals and counts on as they come, everything to a child that was started again; runs
    until it is cancelled. The control loop does not wait for the child."""
    told, said = None, Tallied()
    while True:
        fresh = vitals.fresh()
        process = child.process
        if process is not told:
            told, said, fresh = process, Tallied(), vitals.all()
        counted = tally.now()
        if (fresh or counted != said) and process.stdin is not None:
            text = "".join(to_line(name, each) for name, each in fresh.items())
            text += counted.to_line()
            said = counted
            with contextlib.suppress(OSError, ValueError):  # it died, and is started again
                await asyncio.to_thread(_write, process.stdin, text.encode())
        await asyncio.sleep(_PACE_S)


def _write(pipe: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(pipe.fileno(), left) :]
