"""The server's parts on their own: group commit, presence, long-polls, error statuses."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from assay.controller.home import Home
from assay.controller.records import DeviceState, Recorded, RecordOutcome, Wishes
from assay.controller.server.backlog import Backlog
from assay.controller.server.presence import Presence
from assay.controller.server.recorder import Recorder
from assay.controller.server.rest import Rest
from assay.controller.server.waiting import WaitingRoom
from assay.controller.store import open_store
from assay.controller.store.arrival import Arrived, Reported
from assay.controller.store.base import Store
from assay.core.convert import to_proto
from assay.core.errors import DiskFull, Unreachable
from assay.core.model import DeviceFacts
from assay.v1 import device_pb2
from tests.plane import S, device, facts, queued, reported, result, sweep


class SlowStore:
    """Keeps what is recorded, one transaction at a time, each held until it is let go."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.poison = ""

    def record_all(
        self, batches: Sequence[tuple[str, Sequence[Arrived]]], now_ns: int
    ) -> list[list[Recorded]]:
        self.entered.release()
        self.let_go.acquire()
        names = [name for name, _ in batches]
        if self.poison in names:
            raise DiskFull("no room")
        self.commits.append(names)
        return [[Recorded(RecordOutcome.STORED)] * len(results) for _, results in batches]


ENTRY: Reported = ("a", 1, "h", b"")


class TestRecorder:
    @pytest.fixture
    def store(self) -> SlowStore:
        return SlowStore()

    @pytest.fixture
    def recorder(self, store: SlowStore) -> Iterator[Recorder]:
        made = Recorder(cast(Store, store), lambda: 7)
        yield made
        for _ in range(100):
            store.let_go.release()
        made.close()

    def test_nothing_is_acknowledged_before_its_commit(
        self, recorder: Recorder, store: SlowStore
    ) -> None:
        done = recorder.record("one", [ENTRY])
        store.entered.acquire()
        assert not done.done()
        store.let_go.release()
        assert done.result(5) == [Recorded(RecordOutcome.STORED)]

    def test_what_gathers_during_a_commit_shares_the_next(
        self, recorder: Recorder, store: SlowStore
    ) -> None:
        first = recorder.record("one", [ENTRY])
        store.entered.acquire()
        rest = [recorder.record(name, [ENTRY]) for name in ("two", "three", "four")]
        store.let_go.release()
        store.let_go.release()
        for done in (first, *rest):
            done.result(5)
        assert store.commits == [["one"], ["two", "three", "four"]]

    def test_one_bad_batch_does_not_fail_the_others(
        self, recorder: Recorder, store: SlowStore
    ) -> None:
        store.poison = "bad"
        first = recorder.record("one", [ENTRY])
        store.entered.acquire()
        bad, good = recorder.record("bad", [ENTRY]), recorder.record("good", [ENTRY])
        for _ in range(4):
            store.let_go.release()
        assert first.result(5)
        with pytest.raises(DiskFull):
            bad.result(5)
        assert good.result(5)

    def test_devices_are_asked_to_wait_while_much_waits_to_be_recorded(
        self, recorder: Recorder, store: SlowStore
    ) -> None:
        dice = random.Random(1)
        first = recorder.record("one", [ENTRY])
        store.entered.acquire()
        assert recorder.backlog.pause_s(dice) == 0
        many = [recorder.record(str(n), [ENTRY] * 200) for n in range(20)]
        # 4,001 at a thousand a second, as nothing was measured yet.
        assert 2.0 <= recorder.backlog.pause_s(dice) <= 4.1
        store.let_go.release()
        first.result(5)
        for _ in range(20):
            store.let_go.release()
        for done in many:
            done.result(5)
        assert recorder.backlog.pause_s(dice) == 0

    def test_the_pace_is_that_of_the_last_commits_and_bounded(self) -> None:
        backlog, dice = Backlog(), random.Random(1)
        for _ in range(20):
            backlog.queued(200)
            backlog.committed(200, 20 * S)
        backlog.queued(100)
        assert 5.0 <= backlog.pause_s(dice) <= 10.1
        backlog.queued(100_000)
        assert backlog.pause_s(dice) == 30.0

    def test_empty_reports_say_nothing_about_the_pace(self) -> None:
        backlog, dice = Backlog(), random.Random(1)
        for _ in range(3_000):
            backlog.committed(0, 5_000_000)
        backlog.queued(1_000)
        assert 0.5 <= backlog.pause_s(dice) <= 1.0

    def test_closing_commits_what_is_queued_and_refuses_more(self, store: SlowStore) -> None:
        recorder = Recorder(cast(Store, store), lambda: 7)
        done = [recorder.record(str(index), [ENTRY]) for index in range(3)]
        for _ in range(3):
            store.let_go.release()
        recorder.close()
        assert all(future.done() for future in done)
        with pytest.raises(Unreachable):
            recorder.record("late", [ENTRY]).result(0)


def said(boot_id: str = "boot-1") -> device_pb2.DeviceFacts:
    return cast(device_pb2.DeviceFacts, to_proto(facts(boot_id)))


class TestPresence:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        opened = open_store(Home(tmp_path / "home"))
        opened.add_device(device())
        yield opened
        opened.close()

    def test_new_facts_are_written_at_once_and_last_seen_in_bulk(self, store: Store) -> None:
        presence = Presence(store)
        presence.note("id-bench", said(), 0, 100 * S)
        presence.flush(100 * S)
        assert store.device("bench").facts == facts()
        presence.note("id-bench", said(), 0, 105 * S)
        presence.flush(105 * S)
        assert store.device("bench").last_seen_ns == 100 * S
        presence.flush(111 * S)
        assert store.device("bench").last_seen_ns == 105 * S

    def test_everything_is_written_at_the_end(self, store: Store) -> None:
        presence = Presence(store)
        presence.flush(100 * S)
        presence.note("id-bench", None, 0, 101 * S)
        presence.flush(101 * S)
        assert store.device("bench").last_seen_ns is None
        presence.flush(101 * S, everything=True)
        assert store.device("bench").last_seen_ns == 101 * S

    def test_an_announced_quiet_window_is_not_silence(self, store: Store) -> None:
        presence = Presence(store)
        presence.note("id-bench", None, 60 * S, 100 * S)
        assert presence.silences_ns(150 * S) == {"id-bench": 0}
        assert presence.silences_ns(170 * S) == {"id-bench": 10 * S}

    def test_facts_that_could_not_be_written_come_again(self, store: Store) -> None:
        flaky = Flaky(store)
        presence = Presence(cast(Store, flaky))
        presence.note("id-bench", said(), 0, 100 * S)
        flaky.full = True
        with pytest.raises(DiskFull):
            presence.flush(100 * S)
        flaky.full = False
        presence.note("id-bench", said(), 0, 101 * S)
        presence.flush(101 * S)
        assert store.device("bench").facts == facts()

    @pytest.mark.parametrize(
        ("boots", "clone"),
        [
            ("aaaa", False),
            ("abcdef", False),
            ("aabbcc", False),
            ("aba", False),  # one call that came late may look like this
            ("abab", True),
            ("abacb", True),
        ],
    )
    def test_boot_ids_that_take_turns_give_a_cloned_identity_away(
        self, store: Store, boots: str, clone: bool
    ) -> None:
        presence = Presence(store)
        noted = [presence.note("id-bench", said(boot), 0, i) for i, boot in enumerate(boots)]
        assert noted[-1] is clone
        assert not any(noted[:-1])

    def test_a_call_that_says_nothing_new_is_noted_by_itself(self, store: Store) -> None:
        presence = Presence(store)
        assert not presence.again("id-bench", said(), 0, S), "it was never heard"
        presence.note("id-bench", said(), 0, S)
        assert presence.again("id-bench", said(), 5 * S, 60 * S)
        assert presence.silences_ns(66 * S) == {"id-bench": S}
        assert not presence.again("id-bench", said("boot-2"), 0, 90 * S)
        assert presence.silences_ns(66 * S) == {"id-bench": S}
        presence.flush(100 * S, everything=True)
        assert store.device("id-bench").last_seen_ns == 60 * S


class TestRest:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        opened = open_store(Home(tmp_path))
        opened.add_device(device())
        yield opened
        opened.close()

    def test_a_device_without_a_round_is_at_rest(self, store: Store) -> None:
        rest = Rest(store)
        assert rest.admission("id-bench") is None, "nobody has looked yet"
        rest.look()
        assert rest.admission("id-bench") == store.admission("id-bench")
        assert rest.admission("id-ghost") is None

    def test_whoever_writes_makes_it_forgotten(self, store: Store, tmp_path: Path) -> None:
        rest, elsewhere = Rest(store), open_store(Home(tmp_path))
        for writer in (store, elsewhere):
            rest.look()
            assert rest.admission("id-bench") is not None
            record = writer.device("id-bench")
            writer.update_device(replace(record, state=DeviceState.REVOKED))
            assert rest.admission("id-bench") is None
        rest.look()
        known = rest.admission("id-bench")
        assert known is not None
        assert known.state is DeviceState.REVOKED
        elsewhere.close()

    def test_a_device_with_something_to_do_is_not_at_rest(self, store: Store) -> None:
        rest = Rest(store)
        store.add_sweep(sweep(), [], [queued()])
        rest.look()
        assert rest.admission("id-bench") is None, "a round waits"
        granted = store.lease_round("id-bench", S, 0)
        assert granted is not None
        rest.look()
        assert rest.admission("id-bench") is None, "it holds one"
        store.record("id-bench", [reported(result(granted, at)) for at in range(2)], 1)
        rest.look()
        assert rest.admission("id-bench") is not None, "its round is done"

    def test_a_store_that_does_not_answer_has_to_be_asked(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rest = Rest(store)
        rest.look()

        def unreachable() -> int:
            raise Unreachable("the store does not answer")

        monkeypatch.setattr(store, "revision", unreachable)
        assert rest.admission("id-bench") is None


class Flaky:
    """A store whose disk is full at times."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.full = False

    def seen_all(self, signs: Sequence[tuple[str, DeviceFacts | None, int]]) -> None:
        if self.full:
            raise DiskFull("no room")
        self._store.seen_all(signs)


class TestWaitingRoom:
    NOTHING = Wishes(frozenset(), {})

    def run(self, wishes: Sequence[Wishes], *, accepting: bool = True, held: int = 0) -> bool:
        """Whether a device that holds that many rounds is woken by one of these states."""
        keys = frozenset((f"r{i}", 1) for i in range(held))

        async def scene() -> bool:
            states = itertools.chain(wishes, itertools.repeat(wishes[-1]))
            polled = 0

            async def ask() -> Wishes:
                nonlocal polled
                polled += 1
                return next(states)

            room = WaitingRoom(ask, poll_s=0.001)
            polling = asyncio.create_task(room.run())
            waiting = asyncio.create_task(room.until_news("d", keys, accepting, 30))
            while polled < len(wishes) + 2 and not waiting.done():
                await asyncio.sleep(0.001)
            woken = waiting.done()
            room.close()
            await waiting
            polling.cancel()
            return woken

        return asyncio.run(scene())

    def test_work_for_the_device_wakes_it(self) -> None:
        assert self.run([self.NOTHING, Wishes(frozenset({"d"}), {})])

    def test_work_for_another_device_does_not(self) -> None:
        assert not self.run([Wishes(frozenset({"other"}), {})])

    def test_work_does_not_wake_a_device_that_takes_none(self) -> None:
        assert not self.run([Wishes(frozenset({"d"}), {})], accepting=False)

    def test_work_does_not_wake_a_device_that_has_a_round(self) -> None:
        holds = {"d": frozenset({("r0", 1)})}
        assert not self.run([Wishes(frozenset({"d"}), holds)], held=1)

    def test_a_cancel_wakes_the_device_that_has_the_round(self) -> None:
        assert self.run([self.NOTHING], held=1)

    def test_a_new_fence_wakes_the_device(self) -> None:
        assert self.run([Wishes(frozenset(), {"d": frozenset({("r0", 2)})})], held=1)

    def test_a_wait_ends_with_its_time(self) -> None:
        async def scene() -> None:
            async def ask() -> Wishes:
                return self.NOTHING

            room = WaitingRoom(ask)
            await room.until_news("d", frozenset(), True, 0.01)
            assert room.waiting == 0

        asyncio.run(scene())

    def test_a_newer_call_ends_the_older_and_is_not_ended_by_it(self) -> None:
        async def scene() -> None:
            async def ask() -> Wishes:
                return self.NOTHING

            room = WaitingRoom(ask)
            older = asyncio.create_task(room.until_news("d", frozenset(), True, 30))
            await asyncio.sleep(0)
            newer = asyncio.create_task(room.until_news("d", frozenset(), True, 30))
            await older
            assert not newer.done()
            assert room.waiting == 1
            room.close()
            await newer

        asyncio.run(scene())

    def test_a_closed_room_holds_nobody(self) -> None:
        async def scene() -> None:
            async def ask() -> Wishes:
                return self.NOTHING

            room = WaitingRoom(ask)
            room.close()
            await room.until_news("d", frozenset(), True, 30)

        asyncio.run(scene())
