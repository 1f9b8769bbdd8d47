"""A store as the page that a scrape gets: what has not changed is not read or rendered again."""

from __future__ import annotations

import gzip
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from assay.controller.metrics.exposition import (
    SERIES_BUDGET,
    Sample,
    SweepFacts,
    results_page,
)
from assay.controller.metrics.exposition_fleet import (
    DeviceView,
    SweepView,
    ages,
    plane_page,
    rounds_by_device,
    shown_sweeps,
    view_of,
)
from assay.controller.metrics.gather import Gathered, SweepReader
from assay.controller.metrics.running import Catalogue, SweepGroups
from assay.controller.metrics.tally import Tallied
from assay.controller.metrics.vitals import Reach, Vitals, reach
from assay.controller.records import DeviceRecord, RoundState, SweepRecord, SweepState
from assay.controller.store.base import Store
from assay.core import log
from assay.core.version import __version__

_SECOND_NS = 1e9
_AGES_NS = 10_000_000_000
_OPEN = (RoundState.QUEUED, RoundState.LEASED)

VitalsSource = Callable[[], Mapping[str, Vitals]]

CountsSource = Callable[[], Tallied | None]

_log = log.get("exporter")


def no_counts() -> None:
    """The counts where no control process runs."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a scrape gets, packed and not."""

    plain: bytes
    packed: bytes


class PageSource:
    """Turns a store into a page, reading again only what has changed. Not thread-safe."""

    def __init__(
        self,
        store: Store,
        budget: int = SERIES_BUDGET,
        *,
        vitals: VitalsSource = dict,
        counts: CountsSource = no_counts,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._counts = counts
        self._store = store
        self._budget = budget
        self._vitals = vitals
        self._now_ns = now_ns
        self._reader = SweepReader(store)
        self._groups: dict[str, SweepGroups] = {}
        self._finished: dict[str, SweepFacts] = {}
        self._views: dict[str, SweepView] = {}
        self._names: object = None
        self._results = b""
        self._results_mark: object = None
        self._mark: object = None
        self._dropped = 0
        self._page: Page | None = None

    def page(self) -> Page:
        """The page as the store is now; the same object while nothing has changed."""
        counts = dict(self._store.counts())
        sweeps = self._store.sweeps()
        devices = self._store.devices()
        vitals, now_ns = self._vitals(), self._now_ns()
        reached = [reach(d, vitals.get(d.device_id), now_ns) for d in devices]
        running = {
            s.sweep_id: self._reader.read(s.sweep_id)
            for s in sweeps
            if s.state is SweepState.RUNNING
        }
        results_mark = (counts, sweeps, *running.values())
        counted = self._counts()
        open_ = any(r.state in _OPEN for some in running.values() for r in some.rounds)
        # What waits or is leased grows older while nothing else changes.
        moment = now_ns // _AGES_NS if open_ else 0
        mark = (results_mark, devices, dict(vitals), reached, counted, moment)
        if self._page is not None and mark == self._mark:
            return self._page
        started_ns = time.thread_time_ns()
        # A device's name or class stands in the labels of results, its last sign of life does not.
        names = [(d.device_id, d.name, d.facts.device_class if d.facts else "") for d in devices]
        if names != self._names:
            self._groups.clear()
        if (results_mark, names) != (self._results_mark, self._names):
            self._render_results(sweeps, devices, running)
            self._results_mark, self._names = results_mark, names
        waiting = rounds_by_device(each for some in running.values() for each in some.rounds)
        views = [
            DeviceView(d, vitals.get(d.device_id), where, waiting.get(d.device_id, {}))
            for d, where in zip(devices, reached, strict=True)
        ]
        plain = self._results + plane_page(
            views,
            [self._views[s.sweep_id] for s in shown_sweeps(sweeps)],
            itertools.chain(
                counted.samples() if counted is not None else (),
                ages((r for some in running.values() for r in some.rounds), now_ns),
                self._plane(counts, sweeps, reached, running.values(), started_ns),
            ),
        )
        self._page, self._mark = Page(plain, gzip.compress(plain, 1)), mark
        return self._page

    def stale_page(self) -> Page | None:
        """The last page, marked as one that could not be brought up to date."""
        if self._page is None:
            return None
        name = b"assay_exporter_render_success"
        plain = self._page.plain.replace(name + b" 1.0\n", name + b" 0.0\n")
        self._mark = None
        self._page = Page(plain, gzip.compress(plain, 1))
        return self._page

    def _render_results(
        self,
        sweeps: list[SweepRecord],
        devices: list[DeviceRecord],
        running: Mapping[str, Gathered],
    ) -> None:
        catalogue = Catalogue(
            {v.variant_id: v for v in self._store.variants()}, {d.device_id: d for d in devices}
        )
        ordered = sorted(sweeps, key=lambda s: s.created_ns)
        facts = [self._facts(s, running.get(s.sweep_id), catalogue) for s in ordered]
        page, dropped = results_page(facts, self._budget)
        if dropped and dropped != self._dropped:
            _log.warning("series dropped", dropped=dropped, budget=self._budget)
        self._results, self._dropped = page, dropped

    def _facts(
        self, sweep: SweepRecord, gathered: Gathered | None, catalogue: Catalogue
    ) -> SweepFacts:
        key = sweep.sweep_id
        if sweep.state is SweepState.DONE and key in self._finished:
            return self._finished[key]
        self._finished.pop(key, None)
        gathered = gathered or self._reader.read(key)
        if key not in self._groups:
            self._groups[key] = SweepGroups(self._store, sweep)
        facts = self._groups[key].facts(gathered, catalogue)
        self._views[key] = view_of(sweep, gathered.rounds, gathered.results)
        if sweep.state is SweepState.DONE:
            self._finished[key] = facts
            self._reader.forget(key)
            del self._groups[key]
        return facts

    def _plane(
        self,
        counts: dict[str, int],
        sweeps: list[SweepRecord],
        reached: list[Reach],
        running: Iterable[Gathered],
        started_ns: int,
    ) -> Iterator[Sample]:
        yield "assay_build_info", (__version__,), 1
        by_state = Counter(where.value for where in reached)
        for where in Reach:
            yield "assay_devices", (where.value,), by_state[where.value]
        for state, n in sorted(Counter(s.state.value for s in sweeps).items()):
            yield "assay_sweeps", (state,), n
        rounds = Counter({state.value: 0 for state in RoundState})
        for some in running:
            rounds.update(r.state.value for r in some.rounds)
        for state, n in sorted(rounds.items()):
            yield "assay_rounds", (state,), n
        for table, n in sorted(counts.items()):
            yield "assay_store_rows", (table,), n
        yield "assay_exporter_render_success", (), 1
        yield "assay_exporter_render_timestamp_seconds", (), time.time()
        cpu_s = (time.thread_time_ns() - started_ns) / _SECOND_NS
        yield "assay_exporter_render_cpu_seconds", (), cpu_s


def render_once(
    store: Store,
    budget: int = SERIES_BUDGET,
    *,
    vitals: VitalsSource = dict,
    counts: CountsSource = no_counts,
    now_ns: Callable[[], int] = time.time_ns,
) -> bytes:
    """The page as one would scrape it now, without a server."""
    return PageSource(store, budget, vitals=vitals, counts=counts, now_ns=now_ns).page().plain
