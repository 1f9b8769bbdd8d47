"""Starting, resuming and cancelling sweeps: reads the store, lets :mod:`plan` decide, writes it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assay.controller.canary import canary_variant
from assay.controller.planning import health, timers
from assay.controller.planning import plan as planning
from assay.controller.planning.cells import choose_variants
from assay.controller.planning.plan import Plan
from assay.controller.planning.spec import SweepSpec
from assay.controller.records import RoundRecord, SweepRecord, SweepState
from assay.controller.store.base import Store
from assay.controller.variants.resizing import at_dims
from assay.core.cas import ContentStore
from assay.core.errors import AlreadyExists, NotFound


@dataclass(frozen=True, slots=True)
class Submitted:
    """A sweep that now runs; ``added`` rounds are new, ``plan`` is None where it was resumed."""

    sweep: SweepRecord
    added: tuple[RoundRecord, ...]
    plan: Plan | None


def plan_sweep(spec: SweepSpec, store: Store, blobs: ContentStore) -> Plan:
    """What :func:`submit` would do; nothing is written but the canary's files, and inputs of the
    sizes that the file sets."""
    spec = _as_begun(spec, store)
    variants = store.variants()
    if spec.dims:
        resized = at_dims(choose_variants(spec, variants), spec.dims, blobs, spec.name)
        variants = list({v.variant_id: v for v in (*variants, *resized)}.values())
    return planning.make_plan(
        spec,
        sweep_id=uuid.uuid4().hex[:12],
        now_ns=time.time_ns(),
        dataset=store.dataset(spec.dataset) if spec.dataset else None,
        variants=variants,
        devices=store.devices(),
        canary=canary_variant(blobs),
        datasets=store.datasets(),
    )


def submit(spec: SweepSpec, store: Store, blobs: ContentStore) -> Submitted:
    """Starts the sweep, or resumes the one of the same name and content.

    :class:`AlreadyExists` where the name belongs to a sweep from another file.
    """
    fresh = plan_sweep(spec, store, blobs)
    try:
        known = store.sweep(spec.name)
    except NotFound:
        store.add_sweep(fresh.sweep, fresh.cells, fresh.rounds)
        return Submitted(fresh.sweep, fresh.rounds, fresh)
    same_file = known.spec_json == fresh.sweep.spec_json
    same_cells = {c.cell_key for c in store.cells(known.sweep_id)} == {
        c.cell_key for c in fresh.cells
    }
    if not (same_file and same_cells):
        what = "another file" if not same_file else "other variants, data or devices"
        raise AlreadyExists(
            f"sweep {spec.name!r} exists and was made from {what}; give this one another name"
        )
    return resume(known, store)


def resume(sweep: SweepRecord, store: Store) -> Submitted:
    """Adds the rounds the sweep still lacks; none where every cell has its VALID results."""
    cells = store.cells(sweep.sweep_id)
    rounds = store.rounds(sweep.sweep_id)
    added = planning.more_rounds(sweep, cells, rounds, store.results(sweep_id=sweep.sweep_id))
    if added:
        store.add_rounds(_from_now_on(added))
    return Submitted(store.sweep(sweep.sweep_id), tuple(added), None)


def tend(store: Store) -> None:
    """Adds rounds to sweeps that ended with cells still lacking, while their ``retries`` last and
    somebody takes them; sets the others DONE. Called by the controller every second."""
    for sweep in store.sweeps():
        if sweep.state is not SweepState.RUNNING or store.is_open(sweep.sweep_id):
            continue
        cells = store.cells(sweep.sweep_id)
        rounds = store.rounds(sweep.sweep_id)
        added: Sequence[RoundRecord] = ()
        if planning.retries_left(sweep, cells, rounds):
            results = store.results(sweep_id=sweep.sweep_id)
            given_up = timers.abandoned(rounds)
            tried = [cell for cell in cells if cell.group not in given_up]
            added = planning.more_rounds(sweep, tried, rounds, results)
        if added:
            store.add_rounds(_from_now_on(added), while_running=True)
        else:
            store.set_sweep_state(sweep.sweep_id, SweepState.DONE)
            health.conclude(store, sweep)


def cancel(sweep: SweepRecord, store: Store) -> SweepRecord:
    """Stops a sweep: queued rounds at once, a running one by its device's next sync."""
    store.set_sweep_state(sweep.sweep_id, SweepState.CANCELLED)
    return replace(sweep, state=SweepState.CANCELLED)


def _as_begun(spec: SweepSpec, store: Store) -> SweepSpec:
    """The file, and where it leaves spinning open what its sweep was begun with: older versions
    took another default and wrote it down as if the file had said it."""
    try:
        begun = json.loads(store.sweep(spec.name).spec_json).get("runtimes", [])
    except NotFound:
        return spec
    if len(begun) != len(spec.runtimes):
        return spec
    runtimes = [
        choice.model_copy(update={"allow_spinning": before.get("allow_spinning")})
        if choice.allow_spinning is None
        else choice
        for choice, before in zip(spec.runtimes, begun, strict=True)
    ]
    return spec.model_copy(update={"runtimes": runtimes})


def _from_now_on(added: Sequence[RoundRecord]) -> list[RoundRecord]:
    now_ns = time.time_ns()
    return [replace(round_, since_ns=now_ns) for round_ in added]
