"""How sweeps stand, for whoever watches them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from assay.controller.admin.views import SweepLook, SweepRound
from assay.controller.home import Home
from assay.controller.planning.progress import lacking, measure_progress
from assay.controller.records import SweepMarks, SweepRecord
from assay.controller.server.running import running_controller
from assay.controller.store.base import Store
from assay.core.errors import Unreachable

_EVERY_S = 0.5
_MOST_KEPT = 1_024
_LONG_S = 0.1
_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class _Seen:
    marks: SweepMarks
    look: SweepLook
    at_s: float
    took_s: float

    def will_do(self, now_s: float) -> bool:
        """Whether it is not worth the time to look anew, though something moved: the results of a
        large sweep take seconds to read, during which little else gets done."""
        if self.took_s < _LONG_S or self.look.ended:
            return False
        return now_s - self.at_s < self.took_s / _SHARE


class SweepLooks:
    """Looks at sweeps; results and rounds are read again only where something moved, however many
    watch, and for a tenth of the time at most. For several threads."""

    def __init__(self, store: Store, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}

    def look(self, name: str) -> SweepLook:
        """The sweep of this name or id, now; :class:`NotFound` where there is none."""
        sweep = self._store.sweep(name)
        began_s = self._clock_s()
        with self._lock:
            seen = self._seen.get(sweep.sweep_id)
        ends = seen is not None and seen.look.sweep.state is not sweep.state
        if seen is None or ends or not seen.will_do(began_s):
            # Before the rest: what comes in between is read twice rather than never.
            marks = self._store.sweep_marks(sweep.sweep_id)
            if seen is None or ends or seen.marks != marks:
                look, ended_s = _look(self._store, sweep), self._clock_s()
                seen = _Seen(marks, look, ended_s, ended_s - began_s)
                self._keep(seen)
        return replace(seen.look, sweep=sweep)

    def all(self) -> list[SweepLook]:
        """Every sweep, the newest last."""
        return [self.look(sweep.sweep_id) for sweep in self._store.sweeps()]

    def _keep(self, seen: _Seen) -> None:
        sweep_id = seen.look.sweep.sweep_id
        with self._lock:
            self._seen.pop(sweep_id, None)
            self._seen[sweep_id] = seen
            while len(self._seen) > _MOST_KEPT:
                del self._seen[next(iter(self._seen))]


def watched(
    home: Home, store: Store, name: str, sleep: Callable[[float], None] = time.sleep
) -> Iterator[SweepLook]:
    """Looks at a sweep of this home until it has ended; :class:`Unreachable` where no controller
    serves the home, or none does any more."""
    looks = SweepLooks(store)
    shown: SweepLook | None = None
    while True:
        look = looks.look(name)
        if running_controller(home) is None and not look.ended:
            raise _nobody_serves(home, look.sweep.name, before=shown is not None)
        if look != shown:
            yield look
        if look.ended:
            return
        shown = look
        sleep(_EVERY_S)


def rounds_of(store: Store, name: str) -> list[SweepRound]:
    """The rounds of a sweep, by group and index."""
    devices = {d.device_id: d.name for d in store.devices()}
    return [
        SweepRound(
            index=round_.index,
            group=round_.group,
            device=devices.get(round_.device_id, round_.device_id),
            state=round_.state.value,
            runs=len(round_.runs),
            grants=round_.fence,
            round_id=round_.round_id,
            trouble=round_.trouble,
        )
        for round_ in store.rounds(store.sweep(name).sweep_id)
    ]


def _nobody_serves(home: Home, name: str, *, before: bool) -> Unreachable:
    if before:
        return Unreachable(f"the controller went away; sweep {name} goes on when it is back")
    return Unreachable(
        f"sweep {name} is stored and waits, but no controller serves {home.root}: start one with "
        "`assay controller serve`"
    )


def _look(store: Store, sweep: SweepRecord) -> SweepLook:
    sweep_id = sweep.sweep_id
    cells = [cell for cell in store.cells(sweep_id) if not cell.run.canary]
    results = store.results(sweep_id=sweep_id)
    seen = measure_progress(sweep, store.rounds(sweep_id), results)
    return SweepLook(
        sweep=sweep,
        runs_done=seen.runs_done,
        runs_total=seen.runs_total,
        rounds=seen.rounds,
        verdicts=seen.verdicts,
        left_ns=seen.left_ns,
        cells=len(cells),
        cells_short=len(lacking(sweep, cells, results)),
        latest=results[-1] if results else None,
    )
