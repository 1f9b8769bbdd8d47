"""What the blob process says it moved, added to the controller's counts."""

from __future__ import annotations

import asyncio
from typing import IO

from assay.controller.blobs.counting import from_line
from assay.controller.metrics.tally import Tally
from assay.controller.server.leash import Child

_GONE_S = 0.5


async def count_bytes(blobs: Child, tally: Tally) -> None:
    """Listens to the child, and to the one that is started in its place; runs until cancelled. A
    child tells what it moved since it told last, so that nothing is lost or counted twice with it.
    """
    while True:
        pipe = blobs.process.stdout
        line = await asyncio.to_thread(_next_line, pipe) if pipe is not None else b""
        if line:
            tally.moved(*from_line(line.decode()))
        else:
            await asyncio.sleep(_GONE_S)


def _next_line(pipe: IO[bytes]) -> bytes:
    try:
        return pipe.readline()
    except (OSError, ValueError):  # it is being closed
        return b""
