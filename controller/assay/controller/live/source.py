"""Keeps the newest snapshot: a thread of its own reads the store, everybody else only looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from assay.controller.live.state import LATEST, LiveState, Snapshot, snapshot
from assay.controller.metrics.exposition_fleet import (
    SweepView,
    rounds_by_device,
    shown_sweeps,
    view_of,
)
from assay.controller.metrics.gather import SweepReader
from assay.controller.metrics.vitals import Vitals
from assay.controller.records import ResultRecord, RoundRecord, SweepState
from assay.controller.store.base import Store
from assay.core import log
from assay.core.errors import AssayError

_POLL_S = 1.0
_COST_FACTOR = 10.0  # the store is read for at most a tenth of the time

_log = log.get("live")


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is shown of a sweep: all that is kept of one that has ended."""

    view: SweepView
    latest: list[ResultRecord]


class StateReader:
    """Reads a store into a state, of sweeps only what has moved. Not thread-safe."""

    def __init__(self, store: Store, vitals: Callable[[], Mapping[str, Vitals]]) -> None:
        self._store = store
        self._vitals = vitals
        self._reader = SweepReader(store)
        self._ended: dict[str, _Shown] = {}

    def read(self, now_ns: int) -> LiveState:
        """Everything as it is now."""
        views: list[SweepView] = []
        latest: list[ResultRecord] = []
        rounds: list[RoundRecord] = []
        for sweep in shown_sweeps(self._store.sweeps()):
            shown = self._ended.get(sweep.sweep_id)
            if shown is None or shown.view.record != sweep:
                gathered = self._reader.read(sweep.sweep_id)
                results = gathered.results
                shown = _Shown(view_of(sweep, gathered.rounds, results), results[-LATEST:])
                if sweep.state is SweepState.RUNNING:
                    rounds += gathered.rounds
                elif sweep.state is SweepState.DONE:
                    self._ended[sweep.sweep_id] = shown
                    self._reader.forget(sweep.sweep_id)
            views.append(shown.view)
            latest += shown.latest
        latest.sort(key=lambda r: r.recorded_ns, reverse=True)
        return LiveState(
            now_ns=now_ns,
            devices=self._store.devices(),
            vitals=self._vitals(),
            rounds=rounds_by_device(rounds),
            sweeps=views,
            latest=latest[:LATEST],
        )


class LiveSource:
    """The newest snapshot, and a wait for the next one. Closing it ends its thread."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        vitals: Callable[[], Mapping[str, Vitals]],
        *,
        poll_s: float = _POLL_S,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._open_store = open_store
        self._vitals = vitals
        self._poll_s = poll_s
        self._now_ns = now_ns
        self._changed = threading.Condition()
        self._number = 0
        self._current = Snapshot({"devices": {}, "sweeps": {}, "latest": {}}, dict(_NOTHING))
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-read", daemon=True)
        self._thread.start()

    def current(self) -> tuple[int, Snapshot]:
        """The newest snapshot and its number."""
        self._ready.wait(10.0)
        with self._changed:
            return self._number, self._current

    def after(self, number: int, timeout_s: float) -> tuple[int, Snapshot]:
        """Waits for a snapshot newer than ``number``; the same one after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._number != number or self._stop.is_set(), timeout_s)
            return self._number, self._current

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._stop.is_set()

    def close(self) -> None:
        """Ends the thread and everybody's wait."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        store = self._open_store()
        reader = StateReader(store, self._vitals)
        try:
            while not self._stop.is_set():
                started = time.monotonic()
                self._refresh(reader)
                self._ready.set()
                spent = time.monotonic() - started
                self._stop.wait(max(self._poll_s, _COST_FACTOR * spent))
        finally:
            store.close()

    def _refresh(self, reader: StateReader) -> None:
        try:
            new = snapshot(reader.read(self._now_ns()))
        except (AssayError, SQLAlchemyError, OSError) as error:
            _log.warning("live page not brought up to date", error=str(error))
            return
        with self._changed:
            if self._number == 0 or new != self._current:
                self._current, self._number = new, self._number + 1
                self._changed.notify_all()


_NOTHING = {"online": "0", "missing": "0", "busy": "0", "running": "0"}
