"""Planning and starting sweeps, their reports and their results as files, on a home."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from assay.controller.admin.views import (
    Exported,
    ExportOrder,
    LeftOut,
    PlannedCell,
    StartedSweep,
    SweepFile,
    SweepPlan,
)
from assay.controller.home import Home
from assay.controller.planning import sweeps
from assay.controller.planning.plan import Plan
from assay.controller.planning.spec import SweepSpec, parse_spec
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.errors import SpecError

LONGEST_FILE = 256 << 10
_ELSEWHERE = (
    "recipes: variants are built where the controller runs: build them there with `assay variant "
    "build`, and name them under `variants` here"
)


class Sweeping(Protocol):
    """What takes long enough to be done beside the control loop."""

    def plan(self, file: SweepFile) -> SweepPlan:
        """What :meth:`start` would do; :class:`SpecError` lists the mistakes of the file."""
        ...

    def start(self, file: SweepFile) -> StartedSweep:
        """Starts the file's sweep, or resumes the one of the same name and content;
        :class:`AlreadyExists` where the name belongs to a sweep from another file."""
        ...

    def report(self, sweep: str, *, markdown: bool, force: bool = False) -> bytes:
        """The report of a sweep, HTML or Markdown, with ``force`` over unlike conditions too;
        :class:`NotFound`."""
        ...

    def export(self, order: ExportOrder, path: Path) -> Exported:
        """Writes results to ``path``, whole or not at all; :class:`NotFound`."""
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """:class:`Sweeping` in this process."""

    home: Home
    store: Store

    def plan(self, file: SweepFile) -> SweepPlan:
        """See :class:`Sweeping`."""
        made = sweeps.plan_sweep(self._prepared(file), self.store, self._blobs)
        devices = {d.device_id: d.name for d in self.store.devices()}
        return _told(made, _cells(made, devices))

    def start(self, file: SweepFile) -> StartedSweep:
        """See :class:`Sweeping`."""
        spec = self._prepared(file)
        with one_at_a_time(self.home):
            done = sweeps.submit(spec, self.store, self._blobs)
        plan = _told(done.plan, ()) if done.plan is not None else None
        return StartedSweep(done.sweep, len(done.added), plan)

    def report(self, sweep: str, *, markdown: bool, force: bool = False) -> bytes:
        """See :class:`Sweeping`."""
        from assay.controller.report import build_markdown, build_report

        if markdown:
            return build_markdown(self.store, sweep, force=force).encode()
        return build_report(self.store, self._blobs, sweep, force=force).encode()

    def export(self, order: ExportOrder, path: Path) -> Exported:
        """See :class:`Sweeping`."""
        from assay.controller.exporting.export import export_results

        sweep_id = self.store.sweep(order.sweep).sweep_id if order.sweep else None
        records = self.store.results(sweep_id=sweep_id, superseded=order.superseded)
        variants = {v.variant_id: v for v in self.store.variants()}
        traces = self._blobs if order.samples else None
        missing = export_results(records, variants, order.file_format, path, samples_from=traces)
        return Exported(len(records), missing)

    @property
    def _blobs(self) -> ContentStore:
        return ContentStore(self.home.artifacts)

    def _prepared(self, file: SweepFile) -> SweepSpec:
        """The file's sweep, with the variants of its recipes built."""
        spec = checked(file)
        if spec.recipes and file.folder is not None:
            from assay.controller.variants import build_variants

            recipes = [file.folder / path for path in spec.recipes]
            build_variants(recipes, self.store.dataset(spec.dataset), self.store, self._blobs)
        return spec


def checked(file: SweepFile) -> SweepSpec:
    """What the file says, wherever it is to be run; :class:`SpecError` lists its mistakes."""
    if len(file.text.encode(errors="replace")) > LONGEST_FILE:
        raise SpecError(file.source, [f"is longer than {LONGEST_FILE >> 10} KiB"])
    spec = parse_spec(file.text, file.source)
    if spec.recipes and file.folder is None:
        raise SpecError(file.source, [_ELSEWHERE])
    return spec


@contextmanager
def one_at_a_time(home: Home) -> Iterator[None]:
    """Waits for whoever starts or resumes a sweep of this home, so that who comes second finds the
    first one's rounds. The lock goes with the process, however it ends."""
    with (home.create().root / "sweeps.lock").open("a") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _told(made: Plan, cells: tuple[PlannedCell, ...]) -> SweepPlan:
    return SweepPlan(
        cells=cells,
        measured=sum(not cell.run.canary for cell in made.cells),
        rounds_each=made.sweep.rounds,
        rounds=len(made.rounds),
        runs=sum(len(round_.runs) for round_ in made.rounds),
        estimate_ns=made.estimate_ns,
        left_out=tuple(
            LeftOut(one.device, one.variant, one.runtime, one.reason) for one in made.skipped
        ),
    )


def _cells(made: Plan, devices: dict[str, str]) -> tuple[PlannedCell, ...]:
    return tuple(
        PlannedCell(
            device=devices[cell.device_id],
            variant=cell.run.variant_name,
            runtime=cell.run.runtime.name,
            threads=cell.run.runtime.threads,
            scenario=cell.run.scenario.kind.value,
            batch=cell.run.scenario.samples_per_query,
            cell_key=cell.cell_key,
        )
        for cell in made.cells
    )
