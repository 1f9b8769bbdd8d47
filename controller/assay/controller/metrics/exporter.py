"""``/metrics``: a page rendered once per change by a thread of its own, served from memory.

A scrape never touches the store and the control loop never waits for either. A second thread per
scrape only copies bytes out.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sqlalchemy.exc import SQLAlchemyError

from assay.controller.home import Home
from assay.controller.metrics.exposition import SERIES_BUDGET
from assay.controller.metrics.page import CountsSource, Page, PageSource, VitalsSource, no_counts
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
_STOP_S = 0.1  # how soon a closed exporter stops listening

_log = log.get("exporter")


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
        counts: CountsSource = no_counts,
    ) -> None:
        self._vitals = vitals
        self._counts = counts
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
            source = PageSource(store, self._budget, vitals=self._vitals, counts=self._counts)
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
    counts: CountsSource = no_counts,
) -> Exporter:
    """Serves ``/metrics`` of a home (or of the store a factory opens) from threads of its own.

    Port 0 picks a free one. Raises :class:`PortInUse` where the address is taken. The first page
    is there when this returns, unless the store needs more than ten seconds to be read.
    """

    def opened() -> contextlib.AbstractContextManager[Store]:
        store = open_store(source) if isinstance(source, Home) else source()
        return contextlib.closing(store)

    return Exporter(opened, host, port, budget=budget, poll_s=poll_s, vitals=vitals, counts=counts)


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
