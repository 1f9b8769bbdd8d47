"""The Sync loop against a real gRPC server, one step at a time, with the test's clock and dice."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest
import structlog.testing
from google.protobuf.duration_pb2 import Duration

from assay.agent.clock import Clock
from assay.agent.plane.identity import Identity
from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow, Stopping
from assay.agent.plane.rounds import AttemptState, RoundBook, seq_of
from assay.agent.plane.session import Session
from assay.agent.plane.spool import Key, Spool
from assay.core import convert
from assay.core.errors import (
    AssayError,
    PermissionDenied,
    Unauthenticated,
    Unreachable,
    VersionMismatch,
)
from assay.core.model import DeviceFacts, Round
from assay.v1 import fleet_pb2, job_pb2
from tests import plane
from tests.fake_controller import FakeController

S = plane.S
WAIT_S = 10.0


@dataclass
class FakeClock(Clock):
    now_ns: int = 1000 * S
    wall_ns: int = 1_800_000_000 * S

    def boottime_ns(self) -> int:
        return self.now_ns

    def unix_ns(self) -> int:
        return self.wall_ns


@dataclass
class Bench:
    """A session and everything around it."""

    controller: FakeController
    home: Path
    clock: FakeClock = field(default_factory=FakeClock)
    refused: list[tuple[str, str]] = field(default_factory=list)
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        self.quiet = QuietWindow(grace_s=1.0)
        self.link = Link(self.controller.dial, self.controller.dial, self.quiet)
        self.spool = Spool(self.home / "spool", 1 << 20, lambda: 1 << 40)
        self.book = RoundBook(self.home, "boot")
        self.session = Session(
            link=self.link,
            book=self.book,
            spool=self.spool,
            quiet=self.quiet,
            identity=Identity("d1", "bench", "", "", "127.0.0.1:1", "", "", 2_000_000_000),
            facts=plane.facts,
            health=lambda: fleet_pb2.Health(disk_free_bytes=5),
            refuse=lambda message, why: self.refused.append((message.round_id, why)),
            clock=self.clock,
            rng=random.Random(1),
            wait_s=self.wait_s,
        )


@pytest.fixture
def controller() -> Iterator[FakeController]:
    fake = FakeController().start()
    yield fake
    fake.stop()


@pytest.fixture
def bench(controller: FakeController, tmp_path: Path) -> Iterator[Bench]:
    it = Bench(controller, tmp_path)
    yield it
    it.link.close()
    it.spool.close()


def a_round(round_id: str = "r1", fence: int = 1, lease_ns: int = 100 * S) -> Round:
    runs = tuple(plane.run(name, f"{round_id}.{fence}.{name}") for name in ("fp32", "int8"))
    return Round(round_id, "s1", "sweep", 0, fence, lease_ns, runs)


def test_a_sync_says_what_this_device_is_and_holds(bench: Bench) -> None:
    bench.controller.assign(a_round())
    bench.session.step()
    bench.book.advance("r1", "r1.1.fp32", AttemptState.WARMING)
    bench.session.step()
    first, second = bench.controller.syncs
    assert convert.from_proto(first.device, DeviceFacts) == plane.facts()
    assert first.health.disk_free_bytes == 5
    assert (first.proto_min, first.proto_max, first.accepting) == (1, 1, True)
    assert list(first.attempts) == []
    states = [(a.attempt_id, a.round_id, a.fence, a.state) for a in second.attempts]
    assert states == [
        ("r1.1.fp32", "r1", 1, fleet_pb2.ATTEMPT_STATE_WARMING),
        ("r1.1.int8", "r1", 1, fleet_pb2.ATTEMPT_STATE_ACCEPTED),
    ]


def test_every_state_has_its_name_on_the_wire() -> None:
    for state in AttemptState:
        assert fleet_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state.name}") > 0


def test_a_round_missing_from_the_reply_is_cancelled(bench: Bench) -> None:
    bench.controller.assign(a_round())
    bench.session.step()
    assert bench.book.take(threading.Event()) is not None
    bench.controller.assign()
    bench.session.step()
    assert bench.book.cancelled("r1").is_set()
    bench.book.release("r1")
    bench.session.step()
    assert bench.book.held == ()
    assert bench.controller.syncs[-1].attempts[0].state == fleet_pb2.ATTEMPT_STATE_CANCELLED


def test_next_sync_in_is_obeyed_with_jitter(bench: Bench) -> None:
    bench.controller.next_sync_in_ns = 20 * S
    pauses = [bench.session.step() for _ in range(20)]
    assert all(18 <= pause <= 22 for pause in pauses)
    assert len(set(pauses)) > 10


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
    ],
)
def test_a_status_that_no_controller_raised_is_tried_again(
    bench: Bench, code: grpc.StatusCode
) -> None:
    bench.controller.faults["Sync"] = [code, code]
    bench.controller.next_sync_in_ns = 60 * S
    pauses = [bench.session.step() for _ in range(3)]
    assert max(pauses[:2]) <= 1.0
    assert pauses[2] > 50


def test_waits_between_failures_grow_to_a_cap_and_start_over(bench: Bench) -> None:
    bench.controller.faults["Sync"] = [grpc.StatusCode.UNAVAILABLE] * 12
    pauses = [bench.session.step() for _ in range(12)]
    assert max(pauses) > 8
    assert all(0.25 <= pause <= 30 for pause in pauses)
    bench.session.step()
    bench.controller.faults["Sync"] = [grpc.StatusCode.UNAVAILABLE]
    assert bench.session.step() <= 0.5


def test_a_dead_network_that_may_be_a_refused_certificate_is_called_so(bench: Bench) -> None:
    bench.controller.stop()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            bench.session.step()
    assert "note" not in logs[0]
    assert "certificate may be refused" in logs[2]["note"]
    bench.clock.wall_ns = 2_000_000_001 * S
    with structlog.testing.capture_logs() as logs:
        bench.session.step()
    assert "certificate ended on 2033-05-18" in logs[0]["note"]


@pytest.mark.parametrize("error", [PermissionDenied("revoked"), Unauthenticated("unknown")])
def test_a_refusal_by_the_controller_ends_all_work(bench: Bench, error: AssayError) -> None:
    bench.controller.assign(a_round())
    bench.session.step()
    bench.controller.faults["Sync"] = [error]
    with pytest.raises(type(error), match=str(error)):
        bench.session.run(threading.Event())
    assert bench.book.cancelled("r1").is_set()


def test_an_error_inside_the_controller_is_tried_again(bench: Bench) -> None:
    bench.controller.faults["Sync"] = [AssayError("a bug over there")]
    assert bench.session.step() <= 0.5
    assert bench.controller.syncs
    bench.controller.assign(a_round())
    bench.session.step()
    assert len(bench.book.held) == 1


def test_no_common_version_ends_the_agent_with_the_reason(bench: Bench) -> None:
    bench.controller.proto = 2
    with pytest.raises(VersionMismatch, match="speaks protocol 2, this agent 1"):
        bench.session.run(threading.Event())


def test_drain_takes_nothing_new_and_goes_on_with_what_is_held(bench: Bench) -> None:
    bench.controller.assign(a_round("r1"))
    bench.session.step()
    bench.controller.drain = True
    bench.controller.assign(a_round("r1"), a_round("r2"))
    bench.session.step()
    assert [each.round.round_id for each in bench.book.held] == ["r1"]
    assert not bench.book.cancelled("r1").is_set()


def test_a_spool_near_full_refuses_new_rounds(bench: Bench) -> None:
    bench.spool.append(Key("a", 1), bytes(900_000))
    bench.controller.assign(a_round())
    bench.session.step()
    assert not bench.controller.syncs[-1].accepting
    assert bench.book.held == ()
    bench.spool.remove([Key("a", 1)])
    bench.session.step()
    assert len(bench.book.held) == 1


def test_a_round_that_is_put_off_is_named_and_not_taken_again(bench: Bench) -> None:
    put_off: list[tuple[str, int]] = []
    bench.session.put_off = lambda: put_off
    bench.session.may_take = lambda passes_over: passes_over or not put_off
    bench.controller.assign(a_round())
    bench.session.step()
    put_off.append(("r1", 1))
    bench.book.forget("r1")
    bench.session.step()
    sent = bench.controller.syncs[-1]
    assert [(g.round_id, g.fence) for g in sent.put_off] == [("r1", 1)]
    assert bench.book.held == (), "the reply was older than that"
    assert not sent.accepting, "a controller that does not pass it over would grant it again"
    bench.controller.passes_over = True
    bench.controller.assign(a_round("r2"))
    bench.session.step()
    assert [each.round.round_id for each in bench.book.held] == ["r2"]
    bench.session.step()
    assert bench.controller.syncs[-1].accepting
    put_off.clear()
    bench.controller.assign(a_round(fence=2), a_round("r2"))
    bench.session.step()
    assert sorted(each.round.round_id for each in bench.book.held) == ["r1", "r2"]


def test_a_lease_is_counted_from_receipt_and_ends_without_the_controller(bench: Bench) -> None:
    bench.controller.assign(a_round(lease_ns=10 * S))
    bench.session.step()
    bench.controller.faults["Sync"] = [grpc.StatusCode.UNAVAILABLE] * 2
    bench.clock.now_ns += 9 * S
    bench.session.step()
    assert not bench.book.cancelled("r1").is_set()
    bench.clock.now_ns += 1 * S
    bench.session.step()
    assert bench.book.cancelled("r1").is_set()


def test_a_long_poll_is_not_held_longer_than_the_lease(
    controller: FakeController, tmp_path: Path
) -> None:
    bench = Bench(controller, tmp_path, wait_s=30.0)
    controller.assign(a_round(lease_ns=2 * S))
    bench.session.step()
    bench.clock.now_ns += int(1.95 * S)
    bench.session.step()
    assert controller.syncs[-1].wait.ToNanoseconds() == pytest.approx(0.05 * S)
    bench.link.close()


def test_a_round_that_is_recorded_is_forgotten_without_a_long_poll(
    controller: FakeController, tmp_path: Path
) -> None:
    bench = Bench(controller, tmp_path, wait_s=30.0)
    controller.assign(a_round())
    bench.session.step()
    bench.book.recorded(Key(f"r1.1.{name}", seq_of(1, 1)) for name in ("fp32", "int8"))
    controller.assign()
    bench.session.step()
    assert controller.syncs[-1].wait == Duration()
    assert bench.book.held == ()
    bench.link.close()


def test_a_run_that_begins_ends_the_long_poll_and_is_announced(
    controller: FakeController, tmp_path: Path
) -> None:
    bench = Bench(controller, tmp_path, wait_s=30.0)
    controller.assign(a_round())
    bench.session.step()
    with ThreadPoolExecutor() as pool:
        polling = pool.submit(bench.session.step)
        controller.until(lambda: len(controller.syncs) == 2)
        bench.quiet.enter()
        assert polling.result(WAIT_S) == 0.0
        bench.session.announce(42 * S)
        announced = controller.syncs[-1]
        assert announced.quiet_for == Duration(seconds=42)
        assert announced.wait == Duration()
        calls = len(controller.syncs)
        waiting = pool.submit(bench.session.step)
        assert not bench.quiet.wait_open(0.05)
        assert len(controller.syncs) == calls
        controller.assign()
        bench.quiet.leave()
        waiting.result(WAIT_S)
    assert len(controller.syncs) == calls + 1
    bench.link.close()


def test_a_cancel_still_arrives_with_the_announcement(bench: Bench) -> None:
    bench.controller.assign(a_round())
    bench.session.step()
    assert bench.book.take(threading.Event()) is not None
    bench.controller.assign()
    bench.quiet.enter()
    bench.session.announce(S)
    assert bench.book.cancelled("r1").is_set()


def test_nobody_is_told_where_the_controller_was_away_already(bench: Bench) -> None:
    bench.controller.faults["Sync"] = [grpc.StatusCode.UNAVAILABLE]
    bench.session.step()
    bench.quiet.enter()
    bench.session.announce(S)
    assert len(bench.controller.syncs) == 1
    bench.session.announce(S, again=True)
    assert bench.controller.syncs[-1].quiet_for == Duration(seconds=1), "it is back"


def test_a_round_of_a_newer_version_is_refused_once_and_by_name(bench: Bench) -> None:
    message = job_pb2.Round()
    message.CopyFrom(convert.to_proto(a_round()))  # type: ignore[arg-type]
    message.runs[0].scenario.kind = 99  # type: ignore[assignment]
    bench.controller.raw_assignments = [message]
    bench.session.step()
    bench.session.step()
    assert bench.book.held == ()
    ((round_id, why),) = bench.refused
    assert round_id == "r1"
    assert "99 is not a ScenarioKind" in why


def test_something_new_here_ends_the_long_poll(controller: FakeController, tmp_path: Path) -> None:
    bench = Bench(controller, tmp_path, wait_s=30.0)
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(bench.session.run, stop)
        for calls in (1, 2, 3):
            controller.until(lambda calls=calls: len(controller.syncs) >= calls)  # type: ignore[misc]
            bench.session.wake()
        stop.set()
        bench.quiet.stop()
        bench.session.wake()
        running.result(WAIT_S)
    bench.link.close()


def test_stopping_ends_a_step_that_waits(bench: Bench) -> None:
    bench.quiet.stop()
    with pytest.raises(Stopping):
        bench.session.step()


def test_once_ends_when_there_is_nothing_left(bench: Bench) -> None:
    bench.session.run(threading.Event(), once=True)
    assert [sync.wait for sync in bench.controller.syncs] == [Duration()] * 2


def test_once_gives_a_dead_controller_up(bench: Bench) -> None:
    bench.controller.stop()
    bench.session._backoff = replace(bench.session._backoff, most_s=0.01, first_s=0.01)
    with pytest.raises(Unreachable):
        bench.session.run(threading.Event(), once=True)
