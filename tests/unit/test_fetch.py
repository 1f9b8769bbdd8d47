"""Artifacts arrive whole or not at all, over a real gRPC server that misbehaves in every way."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from assay.agent.plane import fetch as fetch_module
from assay.agent.plane.cache import ArtifactCache
from assay.agent.plane.fetch import Fetcher
from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow
from assay.agent.plane.traffic import CALL_BYTES, Traffic, on_wire_bytes
from assay.core.cas import ContentStore
from assay.core.channel import Backoff
from assay.core.errors import (
    BadMessage,
    Cancelled,
    CorruptArtifact,
    DiskFull,
    NotFound,
    OverBudget,
    PermissionDenied,
    Unreachable,
)
from assay.core.model import MEDIA_ONNX, ArtifactRef
from tests.fake_controller import FakeController

PLENTY = 1 << 40
DATA = bytes(range(256)) * 40  # eleven chunks of the fake


@dataclass
class Bench:
    controller: FakeController
    root: Path
    quota: int = 100_000
    free: int = PLENTY

    def __post_init__(self) -> None:
        self.quiet = QuietWindow()
        self.link = Link(self.controller.dial, self.controller.dial, self.quiet)
        self.store = ContentStore(self.root)
        self.cache = ArtifactCache(self.store, self.quota, 1000, lambda: self.free)
        self.fetcher = Fetcher(self.cache, self.link.read, random.Random(1))
        self.ref = self.controller.hold(DATA, MEDIA_ONNX)
        self.cancel = threading.Event()

    def fetch(self, ref: ArtifactRef | None = None) -> bytes:
        return self.fetcher.fetch(ref or self.ref, self.cancel).read_bytes()

    @property
    def offsets(self) -> list[int]:
        return [offset for _digest, offset in self.controller.reads]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(
        fetch_module, "Backoff", lambda rng: Backoff(first_s=0.001, most_s=0.001, rng=rng)
    )
    controller = FakeController().start()
    it = Bench(controller, tmp_path / "artifacts")
    yield it
    it.link.close()
    controller.stop()


def test_an_artifact_is_fetched_once(bench: Bench) -> None:
    assert bench.fetch() == DATA
    assert bench.fetch() == DATA
    assert bench.offsets == [0]


def test_a_download_that_was_cut_off_resumes_where_it_was(bench: Bench) -> None:
    pieces: list[list[bytes] | None] = [[DATA[:3000]], [DATA[3000:4000]], None]
    bench.controller.on_read = lambda digest, offset: pieces.pop(0)
    bench.controller.faults["Read.after"] = [grpc.StatusCode.UNAVAILABLE] * 2
    assert bench.fetch() == DATA
    assert bench.offsets == [0, 3000, 4000]


def test_it_resumes_after_a_restart_of_the_agent(bench: Bench) -> None:
    with pytest.raises(ConnectionError):
        bench.store.receive(bench.ref, broken_after(DATA[:5000]))
    assert bench.fetch() == DATA
    assert bench.offsets == [5000]


def test_what_was_complete_but_unverified_needs_no_network(bench: Bench) -> None:
    with pytest.raises(ConnectionError):
        bench.store.receive(bench.ref, broken_after(DATA))
    assert bench.fetch() == DATA
    assert bench.offsets == []


def test_a_stream_that_ends_early_is_resumed(bench: Bench) -> None:
    pieces: list[list[bytes] | None] = [[DATA[:2000]], None]
    bench.controller.on_read = lambda digest, offset: pieces.pop(0)
    assert bench.fetch() == DATA
    assert bench.offsets == [0, 2000]


def test_a_flipped_bit_on_the_way_is_fetched_anew_once(bench: Bench) -> None:
    wrong = bytes([DATA[0] ^ 1]) + DATA[1:]
    pieces: list[list[bytes] | None] = [[wrong], None]
    bench.controller.on_read = lambda digest, offset: pieces.pop(0)
    assert bench.fetch() == DATA
    assert bench.offsets == [0, 0]


@pytest.mark.parametrize(
    "sent",
    [[b"x" * len(DATA)], [DATA, b"and more"], [], [b""], [DATA[:-1], b"!"]],
    ids=["other content", "longer", "nothing", "empty chunk", "last byte"],
)
def test_content_that_is_wrong_twice_is_given_up(bench: Bench, sent: list[bytes]) -> None:
    bench.controller.on_read = lambda digest, offset: sent
    with pytest.raises(CorruptArtifact):
        bench.fetch()
    assert bench.offsets == [0, 0]
    assert not bench.store.has(bench.ref.digest)
    assert bench.store.partial_bytes(bench.ref) == 0


def test_an_endless_stream_is_cut_at_the_promised_size(bench: Bench) -> None:
    sent = 0

    def endless(digest: str, offset: int) -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1000
            yield bytes(1000)

    bench.controller.on_read = endless
    with pytest.raises(CorruptArtifact, match="longer than"):
        bench.fetch()
    assert sent < 50_000_000


def test_an_offset_that_was_ignored_is_noticed(bench: Bench) -> None:
    with pytest.raises(ConnectionError):
        bench.store.receive(bench.ref, broken_after(DATA[:5000]))
    pieces: list[list[bytes] | None] = [[DATA], None]
    bench.controller.on_read = lambda digest, offset: pieces.pop(0)
    assert bench.fetch() == DATA
    assert bench.offsets == [5000, 0]


def test_a_refused_offset_starts_over(bench: Bench) -> None:
    with pytest.raises(ConnectionError):
        bench.store.receive(bench.ref, broken_after(DATA[:5000]))
    bench.controller.faults["Read"] = [BadMessage("beyond the end")]
    assert bench.fetch() == DATA
    assert bench.offsets == [5000, 0]


def test_a_bit_that_flipped_on_disk_is_found_and_fetched_anew(bench: Bench) -> None:
    path = bench.fetcher.fetch(bench.ref, bench.cancel)
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    assert bench.fetch() == DATA
    assert bench.offsets == [0, 0]


@pytest.mark.parametrize("error", [NotFound("no such"), PermissionDenied("not in a lease")])
def test_what_the_controller_will_not_give_is_given_up_at_once(
    bench: Bench, error: NotFound | PermissionDenied
) -> None:
    bench.controller.faults["Read"] = [error]
    with pytest.raises(type(error)):
        bench.fetch()
    assert bench.offsets == [0]


def test_an_absent_controller_is_waited_for(bench: Bench) -> None:
    port = bench.controller.port
    bench.controller.stop()
    result: list[bytes] = []
    thread = threading.Thread(target=lambda: result.append(bench.fetch()))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    bench.controller.start(port)
    thread.join(10)
    assert result == [DATA]


def test_waiting_ends_with_the_round(bench: Bench) -> None:
    bench.controller.stop()
    threading.Timer(0.1, bench.cancel.set).start()
    with pytest.raises(Cancelled):
        bench.fetch()


def test_room_is_looked_for_before_anything_is_asked_for(bench: Bench) -> None:
    bench.free = 1000 + len(DATA) - 1
    with pytest.raises(DiskFull, match="free some space there"):
        bench.fetch()
    assert bench.offsets == []
    bench.free += 1
    assert bench.fetch() == DATA


def test_a_resumed_file_needs_room_only_for_the_rest(bench: Bench) -> None:
    with pytest.raises(ConnectionError):
        bench.store.receive(bench.ref, broken_after(DATA[:5000]))
    bench.free = 1000 + len(DATA) - 5000
    assert bench.fetch() == DATA


def test_the_least_recently_used_goes_first_and_the_pinned_stay(bench: Bench) -> None:
    bench.cache._quota_bytes = 4000
    refs = [bench.controller.hold(bytes([i]) * 1000, MEDIA_ONNX) for i in range(6)]
    for age, ref in enumerate(refs[:4]):
        path = bench.fetcher.fetch(ref, bench.cancel)
        os.utime(path, (1000 + age, 1000 + age))
    bench.cache.pin("round", [refs[1].digest])
    bench.fetch(refs[0])  # used again: now the newest
    bench.fetch(refs[4])
    bench.fetch(refs[5])
    held = {digest for digest, _ in bench.store.held()}
    assert held == {refs[i].digest for i in (0, 1, 4, 5)}
    bench.cache.unpin("round")
    bench.cache.evict_all()
    assert list(bench.store.held()) == []


def test_a_quota_full_of_pinned_files_is_said(bench: Bench) -> None:
    bench.cache._quota_bytes = 1500
    first, second = (bench.controller.hold(bytes([i]) * 1000, MEDIA_ONNX) for i in (1, 2))
    bench.cache.pin("round", [first.digest, second.digest])
    bench.fetch(first)
    with pytest.raises(DiskFull, match="raise cache_quota_bytes"):
        bench.fetch(second)


def test_damaged_files_are_the_first_to_go(bench: Bench) -> None:
    bench.cache._quota_bytes = len(DATA) + 1500
    path = bench.fetcher.fetch(bench.ref, bench.cancel)
    path.write_bytes(bytes(len(DATA)))
    other = bench.controller.hold(b"o" * 1000, MEDIA_ONNX)
    bench.fetch(other)
    assert bench.cache.verified(bench.ref) is None
    bench.fetch()
    assert not list((bench.root / "partial").iterdir())
    assert bench.store.has(other.digest)


def test_a_quiet_window_holds_a_download_back(bench: Bench) -> None:
    bench.quiet.enter()
    thread = threading.Thread(target=bench.fetch)
    thread.start()
    thread.join(0.1)
    assert bench.offsets == []
    bench.quiet.leave()
    thread.join(10)
    assert bench.offsets == [0]


def test_shed_calls_are_tried_again(bench: Bench) -> None:
    bench.controller.faults["Read"] = [grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL]
    assert bench.fetch() == DATA


def test_an_unreachable_error_is_what_the_link_raises(bench: Bench) -> None:
    bench.controller.stop()
    with pytest.raises(Unreachable):
        next(bench.link.read(bench.ref, 0))


def test_what_is_more_than_is_left_of_the_day_is_not_asked_for(
    bench: Bench, tmp_path: Path
) -> None:
    traffic = Traffic(tmp_path / "traffic.json", 3 * len(DATA), "boot", lambda: 0)
    bench.fetcher.reserve = traffic.reserved
    traffic.count(len(DATA), len(DATA) + 1)
    with pytest.raises(OverBudget, match="artifact sha256") as caught:
        bench.fetch()
    assert not caught.value.never
    assert bench.offsets == []


def test_only_the_rest_of_a_cut_download_must_fit(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        bench.store.receive(bench.ref, broken_after(DATA[:9000]))
    limit = on_wire_bytes(len(DATA) - 9000) + CALL_BYTES
    bench.fetcher.reserve = Traffic(tmp_path / "t.json", limit, "boot", lambda: 0).reserved
    assert bench.fetch() == DATA


def broken_after(data: bytes) -> Iterable[bytes]:
    yield data
    raise ConnectionError("the network went away")
