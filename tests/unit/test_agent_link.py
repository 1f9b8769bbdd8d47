"""Two threads share a channel; what happens to one call is not the other's end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from assay.agent.plane import link
from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow
from assay.agent.plane.signatures import Envelopes
from assay.agent.plane.traffic import CONNECTION_BYTES, on_wire_bytes
from assay.core.digest import of_file
from assay.core.errors import AssayError, Cancelled, PermissionDenied, Unreachable
from assay.core.model import MEDIA_ONNX
from assay.v1 import fleet_pb2
from tests.fake_controller import FakeController


class Bench:
    def __init__(self, controller: FakeController) -> None:
        self.controller = controller
        self.dialled = 0
        self.quiet = QuietWindow(grace_s=1.0)
        self.counted: list[tuple[int, int]] = []
        self.link = Link(
            self._dial, controller.dial, self.quiet, lambda *passed: self.counted.append(passed)
        )

    def _dial(self) -> grpc.Channel:
        self.dialled += 1
        return self.controller.dial()

    def sync(self, wait_s: int = 0) -> fleet_pb2.SyncResponse:
        request = fleet_pb2.SyncRequest()
        request.wait.FromSeconds(wait_s)
        return self.link.sync(request, timeout_s=30.0)

    def report(self) -> fleet_pb2.ReportResultsResponse:
        return self.link.report(fleet_pb2.ReportResultsRequest())


@pytest.fixture
def bench() -> Iterator[Bench]:
    controller = FakeController().start()
    it = Bench(controller)
    yield it
    it.link.close()
    controller.stop()


def test_calls_share_one_channel(bench: Bench) -> None:
    bench.sync()
    bench.report()
    bench.sync()
    assert bench.dialled == 1


def test_a_channel_that_failed_is_dialled_anew_and_once(bench: Bench) -> None:
    bench.controller.faults["ReportResults"] = [grpc.StatusCode.UNAVAILABLE]
    with ThreadPoolExecutor() as pool:
        polling = pool.submit(bench.sync, 20)
        bench.controller.until(lambda: bench.controller.syncs)
        with pytest.raises(Unreachable):
            bench.report()
        # The long-poll was on the channel that is gone ...
        with pytest.raises(Unreachable):
            polling.result(10)
    # ... and its end does not take the new one down.
    bench.report()
    bench.sync()
    assert bench.dialled == 2


def test_a_channel_closed_by_another_call_just_before_is_an_outage(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_line = link._Redial.open

    def open_and_lose(line_of: link._Redial) -> link._Line:
        line = open_line(line_of)
        line.close()
        return line

    with monkeypatch.context() as patch:
        patch.setattr(link._Redial, "open", open_and_lose)
        for call in (bench.sync, bench.report, lambda: bench.link.find_missing(["sha256:0"])):
            with pytest.raises(Unreachable):
                call()
    bench.sync()
    bench.report()


def test_a_word_of_the_controller_keeps_the_channel(bench: Bench) -> None:
    bench.controller.faults["Sync"] = [PermissionDenied("revoked")]
    with pytest.raises(PermissionDenied):
        bench.sync()
    bench.sync()
    assert bench.dialled == 1
    # One that is busy: a thousand new handshakes would make it no less so.
    bench.controller.faults["ReportResults"] = [Unreachable("no place; try again soon")]
    with pytest.raises(Unreachable, match="no place"):
        bench.report()
    bench.report()
    assert bench.dialled == 1


def test_a_long_poll_that_gave_way_keeps_the_channel(bench: Bench) -> None:
    with ThreadPoolExecutor() as pool:
        polling = pool.submit(bench.sync, 20)
        bench.controller.until(lambda: bench.controller.syncs)
        bench.quiet.interrupt_idle()
        with pytest.raises(Cancelled):
            polling.result(10)
    bench.sync()
    assert bench.dialled == 1


def test_the_announcement_needs_a_channel_that_works(bench: Bench) -> None:
    request = fleet_pb2.SyncRequest()
    assert bench.link.announce(request) is None
    assert bench.controller.syncs == []
    bench.sync()
    assert bench.link.announce(request) is not None
    bench.controller.faults["Sync"] = [AssayError("a bug over there")]
    assert bench.link.announce(request) is None
    assert len(bench.controller.syncs) == 3
    assert bench.link.announce(request) is None
    assert bench.link.announce(request, anew=True) is not None
    assert bench.link.announce(request) is not None, "the channel works again"
    assert len(bench.controller.syncs) == 5


def test_an_announcement_ends_where_nobody_takes_a_connection(bench: Bench) -> None:
    def unreachable() -> grpc.Channel:
        raise Unreachable("nobody there")

    lost = Link(unreachable, unreachable, bench.quiet)
    assert lost.announce(fleet_pb2.SyncRequest(), anew=True) is None
    with pytest.raises(Unreachable, match="nobody there"):
        lost.sync(fleet_pb2.SyncRequest(), timeout_s=1)


@pytest.mark.parametrize("more", [None, False, True], ids=["old", "all", "more"])
def test_whether_there_are_more_signatures_is_heard(bench: Bench, more: bool | None) -> None:
    bench.controller.more_signatures = more
    assert bench.link.signatures(["a", "b"], "x") == Envelopes((b"a after x", b"b after x"), more)


def test_what_passes_is_counted_by_the_bytes_of_its_messages(bench: Bench, tmp_path: Path) -> None:
    bench.sync()
    assert sum(sent for sent, _ in bench.counted) >= CONNECTION_BYTES // 2
    bench.counted.clear()
    ref = bench.controller.hold(bytes(range(256)) * 400, MEDIA_ONNX)
    assert b"".join(bench.link.read(ref, 0)) == bytes(range(256)) * 400
    received = sum(received for _, received in bench.counted)
    assert on_wire_bytes(ref.size_bytes) <= received < 1.1 * ref.size_bytes + CONNECTION_BYTES
    bench.counted.clear()
    (tmp_path / "trace").write_bytes(bytes(50_000))
    bench.link.write(
        replace(ref, digest=of_file(tmp_path / "trace"), size_bytes=50_000), tmp_path / "trace"
    )
    assert on_wire_bytes(50_000) <= sum(sent for sent, _ in bench.counted) < 54_000


def test_a_transfer_that_was_cut_off_counts_what_had_come(bench: Bench) -> None:
    ref = bench.controller.hold(bytes(100_000), MEDIA_ONNX)
    bench.controller.on_read = lambda _digest, _offset: [bytes(30_000)]
    bench.controller.faults["Read.after"] = [grpc.StatusCode.UNAVAILABLE]
    with pytest.raises(Unreachable):
        list(bench.link.read(ref, 0))
    received = sum(received for _, received in bench.counted)
    assert received >= 100_000, "the rest may have been on the way"


def test_calls_that_reach_nobody_count_nothing(bench: Bench) -> None:
    bench.controller.stop()
    for _ in range(3):
        with pytest.raises(Unreachable):
            bench.report()
    assert bench.counted == []
