"""Bytes of the blob process: counted as they pass, told by lines, added up over its restarts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from assay.controller.blobs.counting import RECEIVED, SENT, ByteCount, from_line, to_lines
from assay.controller.metrics.tally import Tally
from assay.controller.server.counting import count_bytes
from assay.controller.server.leash import leashed
from assay.core.encoding import Encoding

# Moves some bytes and dies, then moves some more and stays.
_CHILD = """
import pathlib, sys
mark = pathlib.Path(sys.argv[1])
print("blobs=7000", flush=True)
print("sent zstd 100", flush=True)
if not mark.exists():
    mark.touch()
    sys.exit(1)
print("received identity 7", flush=True)
sys.stdin.read()
"""


def test_what_passes_is_counted_once_and_told_as_it_was() -> None:
    count = ByteCount()
    assert list(count.passing(SENT, Encoding.ZSTD, [b"abc", b"de"])) == [b"abc", b"de"]
    halfway = count.passing(RECEIVED, Encoding.IDENTITY, [b"x" * 10, b"y"])
    next(halfway)
    taken = count.take()
    assert [from_line(line) for line in to_lines(taken).splitlines()] == [
        ("sent", "zstd", 5),
        ("received", "identity", 10),
    ]
    assert list(halfway) == [b"y"]
    assert count.take() == {("received", "identity"): 1}
    assert to_lines(count.take()) == ""


def test_a_restart_of_the_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    wanted = {("sent", "zstd"): 200, ("received", "identity"): 7}

    async def work() -> None:
        tally = Tally()
        command = [sys.executable, "-c", _CHILD, str(tmp_path / "mark")]
        async with leashed("blob", command, {"blobs": 0}) as child:
            tasks = [
                asyncio.create_task(child.watch()),
                asyncio.create_task(count_bytes(child, tally)),
            ]
            async with asyncio.timeout(20):
                while tally.now().blob_bytes != wanted:
                    await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)

    asyncio.run(work())
