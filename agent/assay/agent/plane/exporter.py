"""The agent's own /metrics, off by default: a page that is rendered outside timed blocks only.

A request inside one is answered from the page made before it, counted, and flagged in the result
(``scraped``): serving it took time from the board.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from assay.agent.plane.quiet import QuietWindow
from assay.agent.plane.rounds import RoundBook
from assay.agent.plane.traffic import Passed
from assay.agent.samplers.recording import SamplerCounters
from assay.agent.samplers.tally import TALLY
from assay.core.channel import join_address, split_address
from assay.core.errors import PortInUse
from assay.core.metrics import METRICS, METRICS_CAPABILITY
from assay.core.version import __version__
from assay.v1 import fleet_pb2

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sources:
    """What the page is made of."""

    device: str
    health: Callable[[], fleet_pb2.Health]
    book: RoundBook
    quiet: QuietWindow
    samplers: Callable[[], Mapping[str, SamplerCounters]] = TALLY.totals
    traffic: Callable[[], Passed] = Passed


class Exporter:
    """Serves http://HOST:PORT/metrics from a thread of its own; close it when done."""

    def __init__(self, host: str, port: int, sources: Sources) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._scrapes = 0
        self._page = render(sources, 0)
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            raise PortInUse(
                f"/metrics cannot listen on {host}:{port}: {error.strerror}; choose another "
                "--metrics-port"
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    @property
    def scrapes(self) -> int:
        """Requests so far."""
        return self._scrapes

    def page(self) -> bytes:
        """The page for one request: fresh, or inside a timed block the one from before it."""
        with self._lock:
            self._scrapes += 1
            if not self._sources.quiet.quiet:
                self._page = render(self._sources, self._scrapes)
            return self._page

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404, "only /metrics is here")
                    return
                body = exporter.page()
                self.send_response(200)
                self.send_header("Content-Type", _CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """A scrape is no news."""

        return Handler


def page_capability(host: str, port: int, controller: str) -> str:
    """What tells the controller where this page is (``metrics=HOST:PORT``), for ``http_sd``.

    Where the page listens on every interface the host is the address this board uses towards
    ``controller`` (``host:port``): asked of the routing table, no packet is sent.
    """
    if host in ("", "0.0.0.0", "::"):
        host = _own_address(*split_address(controller)) or host
    return METRICS_CAPABILITY + join_address(host, port)


def _own_address(host: str, port: int) -> str:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def render(sources: Sources, scrapes: int) -> bytes:
    """The page in the Prometheus text format."""
    health = sources.health()
    held = sources.book.held
    page = _Page({"device": sources.device})
    page.add("assay_agent_info", 1, version=__version__)
    if health.HasField("temperature_c"):
        page.add("assay_agent_temperature_celsius", health.temperature_c)
    page.add("assay_agent_memory_available_bytes", health.memory_available_bytes)
    page.add("assay_agent_disk_free_bytes", health.disk_free_bytes)
    page.add("assay_agent_spool_entries", health.spool_entries)
    page.add("assay_agent_spool_bytes", health.spool_bytes)
    page.add("assay_agent_rounds", len(held))
    page.add("assay_agent_rounds_running", sum(each.running for each in held))
    passed = sources.traffic()
    page.add("assay_agent_link_bytes_total", passed.sent, direction="sent")
    page.add("assay_agent_link_bytes_total", passed.received, direction="received")
    page.add("assay_agent_link_day_bytes", passed.day)
    if passed.day_limit is not None:
        page.add("assay_agent_link_day_limit_bytes", passed.day_limit)
    for name, counters in sources.samplers().items():
        outcomes = {"success": counters.successes, "failure": counters.failures}
        for outcome, n in outcomes.items():
            page.add("assay_agent_sampler_reads_total", n, sampler=name, outcome=outcome)
        page.add("assay_agent_sampler_read_seconds_total", counters.duration_ns / 1e9, sampler=name)
    page.add("assay_agent_scrapes_total", scrapes)
    return page.text.encode()


class _Page:
    """Text in the catalogue's words; the samples of a metric stand together, however they come."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._families: dict[str, str] = {}

    @property
    def text(self) -> str:
        """The page so far."""
        return "".join(self._families.values())

    def add(self, name: str, value: float, **labels: str) -> None:
        metric = METRICS[name]
        pairs = ",".join(f'{k}="{v}"' for k, v in {**self._labels, **labels}.items())
        head = f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind.value}\n"
        self._families[name] = self._families.get(name, head) + f"{name}{{{pairs}}} {value:.17g}\n"
