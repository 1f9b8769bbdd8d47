"""Raw results as SQLite views for Grafana's data source: a file apart from the live database.

A dashboard that reads the store itself could hold its locks and see half a migration. The mirror
holds the flat rows of :mod:`export_row` (``results``) and the views that docs/watching.md
describes; it is written in one transaction, so a reader sees the old state or the new one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.controller.exporting.row import COLUMNS, flat_row
from assay.controller.store.base import Store

VIEWS: Mapping[str, str] = {
    # One line a result, named as people name things.
    "result_overview": """
        SELECT recorded_unix_seconds AS recorded_s, sweep, device, device_class, model, variant,
               runtime, scenario, verdict, reasons, failure, p50_seconds AS p50_s,
               p99_seconds AS p99_s, energy_joules AS energy_j, accuracy_ratio AS accuracy,
               attempt_id
        FROM results WHERE NOT canary AND NOT superseded""",
    # VALID results only: the median over restarts (nearest rank), with the least and greatest.
    "cell_latency": """
        SELECT device, device_class, model, variant, runtime, scenario, restarts,
               p50_seconds AS p50_s, p50_least_s, p50_greatest_s
        FROM (SELECT *, count(*) OVER cell AS restarts, min(p50_seconds) OVER cell AS p50_least_s,
                     max(p50_seconds) OVER cell AS p50_greatest_s,
                     row_number() OVER (PARTITION BY cell_key ORDER BY p50_seconds) AS place
              FROM results
              WHERE verdict = 'valid' AND p50_seconds IS NOT NULL AND NOT canary AND NOT superseded
              WINDOW cell AS (PARTITION BY cell_key))
        WHERE place = (restarts + 1) / 2""",
    "reason_count": """
        SELECT device, code, count(*) AS results FROM reasons GROUP BY device, code""",
    "device_validity": """
        SELECT device, avg(verdict = 'valid') AS valid_ratio, count(*) AS results
        FROM results WHERE NOT superseded GROUP BY device""",
}
_TYPES = {"string": "TEXT", "int": "INTEGER", "float": "REAL", "bool": "INTEGER"}


def write_mirror(store: Store, path: Path) -> int:
    """Brings the mirror at ``path`` up to date; returns how many results it gained."""
    sweeps = {sweep.sweep_id: sweep.name for sweep in store.sweeps()}
    variants = {variant.variant_id: variant for variant in store.variants()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as mirror:
        mirror.execute("PRAGMA journal_mode=DELETE")  # a reader needs no right to write
        mirror.execute("BEGIN IMMEDIATE")
        _prepare(mirror)
        held = {tuple(key) for key in mirror.execute("SELECT attempt_id, seq FROM results")}
        records = store.results(superseded=True)
        new = [r for r in records if (r.attempt_id, r.seq) not in held]
        rows = [{**flat_row(r, variants), "sweep": sweeps.get(r.result.sweep_id, "")} for r in new]
        _insert(mirror, rows)
        gone = [(r.attempt_id, r.seq) for r in records if r.superseded]
        mirror.executemany("UPDATE results SET superseded = 1 WHERE attempt_id=? AND seq=?", gone)
        mirror.execute("COMMIT")
    return len(rows)


def _prepare(mirror: sqlite3.Connection) -> None:
    columns = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in _columns().items())
    mirror.execute(f"CREATE TABLE IF NOT EXISTS results ({columns}, UNIQUE (attempt_id, seq))")
    mirror.execute("CREATE INDEX IF NOT EXISTS results_cell ON results (cell_key)")
    mirror.execute("CREATE TABLE IF NOT EXISTS reasons (device TEXT, code TEXT, attempt_id TEXT)")
    for name, text in VIEWS.items():
        mirror.execute(f"DROP VIEW IF EXISTS {name}")
        mirror.execute(f"CREATE VIEW {name} AS {text}")


def _insert(mirror: sqlite3.Connection, rows: Sequence[Mapping[str, object]]) -> None:
    names = list(_columns())
    marks = ", ".join("?" * len(names))
    statement = f"INSERT INTO results ({', '.join(names)}) VALUES ({marks})"
    mirror.executemany(statement, [[row.get(name) for name in names] for row in rows])
    mirror.executemany(
        "INSERT INTO reasons VALUES (?, ?, ?)",
        [
            (row["device"], code, row["attempt_id"])
            for row in rows
            for code in str(row["reasons"] or "").split()
        ],
    )


def _columns() -> dict[str, str]:
    return {"sweep": "string", **COLUMNS}
