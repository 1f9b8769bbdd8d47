"""How fast results are recorded, beside a bare SQL loop.

    python -m bench.fleet.rate [--results 10000] [--batch 50] [--turns 3]

All commit batch by batch with every commit flushed to disk, into copies of one database where the
attempts are leased already. ``rows`` is a loop over sqlite3 that only inserts the rows that
recording leaves; ``statements`` one that runs every statement that recording needs: what is known
of the attempts, the rows, the rounds that close. ``store`` is one call of the store for each batch,
one after the other: hashes, decoding, checks, statements. ``recorder`` is what the controller does
with them, eight devices at a time, who share commits; ``wire`` is ReportResults over mTLS to a
controller process, likewise. By turns; each ratio is of one turn, printed is the median one. Exit
status 1 where the store has less than 0.8 of the statements alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from bench.fleet.made import credentials, enrol_fleet
from sqlalchemy import Engine, event

from assay.controller.home import Home
from assay.controller.records import RecordOutcome
from assay.controller.server.recorder import Recorder
from assay.controller.store import open_store
from assay.controller.store.arrival import arrived
from assay.core.channel import dial
from assay.v1 import fleet_pb2, fleet_pb2_grpc
from tests.plane import queued, reported, result, sweep
from tests.plane_client import controller_process

LEAST = 0.8
_LEASE_NS = 3_600_000_000_000
_AT_A_TIME = 8

Statement = tuple[str, tuple[Any, ...]]
Batch = tuple[str, list[tuple[str, int, str, bytes]]]


def main() -> int:
    """Prints the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-rate-") as folder:
        found = measure(Path(folder), options.results, options.batch, options.turns)
    print(json.dumps(found, indent=2))
    return 0 if found["store_to_statements"] >= LEAST else 1


def measure(folder: Path, count: int, size: int, turns: int) -> dict[str, float]:
    """Results a second in each way, and what part of the bare loop's that is."""
    leased, file = Home(folder / "leased"), folder / "fleet.json"
    enrol_fleet(leased, file, count // size)
    batches = leased_batches(leased, size)
    count = size * len(batches)
    said = copied(leased, folder / "said")
    statements, rows = recorded_statements(said, batches), recorded_rows(said, size)
    rates: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns):
        for way, run in (
            ("store", lambda home: through_store(home, batches)),
            ("rows", lambda home: bare(home, rows)),
            ("statements", lambda home: bare(home, statements)),
            ("recorder", lambda home: through_recorder(home, batches)),
            ("wire", lambda home: through_wire(home, file, batches)),
        ):
            rates[way].append(count / run(copied(leased, folder / f"{way}-{turn}")))
    ratios = {
        f"{way}_to_{bare_way}": median(
            a / b for a, b in zip(rates[way], rates[bare_way], strict=True)
        )
        for way in ("store", "recorder", "wire")
        for bare_way in ("statements", "rows")
    }
    per_s = {f"{way}_per_s": median(each) for way, each in rates.items()}
    return {name: round(value, 2) for name, value in (per_s | ratios).items()}


def leased_batches(home: Home, count: int) -> list[Batch]:
    """Leases a round to each device; the results, as they would lie in its spool."""
    store = open_store(home)
    rounds = []
    for device in store.devices():
        each = queued(f"r-{device.name}", *["fp32"] * count, device_id=device.device_id)
        runs = (
            replace(run, attempt_id=f"{each.round_id}-{at}") for at, run in enumerate(each.runs)
        )
        rounds.append(replace(each, runs=tuple(runs)))
    store.add_sweep(sweep(), [], rounds)
    made: list[Batch] = []
    for each in rounds:
        granted = store.lease_round(each.device_id, _LEASE_NS, time.time_ns())
        assert granted is not None
        results = [reported(result(granted, at)) for at in range(count)]
        made.append((each.device_id, results))
    store.close()
    return made


def copied(home: Home, root: Path) -> Home:
    """The same home once more."""
    shutil.copytree(home.root, root)
    return Home(root)


def through_store(home: Home, batches: Sequence[Batch]) -> float:
    """Seconds."""
    store = open_store(home)
    began = time.perf_counter()
    for batch in batches:
        device_id, results = batch
        store.record_all([(device_id, [arrived(one) for one in results])], time.time_ns())
    took = time.perf_counter() - began
    store.close()
    return took


def through_recorder(home: Home, batches: Sequence[Batch]) -> float:
    """Seconds."""
    store = open_store(home)
    recorder = Recorder(store, time.time_ns)
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        began = time.perf_counter()
        done = list(threads.map(lambda batch: recorder.record(*batch).result(), batches))
        took = time.perf_counter() - began
    recorder.close()
    store.close()
    assert {one.outcome for each in done for one in each} == {RecordOutcome.STORED}
    return took


def recorded_statements(home: Home, batches: Sequence[Batch]) -> list[list[Statement]]:
    """Records into ``home``; what the store said to the database in each transaction."""
    said: list[list[Statement]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("BEGIN"):
            said.append([])
        else:
            said[-1].append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", listen)
    through_store(home, batches)
    event.remove(Engine, "before_cursor_execute", listen)
    return said


def recorded_rows(home: Home, size: int) -> list[list[Statement]]:
    """The insertion of what is in ``home``, by transaction."""
    with sqlite3.connect(home.database) as source:
        rows = source.execute("SELECT * FROM results ORDER BY entry").fetchall()
    insert = f"INSERT INTO results VALUES ({', '.join('?' * len(rows[0]))})"
    return [[(insert, row) for row in rows[at : at + size]] for at in range(0, len(rows), size)]


def bare(home: Home, transactions: Sequence[Sequence[Statement]]) -> float:
    """Seconds."""
    database = sqlite3.connect(home.database, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        database.execute(f"PRAGMA {pragma}")
    began = time.perf_counter()
    for statements in transactions:
        database.execute("BEGIN IMMEDIATE")
        for statement, parameters in statements:
            database.execute(statement, parameters).fetchall()
        database.execute("COMMIT")
    took = time.perf_counter() - began
    database.close()
    return took


def through_wire(home: Home, file: Path, batches: Sequence[Batch]) -> float:
    """Seconds; the connections are there before."""
    with controller_process(home) as controller, ExitStack() as stack:
        address = controller.start().fleet_address
        reports = []
        for own in credentials(file, 0, len(batches)):
            channel = stack.enter_context(dial(address, own))
            grpc.channel_ready_future(channel).result(60)
            reports.append(fleet_pb2_grpc.FleetStub(channel).ReportResults)
        requests = [
            fleet_pb2.ReportResultsRequest(
                results=[
                    fleet_pb2.SpooledResult(attempt_id=a, seq=seq, sha256=sha256, body=body)
                    for a, seq, sha256, body in results
                ]
            )
            for _, results in batches
        ]
        with ThreadPoolExecutor(_AT_A_TIME) as threads:
            began = time.perf_counter()
            replies = list(threads.map(lambda report, it: report(it), reports, requests))
            took = time.perf_counter() - began
    stored = sum(ack.status == fleet_pb2.RECORD_STATUS_STORED for r in replies for ack in r.acks)
    assert stored == sum(len(results) for _, results in batches)
    return took


if __name__ == "__main__":
    sys.exit(main())
