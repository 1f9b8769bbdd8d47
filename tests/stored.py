"""A sweep in a real store: leased and reported as an agent would, with traces in the artifacts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from assay.controller.comparing.sweep_data import SweepData
from assay.controller.home import Home
from assay.controller.records import RoundState, SweepState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.convert import to_bytes
from tests.factories import DATASET, T0_NS, Shape, make_sweep

HOUR_NS = 3_600_000_000_000


def stored_sweep(
    home: Home,
    scratch: Path,
    *,
    shapes: tuple[Shape, ...],
    rounds: int = 3,
    spoil: bool = True,
    changed: Callable[[SweepData], SweepData] = lambda data: data,
) -> Store:
    """Fills the store of ``home`` with a sweep, ``changed`` where wanted; the caller closes what is
    returned."""
    blobs = ContentStore(home.create().artifacts)
    data = make_sweep(
        shapes=shapes, rounds=rounds, blobs=blobs, scratch=scratch, samples=200, spoil=spoil
    )
    data = changed(data)
    store = open_store(home)
    store.add_dataset(DATASET)
    for variant in data.variants.values():
        store.add_variant(variant)
    for device in data.devices.values():
        store.add_device(device)
        store.seen(device.device_id, device.facts, T0_NS)
    queued = [
        replace(
            round_,
            state=RoundState.QUEUED,
            fence=0,
            grants=0,
            runs=tuple(
                replace(run, attempt_id=f"{round_.round_id}-{i}")
                for i, run in enumerate(round_.runs)
            ),
        )
        for round_ in data.rounds
    ]
    store.add_sweep(replace(data.sweep, state=SweepState.RUNNING), data.cells, queued)
    for device in data.devices.values():
        _run_rounds(store, device.device_id, data)
    return store


def _run_rounds(store: Store, device_id: str, data: SweepData) -> None:
    made = {(r.result.run.cell_key, r.result.round_id): r.result for r in data.results}
    now_ns = T0_NS
    while (lease := store.lease_round(device_id, HOUR_NS, now_ns)) is not None:
        bodies = []
        for run in lease.runs:
            result = replace(
                made[run.cell_key, lease.round_id],
                attempt_id=run.attempt_id,
                fence=lease.fence,
                run=run,
            )
            body = to_bytes(result)
            sha256 = digest.hex_of(digest.of_bytes(body))
            bodies.append((run.attempt_id, result.seq, sha256, body))
        now_ns += 60_000_000_000
        store.record(device_id, bodies, now_ns)
        store.finish_round(lease.round_id, lease.fence, RoundState.DONE, now_ns)
