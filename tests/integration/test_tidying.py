"""The controller's own garbage collection: a process of its own, by the clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from structlog.testing import capture_logs

from assay.controller.home import Home
from assay.controller.server.tidying import tidy
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_ONNX


def collected(home: Home, events: int) -> list[dict[str, object]]:
    """What it says until it has said so much."""

    async def work() -> None:
        tidying = asyncio.create_task(tidy(home, first_after_s=0, every_s=0))
        async with asyncio.timeout(60):
            while len(logs) < events:
                await asyncio.sleep(0.01)
        tidying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tidying

    with capture_logs() as logs:
        asyncio.run(work())
    return list(logs)[:events]  # type: ignore[arg-type]


def test_files_that_nothing_names_go_and_young_ones_stay(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    store, blobs = open_store(home), ContentStore(home.artifacts)
    old, young = (blobs.add_bytes(data, MEDIA_ONNX).digest for data in (b"old", b"young"))
    os.utime(blobs.path(old), (1, 1))
    (said,) = collected(home, 1)
    assert said["event"] == "garbage was collected"
    assert "1 file(s)" in str(said["said"])
    assert not blobs.has(old) and blobs.has(young)
    assert [entry.action for entry in store.audit(9)] == ["store gc"]
    store.close()


def test_a_collection_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    home = Home(tmp_path / "nothing")
    for said in collected(home, 2):
        assert said["event"] == "garbage was not collected"
        assert "holds no store" in str(said["reason"])
