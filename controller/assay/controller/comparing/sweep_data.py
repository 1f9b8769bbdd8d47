"""What the store knows of one sweep, read once; everything that shows it starts from this value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assay.controller.records import (
    CellRecord,
    DatasetRecord,
    DeviceRecord,
    ResultRecord,
    RoundRecord,
    SweepRecord,
    VariantRecord,
)
from assay.controller.store.base import Store
from assay.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class SweepData:
    """A sweep with all that belongs to it.

    ``results`` are the sweep's own, and for a cell that has none of its own those of earlier sweeps
    that measured the very same cell (a plan skips such cells).
    """

    sweep: SweepRecord
    cells: tuple[CellRecord, ...]
    rounds: tuple[RoundRecord, ...]
    results: tuple[ResultRecord, ...]
    variants: Mapping[str, VariantRecord]
    devices: Mapping[str, DeviceRecord]
    dataset: DatasetRecord | None

    def of_cell(self, cell_key: str) -> list[ResultRecord]:
        """The results of one cell, in the order of recording."""
        return [r for r in self.results if r.result.run.cell_key == cell_key]


def load_sweep(store: Store, name_or_id: str) -> SweepData:
    """Reads a sweep; :class:`NotFound` where there is none of that name."""
    sweep = store.sweep(name_or_id)
    cells = store.cells(sweep.sweep_id)
    own = store.results(sweep_id=sweep.sweep_id)
    dataset_names = {cell.run.inputs.dataset for cell in cells if not cell.run.canary}
    return SweepData(
        sweep=sweep,
        cells=tuple(cells),
        rounds=tuple(store.rounds(sweep.sweep_id)),
        results=tuple([*own, *_reused(store, cells, own)]),
        variants={v.variant_id: v for v in store.variants()},
        devices={d.device_id: d for d in store.devices()},
        dataset=_dataset(store, dataset_names),
    )


def _reused(
    store: Store, cells: Iterable[CellRecord], own: Iterable[ResultRecord]
) -> list[ResultRecord]:
    measured = {r.result.run.cell_key for r in own}
    lacking = [c.cell_key for c in cells if not c.run.canary and c.cell_key not in measured]
    found = store.results(cell_keys=lacking) if lacking else []
    # With the canaries that ran beside them, of all those a device has had: they may speak against
    # comparing.
    rounds = {r.result.round_id for r in found}
    canaries = [c.cell_key for c in cells if c.run.canary]
    sweeps = {r.result.sweep_id for r in found} if canaries else set()
    beside = [r for one in sorted(sweeps) for r in store.results(sweep_id=one, cell_keys=canaries)]
    known = {r.attempt_id for r in own}
    return found + [r for r in beside if r.result.round_id in rounds and r.attempt_id not in known]


def _dataset(store: Store, names: Iterable[str]) -> DatasetRecord | None:
    for name in sorted(names):
        try:
            return store.dataset(name)
        except NotFound:
            continue
    return None
