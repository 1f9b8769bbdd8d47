"""Results are handed over until they are acknowledged, and leave this device only then."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow
from assay.agent.plane.report import Reporter
from assay.agent.plane.rounds import RoundBook, seq_of
from assay.agent.plane.spool import Key, Spool
from assay.core import convert, digest
from assay.core.cas import ContentStore
from assay.core.errors import AssayError, BadMessage, DiskFull, OverBudget, PermissionDenied
from assay.core.model import MEDIA_NPZ, Round
from assay.v1 import fleet_pb2
from tests import plane
from tests.fake_controller import FakeController

S = plane.S
STATUS = fleet_pb2.RecordStatus


def a_round(runs: int = 2) -> Round:
    made = tuple(plane.run(f"v{i}", f"r1.1.{i}") for i in range(runs))
    return Round("r1", "s1", "sweep", 0, 1, 100 * S, made)


@dataclass
class Bench:
    controller: FakeController
    home: Path
    runs: int = 2

    def __post_init__(self) -> None:
        self.quiet = QuietWindow()
        self.link = Link(self.controller.dial, self.controller.dial, self.quiet)
        self.spool = Spool(self.home / "spool", 1 << 24, lambda: 1 << 40)
        self.traces = ContentStore(self.home / "traces")
        (self.home / "rounds").mkdir(exist_ok=True)
        self.book = RoundBook(self.home / "rounds", "boot")
        self.round = a_round(self.runs)
        self.book.accept(self.round, 0)
        self.wakes: list[bool] = []
        self.reporter = Reporter(
            link=self.link,
            spool=self.spool,
            traces=self.traces,
            book=self.book,
            quiet=self.quiet,
            rejected=self.home / "rejected",
            on_recorded=lambda: self.wakes.append(self.book.held[0].recorded),
            rng=random.Random(1),
        )

    def result(self, position: int, *, trace: bytes | None = None, pad: int = 0) -> Key:
        """A result in the spool, with its trace in the store of traces."""
        ref = self.traces.add_bytes(trace, MEDIA_NPZ) if trace is not None else None
        key = Key(self.round.runs[position].attempt_id, seq_of(1, 1))
        made = plane.result(self.round, position, seq=key.seq, note="x" * pad)
        self.spool.append(key, convert.to_bytes(replace(made, trace=ref)))
        return key

    @property
    def waiting(self) -> list[Key]:
        return [entry.key for entry in self.spool.entries]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    controller = FakeController().start()
    it = Bench(controller, tmp_path)
    yield it
    it.link.close()
    it.spool.close()
    controller.stop()


def test_results_go_verbatim_and_leave_on_their_acknowledgement(bench: Bench) -> None:
    keys = [bench.result(0), bench.result(1)]
    bodies = {entry.key: bench.spool.read(entry) for entry in bench.spool.entries}
    assert bench.reporter.step() == 0.0
    assert {Key(*key): body for key, body in bench.controller.results.items()} == bodies
    assert list(bodies) == keys
    assert bench.waiting == []
    assert bench.wakes == [True]
    assert bench.reporter.step() is None


def test_the_trace_is_handed_over_before_its_result_and_then_removed(bench: Bench) -> None:
    bench.result(0, trace=b"samples")
    bench.controller.faults["ReportResults"] = [grpc.StatusCode.UNAVAILABLE]
    bench.reporter.step()
    assert list(bench.controller.traces.values()) == [b"samples"]
    assert bench.controller.results == {}
    assert len(list(bench.traces.held())) == 1
    bench.controller.faults["Write"] = [BadMessage("it is not sent twice")]
    bench.reporter.step()
    assert len(bench.controller.results) == 1
    assert bench.controller.faults["Write"], "the trace was sent again"
    assert list(bench.traces.held()) == []


def test_a_trace_that_cannot_be_sent_now_holds_its_result_back(bench: Bench) -> None:
    bench.result(0, trace=b"samples")
    bench.controller.faults["Write"] = [grpc.StatusCode.UNAVAILABLE]
    pause_s = bench.reporter.step()
    assert pause_s is not None and pause_s > 0
    assert bench.controller.reports == []
    bench.reporter.step()
    assert len(bench.controller.results) == 1


@pytest.mark.parametrize("error", [BadMessage("too large"), DiskFull("quota")])
def test_a_trace_that_is_refused_does_not_hold_its_result_back(
    bench: Bench, error: AssayError
) -> None:
    bench.result(0, trace=b"samples")
    bench.controller.faults["Write"] = [error]
    bench.reporter.step()
    assert len(bench.controller.results) == 1


def test_a_trace_without_room_waits_and_its_result_goes(bench: Bench) -> None:
    room = [False]

    @contextlib.contextmanager
    def reserve(size: int, what: str) -> Iterator[None]:
        if not room[0]:
            raise OverBudget(f"no room for {what}", size)
        yield

    late = ContentStore(bench.home / "late")
    bench.reporter.late, bench.reporter.reserve = late, reserve
    bench.result(0, trace=b"samples")
    bench.reporter.step()
    assert len(bench.controller.results) == 1
    assert bench.controller.traces == {}
    assert [size for _digest, size in late.held()] == [7]
    assert bench.reporter.step() == 600.0
    bench.reporter.drop_orphans()
    room[0] = True
    assert bench.reporter.step() is None
    assert list(bench.controller.traces.values()) == [b"samples"]
    assert list(late.held()) == []


def test_late_traces_are_bounded(bench: Bench) -> None:
    def reserve(size: int, what: str) -> contextlib.AbstractContextManager[None]:
        raise OverBudget(f"no room for {what}", size)

    late = ContentStore(bench.home / "late")
    bench.reporter.late, bench.reporter.reserve = late, reserve
    bench.reporter.late_quota_bytes = 10
    for position in (0, 1):
        bench.result(position, trace=b"sample" + bytes([position]))
    bench.reporter.step()
    assert len(bench.controller.results) == 2
    assert len(list(late.held())) == 1
    assert list(bench.traces.held()) == []


def test_a_lost_acknowledgement_is_a_replay_that_counts_once(bench: Bench) -> None:
    bench.result(0)
    bench.controller.faults["ReportResults.after"] = [grpc.StatusCode.UNAVAILABLE]
    bench.reporter.step()
    assert len(bench.controller.results) == 1
    assert len(bench.waiting) == 1
    bench.reporter.step()
    assert len(bench.controller.results) == 1
    assert bench.waiting == []


def test_an_acknowledged_result_is_noted_before_the_spool_lets_go(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.result(0)

    def killed(keys: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.spool, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        bench.reporter.step()
    reopened = RoundBook(bench.home / "rounds", "boot")
    assert reopened.held[0].state(key.attempt_id).value == "recorded"


@pytest.mark.parametrize(
    "status",
    [STATUS.RECORD_STATUS_ALREADY_STORED, STATUS.RECORD_STATUS_STORED_SUPERSEDED],
)
def test_every_word_that_says_kept_lets_the_entry_go(bench: Bench, status: int) -> None:
    key = bench.result(0)
    bench.controller.statuses[key.attempt_id] = status
    bench.reporter.step()
    assert bench.waiting == []
    assert not (bench.home / "rejected").exists()


@pytest.mark.parametrize("status", [STATUS.RECORD_STATUS_REJECTED, STATUS.RECORD_STATUS_CONFLICT])
def test_a_result_that_is_not_taken_is_kept_for_people(bench: Bench, status: int) -> None:
    key = bench.result(0)
    body = bench.spool.read(bench.spool.entries[0])
    bench.controller.statuses[key.attempt_id] = status
    bench.reporter.step()
    assert bench.waiting == []
    (kept,) = (bench.home / "rejected").iterdir()
    assert kept.read_bytes() == body


@pytest.mark.parametrize("status", [STATUS.RECORD_STATUS_UNSPECIFIED, 99])
def test_a_word_of_a_newer_version_keeps_the_entry(bench: Bench, status: int) -> None:
    key = bench.result(0)
    other = bench.result(1)
    bench.controller.statuses[key.attempt_id] = status
    pause_s = bench.reporter.step()
    assert pause_s is not None and pause_s > 0
    assert bench.waiting == [key]
    assert (other.attempt_id, other.seq) in bench.controller.results


def test_one_result_that_is_refused_does_not_hold_up_the_others(bench: Bench) -> None:
    keys = [bench.result(0), bench.result(1)]
    bench.controller.faults["ReportResults"] = [BadMessage("unreadable")] * 2
    for _ in range(3):
        bench.reporter.step()
    assert bench.waiting == []
    assert list(bench.controller.results) == [tuple(keys[1])]
    assert len(list((bench.home / "rejected").iterdir())) == 1


def test_a_controller_that_is_away_or_refuses_loses_nothing(bench: Bench) -> None:
    bench.result(0)
    faults = [grpc.StatusCode.UNAVAILABLE, PermissionDenied("revoked"), DiskFull("over there")]
    bench.controller.faults["ReportResults"] = list(faults)
    pauses = [bench.reporter.step() for _ in faults]
    assert all(pause is not None and pause > 0 for pause in pauses)
    assert len(bench.waiting) == 1
    bench.reporter.step()
    assert bench.waiting == []


def test_batches_are_bounded_by_number_and_bytes(tmp_path: Path) -> None:
    controller = FakeController().start()
    bench = Bench(controller, tmp_path, runs=450)
    for position in range(450):
        bench.result(position)
    while bench.reporter.step() is not None:
        pass
    assert [len(report.results) for report in controller.reports] == [200, 200, 50]
    for position in range(6):
        bench.result(position, pad=300_000)
    while bench.reporter.step() is not None:
        pass
    assert all(report.ByteSize() <= 1 << 20 for report in controller.reports)
    assert [len(report.results) for report in controller.reports[3:]] == [3, 3]
    bench.link.close()
    controller.stop()


def test_what_does_not_get_through_is_sent_in_smaller_parts(tmp_path: Path) -> None:
    controller = FakeController().start()
    bench = Bench(controller, tmp_path, runs=20)
    for position in range(20):
        bench.result(position, pad=40_000)
    # As on a slow line: whatever takes longer than the call may is cut off.
    controller.faults["ReportResults"] = [grpc.StatusCode.DEADLINE_EXCEEDED] * 6
    while bench.reporter.step() is not None:
        pass
    sizes = [len(report.results) for report in controller.reports]
    assert sizes[0] == 20 and sizes[:6] == sorted(sizes[:6], reverse=True) and sizes[5] == 1
    # What got through grows again.
    assert sum(sizes[6:]) == 20 and max(sizes[6:]) > 4
    assert len(controller.results) == 20
    bench.link.close()
    controller.stop()


def test_the_controllers_pace_is_kept(bench: Bench) -> None:
    bench.result(0)
    bench.controller.retry_after_ns = 7 * S
    assert bench.reporter.step() == 7.0


def test_what_is_new_does_not_hurry_a_controller_that_asked_for_a_pause(bench: Bench) -> None:
    stop = threading.Event()
    bench.controller.retry_after_ns = 3600 * S
    bench.result(0)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(bench.reporter.run, stop)
        assert bench.reporter.drain(10.0)
        bench.result(1)
        assert not bench.reporter.drain(0.2)
        stop.set()
        bench.reporter.wake()
        running.result(10)
    assert len(bench.controller.results) == 1


def test_nothing_is_reported_inside_a_quiet_window(bench: Bench) -> None:
    bench.result(0)
    bench.quiet.enter()
    with ThreadPoolExecutor() as pool:
        step = pool.submit(bench.reporter.step)
        assert not bench.quiet.wait_open(0.1)
        assert bench.controller.reports == []
        bench.quiet.leave()
        step.result(10)
    assert len(bench.controller.results) == 1


def test_draining_waits_for_the_hand_over_but_not_for_an_absent_controller(bench: Bench) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(bench.reporter.run, stop)
        bench.result(0)
        assert bench.reporter.drain(10.0)
        assert len(bench.controller.results) == 1
        bench.controller.faults["ReportResults"] = [grpc.StatusCode.UNAVAILABLE] * 50
        bench.result(1)
        assert not bench.reporter.drain(10.0)
        stop.set()
        bench.reporter.wake()
        running.result(10)


def test_a_trace_no_result_names_is_removed_at_start(bench: Bench) -> None:
    bench.result(0, trace=b"wanted")
    bench.traces.add_bytes(b"orphan", MEDIA_NPZ)
    bench.reporter.drop_orphans()
    (held,) = bench.traces.held()
    assert held == (digest.of_bytes(b"wanted"), 6)
