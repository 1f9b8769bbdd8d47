"""The exporter: one page per change, from a thread that never fails silently."""

from __future__ import annotations

import gzip
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace

import pytest

from assay.controller.metrics.exporter import Exporter, start_exporter
from assay.controller.metrics.page import PageSource
from assay.controller.records import SweepState
from assay.core.errors import PortInUse, Unreachable
from tests.factories import SHAPES, FakeStore, make_result, make_sweep, make_sweep_record


def small_store() -> FakeStore:
    return FakeStore(make_sweep(shapes=SHAPES[:2], spoil=False))


def started(store: FakeStore, **options: object) -> Exporter:
    return start_exporter(lambda: store, "127.0.0.1", 0, **options)  # type: ignore[arg-type, return-value]


def get(exporter: Exporter, path: str = "/metrics", **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{exporter.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_the_first_page_is_there_when_it_has_started() -> None:
    with started(small_store()) as exporter:
        status, page = get(exporter)
        assert status == 200
        assert b'assay_latency_seconds{device="pi-bench-1"' in page
        assert page.endswith(b"\n")


def test_packed_and_plain_pages_are_equal() -> None:
    with started(small_store()) as exporter:
        packed = get(exporter, **{"Accept-Encoding": "gzip"})[1]
        assert gzip.decompress(packed) == get(exporter)[1]


def test_other_paths_say_where_the_page_is() -> None:
    with started(small_store()) as exporter:
        assert get(exporter, "/nope") == (404, b"there is only /metrics here\n")
        assert get(exporter, "/-/healthy") == (200, b"ok\n")
        assert b"/metrics" in get(exporter, "/")[1]


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port} is taken.*--metrics-port"):
            start_exporter(small_store, "127.0.0.1", port)  # type: ignore[arg-type]


def test_closing_frees_the_port_and_closes_the_store() -> None:
    store = small_store()
    exporter = started(store)
    exporter.close()
    assert store.closed
    with socket.socket() as again:
        again.bind(("127.0.0.1", exporter.port))


def test_a_new_result_appears_without_a_restart() -> None:
    store = small_store()
    with started(store, poll_s=0.02) as exporter:
        data = store.held["s1"]
        more = make_result(data.cells[0], round_index=7, p50_ns=1.0)
        store.put(
            replace(
                data,
                sweep=replace(data.sweep, state=SweepState.RUNNING),
                results=(*data.results, more),
            )
        )
        before = f'verdict="valid"}} {len(data.results)}.0'.encode()
        until(lambda: before not in get(exporter)[1])
        assert f'verdict="valid"}} {len(data.results) + 1}.0'.encode() in get(exporter)[1]


def test_scrapes_do_not_read_the_store() -> None:
    store = small_store()
    with started(store, poll_s=60.0) as exporter:
        reads = list(store.reads)
        for _ in range(5):
            get(exporter)
        assert store.reads == reads


def test_the_page_is_rendered_once_per_change() -> None:
    store = small_store()
    source = PageSource(store)  # type: ignore[arg-type]
    page = source.page()
    assert source.page() is page
    reads = len(store.reads)
    data = store.held["s1"]
    devices = {k: replace(d, last_seen_ns=1) for k, d in data.devices.items()}
    store.put(replace(data, devices=devices))
    assert source.page() is not page
    assert len(store.reads) == reads, "a sign of life made the results be read again"


def test_finished_sweeps_are_read_once() -> None:
    store = small_store()
    source = PageSource(store)  # type: ignore[arg-type]
    source.page()
    other = make_sweep(shapes=SHAPES[:1], spoil=False)
    store.put(replace(other, sweep=make_sweep_record(sweep_id="s2", name="two")))
    source.page()
    source.page()
    assert store.reads.count("s1") == 1


class BrokenStore(FakeStore):
    """Answers until it is broken."""

    broken = False

    def counts(self) -> dict[str, int]:
        if self.broken:
            raise Unreachable("the database is locked")
        return dict(super().counts())


def test_a_store_that_fails_leaves_a_page_marked_stale_until_it_is_back() -> None:
    store = BrokenStore(make_sweep(shapes=SHAPES[:1], spoil=False))
    with started(store, poll_s=0.02) as exporter:
        assert b"assay_exporter_render_success 1.0" in get(exporter)[1]
        store.broken = True
        until(lambda: b"assay_exporter_render_success 0.0" in get(exporter)[1])
        assert b"assay_latency_seconds{" in get(exporter)[1]
        store.broken = False
        until(lambda: b"assay_exporter_render_success 1.0" in get(exporter)[1])


def test_before_the_first_page_a_scrape_is_told_to_come_back() -> None:
    store = BrokenStore()
    store.broken = True
    with started(store, poll_s=0.02) as exporter:
        assert get(exporter) == (503, b"the first page is not ready yet\n")
