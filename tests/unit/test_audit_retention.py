"""The audit log is kept as long as was asked for, and says what went."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

from assay.controller.admin.retention import prune_audit
from assay.controller.home import Home
from assay.controller.records import AuditRecord, Role
from assay.controller.server.administering import AdminServer
from assay.controller.store import open_store
from assay.controller.store.base import Store

DAY_NS = 86_400 * 10**9
NOW_NS = 400 * DAY_NS


def logged(tmp_path: Path) -> Store:
    store = open_store(Home(tmp_path))
    for day in (1, 200, 399):
        store.add_audit(
            AuditRecord(day * DAY_NS, "anna", Role.OPERATOR, "home", "sweep cancel", f"{day}", "ok")
        )
    return store


def test_older_entries_go_and_the_log_says_so(tmp_path: Path) -> None:
    store = logged(tmp_path)
    assert prune_audit(store, 365, NOW_NS) == 1
    assert [entry.subject for entry in store.audit(10)] == [
        "200",
        "399",
        "1 entries older than 365 days",
    ]
    assert prune_audit(store, 365, NOW_NS) == 0
    assert len(store.audit(10)) == 3


def test_zero_keeps_everything(tmp_path: Path) -> None:
    store = logged(tmp_path)
    assert prune_audit(store, 0, NOW_NS) == 0
    assert len(store.audit(10)) == 3


def test_a_controller_does_it_as_it_starts(tmp_path: Path) -> None:
    store = logged(tmp_path)
    pruned = threading.Event()

    def now_ns() -> int:
        pruned.set()
        return NOW_NS

    async def run() -> None:
        server = AdminServer(Home(tmp_path), store, now_ns, audit_days=30)
        task = asyncio.create_task(server.watch())
        await asyncio.to_thread(pruned.wait, 10)
        await server.stop()  # waits for what its threads are at
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [entry.subject for entry in store.audit(10)] == ["399", "2 entries older than 30 days"]
