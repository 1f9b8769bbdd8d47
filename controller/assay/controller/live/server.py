"""Serves the live page and ``http_sd``: GET only, read-only, for whoever holds the viewer's token.

On loopback without a token; elsewhere over TLS with the controller's own certificate, and with the
token as a bearer (Prometheus) or as the password of any name (browsers).
"""

from __future__ import annotations

import errno
import gzip
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from assay.controller.home import Home
from assay.controller.live.access import Access, access_for, may_look
from assay.controller.live.pages import Pages
from assay.controller.live.source import LiveSource
from assay.controller.live.state import asset
from assay.controller.metrics.discovery import targets
from assay.controller.metrics.vitals import Vitals
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core import log
from assay.core.cas import ContentStore
from assay.core.errors import AssayError, NotFound, PortInUse
from assay.core.version import __version__

MOST_STREAMS = 64
_BEAT_S = 15.0
_CLIENT_TIMEOUT_S = 30.0
_STOP_S = 0.1
_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS = {
    "/live.css": ("live.css", "text/css; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
}

_log = log.get("live")


class LiveServer:
    """A running live page; ``port`` is the one really bound. Closing it is the caller's duty."""

    def __init__(
        self,
        open_source: Callable[[], Store],
        blobs: ContentStore,
        vitals: Callable[[], Mapping[str, Vitals]],
        host: str,
        port: int,
        access: Access,
    ) -> None:
        self._store = open_source()
        self._source = LiveSource(open_source, vitals)
        self._site = _Site(self._store, Pages(self._store, blobs), self._source, access)
        try:
            self._server = _bind(host, port, self._site)
        except PortInUse:
            self._source.close()
            self._store.close()
            raise
        self.port: int = self._server.server_address[1]
        self.secure = access.certificate is not None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOP_S,), name="live-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Ends every stream, stops serving and closes the store."""
        self._source.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._store.close()

    def __enter__(self) -> LiveServer:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def start_live(
    home: Home,
    host: str,
    port: int,
    *,
    vitals: Callable[[], Mapping[str, Vitals]] = dict,
    tls: bool = False,
) -> LiveServer:
    """Serves the live page of a home. Port 0 picks a free one; :class:`PortInUse` where it is
    taken."""
    access = access_for(home, host, tls=tls)
    blobs = ContentStore(home.artifacts)
    return LiveServer(lambda: open_store(home), blobs, vitals, host, port, access)


@dataclass(slots=True)
class _Site:
    store: Store
    pages: Pages
    source: LiveSource
    access: Access
    streams: int = 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    context: ssl.SSLContext | None = None

    def finish_request(self, request: object, client_address: object) -> None:
        # Shaking hands here, in the request's own thread: a slow client must not hold up others.
        if self.context is not None:
            request.settimeout(_CLIENT_TIMEOUT_S)  # type: ignore[attr-defined]
            try:
                request = self.context.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
            except OSError as error:
                _log.debug("TLS handshake failed", error=str(error))
                return
        super().finish_request(request, client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error of ours."""
        _log.debug("client went away", client=str(client_address))


def _bind(host: str, port: int, site: _Site) -> _Server:
    class Handler(_Handler):
        pass

    Handler.site = site
    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise PortInUse(
            f"live page: {host}:{port}: {error.strerror}; give another port with --live-port"
        ) from None
    if site.access.certificate is not None:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.minimum_version = ssl.TLSVersion.TLSv1_2
        server.context.load_cert_chain(site.access.certificate)
    return server


class _Handler(BaseHTTPRequestHandler):
    """One request. Nothing here changes anything."""

    protocol_version = "HTTP/1.1"
    timeout = _CLIENT_TIMEOUT_S
    site: _Site

    def do_GET(self) -> None:
        """Answers by path; 401 without the viewer's token where one is asked for."""
        if not may_look(self.headers.get("Authorization", ""), self.site.access.token):
            self._answer(
                HTTPStatus.UNAUTHORIZED,
                b"the viewer's token is needed\n",
                "text/plain",
                {"WWW-Authenticate": 'Basic realm="Assay (any name; the viewer\'s token)"'},
            )
            return
        path = self.path.partition("?")[0]
        try:
            self._route(path)
        except NotFound as error:
            self._html(self.site.pages.error("Not found", str(error)), HTTPStatus.NOT_FOUND)
        except AssayError as error:
            _log.warning("page failed", path=path, error=str(error))
            page = self.site.pages.error("This page cannot be shown", str(error))
            self._html(page, HTTPStatus.SERVICE_UNAVAILABLE)

    do_HEAD = do_GET

    def version_string(self) -> str:
        """Names the program, not the Python below it."""
        return f"assay/{__version__}"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""
        _log.debug("served", request=format % args)

    def _route(self, path: str) -> None:
        kind, _, name = path.lstrip("/").partition("/")
        if path in _ASSETS:
            file, content_type = _ASSETS[path]
            self._answer(HTTPStatus.OK, asset(file).encode(), content_type)
        elif path == "/":
            self._html(self.site.pages.index(self.site.source.current()[1]))
        elif path == "/events":
            self._events()
        elif path == "/sd/agents":
            body = json.dumps(targets(self.site.store.devices())).encode()
            self._answer(HTTPStatus.OK, body, _JSON)
        elif path == "/-/healthy":
            self._answer(HTTPStatus.OK, b"ok\n", "text/plain")
        elif name and kind == "sweep":
            self._html(self.site.pages.sweep(unquote(name)))
        elif name and kind == "result":
            self._html(self.site.pages.result(unquote(name)))
        elif name and kind == "report":
            # The report carries a policy of its own and asks for nothing.
            self._answer(HTTPStatus.OK, self.site.pages.report(unquote(name)), _HTML)
        else:
            raise NotFound(f"there is no page {path}; begin at /")

    def _events(self) -> None:
        """Server-sent events: what a browser must replace, and a beat while nothing changes."""
        site = self.site
        if site.streams >= MOST_STREAMS:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many viewers\n", "text/plain")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        site.streams += 1
        try:
            self._stream(site.source)
        finally:
            site.streams -= 1

    def _stream(self, source: LiveSource) -> None:
        number, shown = source.current()
        whole = shown.changes(None)
        self._event(whole)
        while not source.closed:
            newer, snapshot = source.after(number, _BEAT_S)
            self._event(snapshot.changes(shown) if newer != number else None)
            number, shown = newer, snapshot

    def _event(self, change: object) -> None:
        text = ": beat\n\n" if change is None else f"event: change\ndata: {json.dumps(change)}\n\n"
        self.wfile.write(text.encode())
        self.wfile.flush()

    def _html(self, page: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._answer(status, page.encode(), _HTML, {"Content-Security-Policy": _POLICY})

    def _answer(
        self,
        status: HTTPStatus,
        body: bytes,
        content_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        packed = "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 1000
        body = gzip.compress(body, 1) if packed else body
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
