"""``/metrics``: a page rendered once per change by a thread of its own, served from memory.

A scrape never touches the store and the control loop never waits for either. A second thread per
scrape only copies bytes out.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sqlalchemy.exc import SQLAlchemyError

from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import load_sweep
from assay.controller.home import Home
from assay.controller.metrics.exposition import (
    SERIES_BUDGET,
    Sample,
    SweepFacts,
    results_page,
    sweep_facts,
)
from assay.controller.metrics.exposition_fleet import (
    DeviceView,
    SweepView,
    plane_page,
    rounds_by_device,
    shown_sweeps,
    view_of,
)
from assay.controller.metrics.vitals import Reach, Vitals, reach
from assay.controller.records import RoundRecord, RoundState, SweepRecord, SweepState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core import log
from assay.core.errors import AssayError, PortInUse
from assay.core.version import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_POLL_S = 1.0
_COST_FACTOR = 10.0  # the store is read for at most a tenth of the time
_FIRST_PAGE_S = 10.0
_CLIENT_TIMEOUT_S = 10.0
_SECOND_NS = 1e9
_STOP_S = 0.1  # how soon a closed exporter stops listening

VitalsSource = Callable[[], Mapping[str, Vitals]]

_log = log.get("exporter")


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
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._budget = budget
        self._vitals = vitals
        self._now_ns = now_ns
        self._finished: dict[str, SweepFacts] = {}
        self._views: dict[str, SweepView] = {}
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
        mark = (counts, sweeps, devices, dict(vitals), reached)
        if self._page is not None and mark == self._mark:
            return self._page
        started_ns = time.thread_time_ns()
        # A device's name or class stands in the labels of results, its last sign of life does not.
        names = [(d.device_id, d.name, d.facts.device_class if d.facts else "") for d in devices]
        rounds = {
            s.sweep_id: self._store.rounds(s.sweep_id)
            for s in sweeps
            if s.state is SweepState.RUNNING
        }
        states = {r.round_id: r.state for some in rounds.values() for r in some}
        results_mark = (counts, sweeps, names, states)
        if results_mark != self._results_mark:
            self._render_results(sweeps)
            self._results_mark = results_mark
        waiting = rounds_by_device(each for some in rounds.values() for each in some)
        views = [
            DeviceView(d, vitals.get(d.device_id), where, waiting.get(d.device_id, {}))
            for d, where in zip(devices, reached, strict=True)
        ]
        plain = self._results + plane_page(
            views,
            [self._views[s.sweep_id] for s in shown_sweeps(sweeps)],
            self._plane(counts, sweeps, reached, rounds.values(), started_ns),
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

    def _render_results(self, sweeps: list[SweepRecord]) -> None:
        ordered = sorted(sweeps, key=lambda s: s.created_ns)
        page, dropped = results_page([self._facts(s) for s in ordered], self._budget)
        if dropped and dropped != self._dropped:
            _log.warning("series dropped", dropped=dropped, budget=self._budget)
        self._results, self._dropped = page, dropped

    def _facts(self, sweep: SweepRecord) -> SweepFacts:
        known = self._finished.get(sweep.sweep_id)
        if known is not None and sweep.state is SweepState.DONE:
            return known
        data = load_sweep(self._store, sweep.sweep_id)
        own = [r for r in data.results if r.result.sweep_id == sweep.sweep_id]
        facts = sweep_facts(summarise(data), own, data.variants)
        self._finished.pop(sweep.sweep_id, None)
        self._views[sweep.sweep_id] = view_of(sweep, data.rounds, own)
        if sweep.state is SweepState.DONE:
            self._finished[sweep.sweep_id] = facts
        return facts

    def _plane(
        self,
        counts: dict[str, int],
        sweeps: list[SweepRecord],
        reached: list[Reach],
        running: Iterable[list[RoundRecord]],
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
            rounds.update(r.state.value for r in some)
        for state, n in sorted(rounds.items()):
            yield "assay_rounds", (state,), n
        for table, n in sorted(counts.items()):
            yield "assay_store_rows", (table,), n
        yield "assay_exporter_render_success", (), 1
        yield "assay_exporter_render_timestamp_seconds", (), time.time()
        cpu_s = (time.thread_time_ns() - started_ns) / _SECOND_NS
        yield "assay_exporter_render_cpu_seconds", (), cpu_s


class Exporter:
    """A running exporter; ``port`` is the one really bound. Closing it is the caller's duty."""

    def __init__(
        self,
        open_source: Callable[[], contextlib.AbstractContextManager[Store]],
        host: str,
        port: int,
        *,
        budget: int = SERIES_BUDGET,
        poll_s: float = _POLL_S,
        vitals: VitalsSource = dict,
    ) -> None:
        self._vitals = vitals
        self._open_source = open_source
        self._budget = budget
        self._poll_s = poll_s
        self._current: Page | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._server = _bind(host, port, lambda: self._current)
        self.port: int = self._server.server_address[1]
        self._threads = [
            threading.Thread(target=self._render_until_stopped, name="metrics-render", daemon=True),
            threading.Thread(
                target=self._server.serve_forever, args=(_STOP_S,), name="metrics-http", daemon=True
            ),
        ]
        for thread in self._threads:
            thread.start()
        self._ready.wait(_FIRST_PAGE_S)

    def close(self) -> None:
        """Stops serving and closes the store it opened."""
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _render_until_stopped(self) -> None:
        with self._open_source() as store:
            source = PageSource(store, self._budget, vitals=self._vitals)
            while not self._stop.is_set():
                started = time.monotonic()
                self._refresh(source)
                self._ready.set()
                spent = time.monotonic() - started
                self._stop.wait(max(self._poll_s, _COST_FACTOR * spent))

    def _refresh(self, source: PageSource) -> None:
        try:
            self._current = source.page()
        except (AssayError, SQLAlchemyError, OSError) as error:
            _log.warning("metrics page not brought up to date", error=str(error))
            self._current = source.stale_page()


def start_exporter(
    source: Home | Callable[[], Store],
    host: str = "127.0.0.1",
    port: int = 9464,
    *,
    budget: int = SERIES_BUDGET,
    poll_s: float = _POLL_S,
    vitals: VitalsSource = dict,
) -> Exporter:
    """Serves ``/metrics`` of a home (or of the store a factory opens) from threads of its own.

    Port 0 picks a free one. Raises :class:`PortInUse` where the address is taken. The first page
    is there when this returns, unless the store needs more than ten seconds to be read.
    """

    def opened() -> contextlib.AbstractContextManager[Store]:
        store = open_store(source) if isinstance(source, Home) else source()
        return contextlib.closing(store)

    return Exporter(opened, host, port, budget=budget, poll_s=poll_s, vitals=vitals)


def render_once(
    store: Store,
    budget: int = SERIES_BUDGET,
    *,
    vitals: VitalsSource = dict,
    now_ns: Callable[[], int] = time.time_ns,
) -> bytes:
    """The page as one would scrape it now, without a server."""
    return PageSource(store, budget, vitals=vitals, now_ns=now_ns).page().plain


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def _bind(host: str, port: int, current: Callable[[], Page | None]) -> _Server:
    class Handler(_Handler):
        page = staticmethod(current)

    try:
        return _Server((host, port), Handler)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            why = "is taken by another program" if error.errno == errno.EADDRINUSE else "needs root"
            raise PortInUse(
                f"metrics: {host}:{port} {why}; give another port with --metrics-port"
            ) from None
        raise


class _Handler(BaseHTTPRequestHandler):
    """Copies the current page out."""

    protocol_version = "HTTP/1.1"
    timeout = _CLIENT_TIMEOUT_S
    page: Callable[[], Page | None]

    def do_GET(self) -> None:
        """Answers /metrics, /-/healthy and a pointer at /."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/-/healthy":
            self._answer(HTTPStatus.OK, b"ok\n")
        elif path == "/":
            self._answer(HTTPStatus.OK, b"Assay exporter; the page is at /metrics\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is only /metrics here\n")

    do_HEAD = do_GET

    def version_string(self) -> str:
        """Names the program, not the Python below it."""
        return f"assay/{__version__}"

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not worth a line each."""
        _log.debug("scraped", request=format % args)

    def _metrics(self) -> None:
        page = self.page()
        if page is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"the first page is not ready yet\n")
        elif "gzip" in self.headers.get("Accept-Encoding", ""):
            self._answer(HTTPStatus.OK, page.packed, CONTENT_TYPE, "gzip")
        else:
            self._answer(HTTPStatus.OK, page.plain, CONTENT_TYPE)

    def _answer(
        self,
        status: HTTPStatus,
        body: bytes,
        content_type: str = "text/plain; charset=utf-8",
        encoding: str = "",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
