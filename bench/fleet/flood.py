"""A fleet that comes back from an outage, every device with a full spool.

    python -m bench.fleet.flood [--devices 1000] [--results 1000] [--processes 4]

A real controller, mTLS, and client processes (:mod:`bench.fleet.spools`) that report as agents do
and keep to the pace the controller sets. Beside them other devices sync once a second, before the
flood and through it. Prints one JSON object; exit status 1 where a result was lost, doubled or
acknowledged otherwise than once, a call ended with a status code that was not to be expected, or
the controller's memory, its log beside the database or the time of a Sync left their bounds. It
takes 2.5 kB of disk for each result, under ``--folder``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench.fleet.attached import resident_bytes
from bench.fleet.clients import Clients, Habit
from bench.fleet.made import enrol_fleet
from bench.fleet.processes import Processes, shares
from bench.fleet.spools import Made, attempt_id

from assay.controller.home import Home
from assay.controller.records import RoundState
from assay.controller.store import open_store
from assay.v1 import job_pb2
from tests.plane import queued, sweep
from tests.plane_client import controller_process

MOST_GROWN_BYTES = 96 << 20
MOST_GROWN_BYTES_EACH = 384 << 10  # a connection, and what gRPC takes in of a call nobody reads
MOST_LOG_BYTES = 64 << 20
MOST_SYNC_S = 1.0
_LEASE_NS = 24 * 3_600_000_000_000
_BEFORE_S = 10.0
_PATIENCE_S = 1_200.0
_BUSY = "UNAVAILABLE"  # what a device that is told to come back later sees
_SAMPLED = 500


def main() -> int:
    """Prints the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--results", type=int, default=1000, help="In the spool of each.")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--onlookers", type=int, default=50, help="Devices that only sync.")
    parser.add_argument("--spread", type=float, default=1.0, help="Seconds in which all dial.")
    parser.add_argument("--folder", help="Where there is room for the database.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-flood-", dir=options.folder) as folder:
        found = measure(Path(folder), options)
    print(json.dumps(found, indent=2))
    return 1 if found["wrong"] else 0


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Enrols, leases, lets it come, counts."""
    count, results, onlookers = options.devices, options.results, options.onlookers
    home, flooding, looking = Home(folder / "home"), folder / "fleet.json", folder / "looking.json"
    enrol_fleet(home, flooding, count)
    enrol_fleet(home, looking, onlookers, first=count)
    lease_to_all(home, count, results)
    with controller_process(home) as controller:
        serving = controller.start()
        every_s = Habit(spread_s=1.0, wait_s=0.0, pause_s=1.0)
        with Clients(looking, onlookers, 1, serving.fleet_address, every_s) as look:
            look.ask()
            time.sleep(2)
            look.ask()
            time.sleep(_BEFORE_S)
            before, rss = look.ask(), resident_bytes(serving.pid)
            log = home.database.with_name(f"{home.database.name}-wal")
            grown = log_bytes = 0
            how = (results, serving.fleet_address, options.spread)
            mine = [(flooding, *share, *how) for share in shares(count, options.processes)]
            began = time.monotonic()
            took_s: list[float] = []
            with Processes("bench.fleet.spools", mine) as flood:
                while (told := _sum(flood.ask()))["empty"] < count:
                    if time.monotonic() - began > _PATIENCE_S:
                        break
                    time.sleep(0.5)
                    grown = max(grown, resident_bytes(serving.pid) - rss)
                    log_bytes = max(log_bytes, log.stat().st_size)
                    during = look.ask()
                    took_s += during.took_s
            seconds = time.monotonic() - began
    stored = counted(home, count, results)
    found = {
        "devices": count,
        "results": count * results,
        "seconds": round(seconds, 1),
        "results_per_s": round(sum(told["acks"].values()) / seconds),
        **{name: told[name] for name in ("calls", "reasons", "acks")},
        "longest_call_s": round(told["longest_s"], 1),
        "paused_s_per_device": round(told["paused_s"] / count, 1),
        **stored,
        "body_mb": round(told["body_bytes"] / 1e6),
        "most_log_mb": round(log_bytes / 1e6, 1),
        "rss_before_mb": round(rss / 1e6),
        "most_grown_mb": round(grown / 1e6),
        "sync_codes": during.codes,
        "sync_p99_ms_before": round(p99(before.took_s) * 1e3, 1),
        "sync_p99_ms": round(p99(took_s) * 1e3, 1),
        "sync_p99_ratio": round(p99(took_s) / p99(before.took_s), 1),
    }
    found["wrong"] = [
        what
        for what, is_so in {
            "acknowledged": told["acks"] != {"STORED": count * results},
            "lost": stored["lost"] > 0,
            "doubled": stored["doubled"] > 0,
            "other_bytes": stored["other_bytes"] > 0,
            "rounds": stored["rounds_not_done"] > 0,
            "calls": bool(set(told["calls"]) - {"OK", _BUSY}),
            "syncs": set(during.codes) != {"OK"},
            "sync_p99": p99(took_s) > MOST_SYNC_S,
            "memory": grown > MOST_GROWN_BYTES + count * MOST_GROWN_BYTES_EACH,
            "log": log_bytes > MOST_LOG_BYTES,
        }.items()
        if is_so
    ]
    return found


def lease_to_all(home: Home, devices: int, results: int) -> None:
    """A round of so many runs, leased to each device.

    The store leases the first; all are its rows under names of their own, since a million runs take
    minutes to plan.
    """
    store = open_store(home)
    first = next(device for device in store.devices() if device.name == "d00000")
    each = queued("r00000", *["fp32"] * results, device_id=first.device_id)
    runs = tuple(replace(run, attempt_id=attempt_id(0, at)) for at, run in enumerate(each.runs))
    store.add_sweep(sweep(), [], [replace(each, runs=runs)])
    assert store.lease_round(first.device_id, _LEASE_NS, time.time_ns()) is not None
    store.close()
    with sqlite3.connect(home.database) as database:
        database.row_factory = sqlite3.Row
        round_ = dict(database.execute("SELECT * FROM rounds").fetchone())
        attempt = dict(database.execute("SELECT * FROM attempts").fetchone())
        for table in ("round_artifacts", "attempts", "rounds"):
            database.execute(f"DELETE FROM {table}")
        message = job_pb2.Round.FromString(round_["body"])
        for device in range(devices):
            own = {"round_id": f"r{device:05}", "device_id": f"id-d{device:05}"}
            names = [attempt_id(device, at) for at in range(results)]
            message.round_id = own["round_id"]
            for run, name in zip(message.runs, names, strict=True):
                run.attempt_id = name
            _insert(database, "rounds", [round_ | own | {"body": message.SerializeToString()}])
            _insert(database, "attempts", [attempt | own | {"attempt_id": n} for n in names])
    database.close()


def counted(home: Home, devices: int, results: int) -> dict[str, Any]:
    """What the store holds, and whether it is what was sent."""
    with sqlite3.connect(home.database) as database:
        kept, distinct = database.execute(
            "SELECT count(*), count(DISTINCT attempt_id) FROM results WHERE NOT superseded"
        ).fetchone()
        (undone,) = database.execute(
            "SELECT count(*) FROM rounds WHERE state <> ?", (RoundState.DONE.value,)
        ).fetchone()
        made, other = Made(), 0
        step = max(1, devices * results // _SAMPLED)
        for number in range(0, devices * results, step):
            entry = made.entry(attempt_id(*divmod(number, results)))
            found = database.execute(
                "SELECT sha256, body FROM results WHERE attempt_id = ?", (entry.attempt_id,)
            ).fetchone()
            same = found == (entry.sha256, entry.body)
            other += not same or hashlib.sha256(found[1]).hexdigest() != entry.sha256
    database.close()
    return {
        "lost": devices * results - distinct,
        "doubled": kept - distinct,
        "other_bytes": other,
        "rounds_not_done": undone,
        "database_mb": round(home.database.stat().st_size / 1e6),
    }


def p99(values: list[float]) -> float:
    """Of at least two values."""
    return quantiles(values, n=100, method="inclusive")[98]


def _insert(database: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    places = ", ".join("?" * len(names))
    database.executemany(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})",
        [tuple(row[name] for name in names) for row in rows],
    )


def _sum(said: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all processes: counts added, the longest call of all."""
    whole: dict[str, Any] = {}
    for each in said:
        for name, value in each.items():
            if isinstance(value, dict):
                counts = whole.setdefault(name, {})
                for key, number in value.items():
                    counts[key] = counts.get(key, 0) + number
            elif name == "longest_s":
                whole[name] = max(whole.get(name, 0), value)
            else:
                whole[name] = whole.get(name, 0) + value
    return whole


if __name__ == "__main__":
    sys.exit(main())
