"""A sweep's facts kept by group of cells, so that a result costs no more than its own group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import SweepData
from assay.controller.metrics.exposition import SweepFacts, sweep_facts
from assay.controller.metrics.gather import Gathered
from assay.controller.records import (
    CellRecord,
    DeviceRecord,
    ResultRecord,
    SweepRecord,
    VariantRecord,
)
from assay.controller.store.base import Store

Records = tuple[ResultRecord, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What gives names to the things a sweep speaks of."""

    variants: Mapping[str, VariantRecord]
    devices: Mapping[str, DeviceRecord]


class SweepGroups:
    """One sweep's groups: cells of one device and one scenario, judged apart from all others."""

    def __init__(self, store: Store, sweep: SweepRecord) -> None:
        self._store = store
        self._sweep = sweep
        self._groups: dict[str, list[CellRecord]] = {}
        for cell in store.cells(sweep.sweep_id):
            self._groups.setdefault(cell.group, []).append(cell)
        self._known: dict[str, tuple[tuple[Records, ...], SweepFacts]] = {}

    def facts(self, gathered: Gathered, catalogue: Catalogue) -> SweepFacts:
        """The sweep as it stands; only groups whose results moved are judged again."""
        counted: set[str] = set()
        found = []
        for name, cells in self._groups.items():
            own = tuple(gathered.by_cell.get(cell.cell_key, ()) for cell in cells)
            known = self._known.get(name)
            if known is None or known[0] != own:
                # The canary of two groups may be one cell, which is counted once.
                fresh = {cell.cell_key for cell in cells} - counted
                known = self._known[name] = (own, self._judged(cells, own, fresh, catalogue))
            counted.update(cell.cell_key for cell in cells)
            found.append(known[1])
        return together(found)

    def _judged(
        self,
        cells: Sequence[CellRecord],
        own: Sequence[Records],
        counted: set[str],
        catalogue: Catalogue,
    ) -> SweepFacts:
        measured = sorted((r for records in own for r in records), key=lambda r: r.recorded_ns)
        lacking = [
            cell.cell_key
            for cell, records in zip(cells, own, strict=True)
            if not records and not cell.run.canary
        ]
        reused = self._store.results(cell_keys=lacking) if lacking else []
        data = SweepData(
            sweep=self._sweep,
            cells=tuple(cells),
            rounds=(),
            results=(*measured, *reused),
            variants=catalogue.variants,
            devices=catalogue.devices,
            dataset=None,
        )
        mine = [r for r in measured if r.result.run.cell_key in counted]
        return sweep_facts(summarise(data), mine, catalogue.variants)


def together(parts: Sequence[SweepFacts]) -> SweepFacts:
    """The facts of several groups as those of their sweep."""
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for part in parts:
        verdicts.update(part.verdicts)
        reasons.update(part.reasons)
    samples = {sample[:2]: sample for part in parts for sample in part.variants}
    points = tuple(point for part in parts for point in part.points)
    return SweepFacts(points, tuple(samples.values()), verdicts, reasons)
