"""Which artifacts the records name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, or_, select

from assay.controller.records import RoundState, SweepState
from assay.controller.store.schema import (
    cells,
    datasets,
    results,
    round_artifacts,
    rounds,
    sweeps,
    variants,
)
from assay.controller.store.tables.sweeps import digests_of
from assay.core import digest
from assay.core.convert import from_bytes
from assay.core.model import RunSpec


def named(tx: Connection) -> frozenset[str]:
    """See :meth:`Store.named_artifacts`."""
    return frozenset([*_catalogued(tx), *_measured(tx), *_planned(tx)])


def _catalogued(tx: Connection) -> Iterator[str]:
    """Whatever looks like a digest: one too many keeps a file, one too few would lose it."""
    for columns in (
        (variants.c.files, variants.c.identity, variants.c.notes),
        (datasets.c.splits,),
    ):
        for row in tx.execute(select(*columns)):
            yield from _found_in(row)


def _found_in(row: Any) -> Iterator[str]:
    for value in row:
        yield from digest.found_in(json.dumps(value))


def _measured(tx: Connection) -> Iterator[str]:
    traces = select(results.c.trace_digest).where(results.c.trace_digest.is_not(None))
    yield from tx.execute(traces.distinct()).scalars()
    wanted = (
        select(rounds.c.round_id)
        .join(sweeps, sweeps.c.sweep_id == rounds.c.sweep_id)
        .where(
            or_(
                sweeps.c.state == SweepState.RUNNING.value,
                # Of a cancelled sweep, until the device lets go of it.
                rounds.c.state == RoundState.LEASED.value,
                rounds.c.round_id.in_(select(results.c.round_id)),
            )
        )
    )
    query = select(round_artifacts.c.digest).where(round_artifacts.c.round_id.in_(wanted))
    yield from tx.execute(query.distinct()).scalars()


def _planned(tx: Connection) -> Iterator[str]:
    query = select(cells.c.run, sweeps.c.state).join(sweeps, sweeps.c.sweep_id == cells.c.sweep_id)
    for row in tx.execute(query):
        run = from_bytes(row.run, RunSpec)
        # A device back from quarantine is tried with the last canary it was given.
        if run.canary or row.state == SweepState.RUNNING.value:
            yield from digests_of([run])
