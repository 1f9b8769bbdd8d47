"""The timers of a round: who may wait for how long, and what follows when time is up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from assay.agent.plane.limits import Limit, until
from assay.controller.home import Home
from assay.controller.metrics.tally import Tally
from assay.controller.planning import scheduler, sweeps, timers
from assay.controller.planning.plan import lease_ns
from assay.controller.planning.spec import Limits
from assay.controller.records import (
    DeviceState,
    Duty,
    IdleQueue,
    RoundRecord,
    RoundState,
    SweepState,
)
from assay.controller.server.clockwork import Clockwork
from assay.controller.server.desk import Desk, Report
from assay.controller.server.presence import Presence
from assay.controller.server.rest import Rest
from assay.controller.server.starts import StartWatch
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.errors import Cancelled
from assay.core.model import Round
from assay.v1 import fleet_pb2
from tests.plane import S, cell, device, facts, queued, reported, result, run, sweep

HOUR = 3_600 * S
BRIEF = Limits(queue_s=3_600, fetch_s=60, fetch_bytes_per_s=1_000, start_s=120)
FILE = json.dumps({"limits": BRIEF.model_dump()})


class TestWaiting:
    def late(self, since_ns: int, worked_ns: int, now_ns: int) -> bool:
        queue = IdleQueue("s1", "id-bench", since_ns)
        return timers.waits_too_long(queue, worked_ns, BRIEF, now_ns)

    def test_time_is_up_at_the_limit(self) -> None:
        assert not self.late(10 * S, 0, 10 * S + HOUR - 1)
        assert self.late(10 * S, 0, 10 * S + HOUR)

    def test_a_device_that_works_keeps_its_queue(self) -> None:
        assert not self.late(0, 2 * HOUR, 3 * HOUR - 1)
        assert self.late(0, 2 * HOUR, 3 * HOUR)

    def test_what_is_written_beside_it_says_why_nobody_came(self) -> None:
        cordoned = device(duty=Duty.CORDONED, duty_reason="moves house")
        assert timers.queue_trouble(device(), BRIEF) == (
            "queue_timeout: device bench took nothing for 1 h"
        )
        assert timers.queue_trouble(cordoned, BRIEF).endswith(", it is cordoned (moves house)")
        lacking = device(facts=replace(facts(), capabilities=("cpu:avx2", "waits:daily_bytes")))
        assert timers.queue_trouble(lacking, BRIEF).endswith("1 h, it waits for daily_bytes")
        assert timers.queue_trouble(device(state=DeviceState.REVOKED), BRIEF).endswith("is revoked")

    def test_only_a_groups_newest_round_gives_it_up(self) -> None:
        nobody = replace(queued("r0"), state=RoundState.FAILED, trouble="queue_timeout: x")
        assert timers.abandoned([nobody]) == {"g"}
        assert timers.abandoned([nobody, queued("r1", index=1)]) == frozenset()
        lost = replace(queued("r2", index=2), state=RoundState.FAILED, trouble="lease_expired: x")
        assert timers.abandoned([nobody, lost]) == frozenset()


class TestLimits:
    def test_a_file_without_limits_has_the_usual_ones(self) -> None:
        assert timers.limits_of("{}") == Limits()
        assert timers.limits_of(FILE) == BRIEF

    def test_the_time_for_fetching_grows_with_the_bytes_each_counted_once(self) -> None:
        runs = [run("fp32"), run("fp32"), run("int8")]
        sizes = {ref.digest: ref.size_bytes for each in runs for ref in refs(each)}
        assert len(sizes) == 5, "the samples are one file for all"
        assert timers.fetch_ns(BRIEF, runs) == 60 * S + sum(sizes.values()) * S // 1_000

    def test_a_lease_has_room_for_both(self) -> None:
        runs = [run()]
        assert lease_ns(runs, 7 * S, 5 * S) == lease_ns(runs) + 12 * S


def refs(spec: object) -> Iterator[object]:
    from assay.agent.plane.gather import refs_of

    yield from refs_of([spec])  # type: ignore[list-item]


class TestNotBegun:
    GRANT = replace(Round("r0", "s1", "s", 0, 2, HOUR, ()), start_ns=120 * S)
    KEY = ("r0", 2)

    def test_what_is_held_or_was_never_taken_should_have_begun(self) -> None:
        assert timers.not_begun([self.GRANT], {self.KEY}, ()) == self.KEY
        assert timers.not_begun([self.GRANT], (), ()) == self.KEY

    def test_not_what_is_under_way_nor_behind_another_round(self) -> None:
        assert timers.not_begun([self.GRANT], {self.KEY}, {self.KEY}) is None
        assert timers.not_begun([self.GRANT], {self.KEY, ("old", 1)}, {("old", 1)}) is None
        assert timers.not_begun([], (), ()) is None

    def test_time_runs_from_the_first_report_of_the_grant_on(self) -> None:
        watch = StartWatch()
        assert watch.waited_ns("d", self.KEY, 100) == 0
        assert watch.waited_ns("d", self.KEY, 130) == 30
        assert watch.waited_ns("other", self.KEY, 130) == 0
        assert watch.waited_ns("d", ("r0", 3), 140) == 0, "another grant"
        assert watch.waited_ns("d", None, 150) == 0
        assert watch.waited_ns("d", ("r0", 3), 160) == 0, "begun in between"


@dataclass
class Plane:
    """A desk and a clockwork over a real store, and a clock that the test moves."""

    store: Store
    now_ns: int = 1_000 * S

    def __post_init__(self) -> None:
        self.tally = Tally()
        presence = Presence(self.store)
        clock = lambda: self.now_ns  # noqa: E731
        self.desk = Desk(self.store, presence, clock, Rest(self.store), self.tally)
        self.clockwork = Clockwork(self.store, presence, self.tally, clock)
        self.started_ns = self.now_ns

    def sync(
        self,
        *held: Round,
        state: str = "ACCEPTED",
        quiet_s: int = 0,
        put_off: Sequence[Round] = (),
    ) -> tuple[Round, ...]:
        """One call of the device, which holds these and has put those off."""
        request = fleet_pb2.SyncRequest(accepting=True)
        request.quiet_for.FromNanoseconds(quiet_s * S)
        for round_ in put_off:
            request.put_off.add(round_id=round_.round_id, fence=round_.fence)
        for round_ in held:
            for each in round_.runs:
                request.attempts.add(
                    attempt_id=each.attempt_id,
                    round_id=round_.round_id,
                    fence=round_.fence,
                    state=fleet_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state}"),
                )
        return self.desk.arrive(Report.of("id-bench", request), request).rounds

    def tick(self, after_ns: int) -> None:
        self.now_ns += after_ns
        self.clockwork.tick()

    @property
    def troubles(self) -> dict[str, int]:
        return {code: n for code, n in self.tally.now().troubles.items() if n}

    def states(self) -> list[tuple[RoundState, str]]:
        rounds = self.store.rounds("s1")
        return [(r.state, timers.trouble_code(r.trouble)) for r in rounds]


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """A device with a sweep of two rounds that has waited since the clock began."""
    store = open_store(Home(tmp_path / "home"))
    store.add_device(device())
    made = sweep(spec_json=FILE, created_ns=1_000 * S)
    store.add_sweep(made, [cell(), cell("int8")], [waiting("r0"), waiting("r1", 1)])
    yield Plane(store)
    store.close()


def waiting(round_id: str, index: int = 0) -> RoundRecord:
    return replace(queued(round_id, index=index), since_ns=1_000 * S)


class TestQueue:
    def test_rounds_that_nobody_takes_fail_and_their_sweep_ends(self, plane: Plane) -> None:
        plane.tick(HOUR - S)
        assert plane.states() == [(RoundState.QUEUED, "")] * 2
        plane.tick(11 * S)
        assert plane.states() == [(RoundState.FAILED, "queue_timeout")] * 2
        assert plane.troubles == {"queue_timeout": 2}
        plane.tick(S)
        assert plane.store.sweep("s1").state is SweepState.DONE, "and is not tried again by itself"
        assert len(plane.store.rounds("s1")) == 2

    def test_a_resumed_sweep_waits_anew(self, plane: Plane) -> None:
        plane.tick(2 * HOUR)
        plane.tick(S)
        more = sweeps.resume(plane.store.sweep("s1"), plane.store)
        assert len(more.added) == 1
        plane.tick(11 * S)
        assert plane.store.sweep("s1").state is SweepState.RUNNING

    def test_a_device_that_works_keeps_its_queue(self, plane: Plane) -> None:
        plane.tick(HOUR - 60 * S)
        (granted,) = plane.sync()
        plane.tick(300 * S)
        assert plane.states() == [(RoundState.LEASED, ""), (RoundState.QUEUED, "")]
        bodies = [reported(result(granted, position)) for position in range(2)]
        plane.store.record("id-bench", bodies, plane.now_ns)
        plane.tick(HOUR - S)
        assert plane.states() == [(RoundState.DONE, ""), (RoundState.QUEUED, "")]
        plane.tick(11 * S)
        assert plane.states() == [(RoundState.DONE, ""), (RoundState.FAILED, "queue_timeout")]

    def test_waiting_for_a_hub_that_another_holds_is_no_trouble(self, plane: Plane) -> None:
        store, hub = plane.store, {"shared.hub": "left"}
        store.update_device(device(labels=hub))
        store.add_device(device("mate", labels=hub))
        made = replace(waiting("q0"), sweep_id="s2", device_id="id-mate")
        store.add_sweep(sweep("s2", spec_json=FILE), [], [made])
        granted = store.lease_round("id-mate", 9 * HOUR, plane.now_ns)
        assert granted is not None
        for _ in range(3):
            plane.tick(2 * HOUR)
            assert plane.sync() == (), "the hub is busy"
        store.finish_round("q0", granted.fence, RoundState.DONE, plane.now_ns)
        plane.tick(HOUR - S)
        assert plane.states() == [(RoundState.QUEUED, "")] * 2
        plane.tick(11 * S)
        assert plane.states() == [(RoundState.FAILED, "queue_timeout")] * 2, "it was free"

    def test_nobody_is_blamed_right_after_a_start(self, plane: Plane) -> None:
        plane.now_ns += 5 * HOUR
        again = Plane(plane.store, plane.now_ns)
        # While nobody served, nobody could take a round.
        again.tick(HOUR - S)
        assert again.states() == [(RoundState.QUEUED, "")] * 2
        again.tick(11 * S)
        assert again.states() == [(RoundState.FAILED, "queue_timeout")] * 2


class TestStart:
    def test_a_grant_carries_its_limits(self, plane: Plane) -> None:
        (granted,) = plane.sync()
        assert granted.start_ns == 120 * S
        assert granted.fetch_ns == timers.fetch_ns(BRIEF, granted.runs)
        assert granted.lease_ns == lease_ns(granted.runs, granted.fetch_ns, granted.start_ns)

    def test_a_round_held_and_not_begun_is_granted_anew_until_it_fails(self, plane: Plane) -> None:
        (held,) = plane.sync()
        for fence in (1, 2, 3):
            assert held.fence == fence and held.round_id == "r0"
            assert plane.sync(held) == (held,)
            plane.now_ns += 119 * S
            assert plane.sync(held) == (held,)
            plane.now_ns += S
            (held,) = plane.sync(held)
        assert held.round_id == "r1", "the next one"
        assert plane.states() == [(RoundState.FAILED, "start_timeout"), (RoundState.LEASED, "")]
        assert plane.troubles == {"start_timeout": 3}

    def test_one_that_was_begun_in_time_goes_on(self, plane: Plane) -> None:
        (held,) = plane.sync()
        plane.sync(held)
        plane.now_ns += 119 * S
        plane.sync(held, state="FETCHING")
        plane.now_ns += HOUR
        assert plane.sync(held, state="MEASURING") == (held,)
        assert plane.troubles == {}

    def test_silence_is_not_taken_for_idling(self, plane: Plane) -> None:
        (held,) = plane.sync()
        plane.now_ns += HOUR // 2
        assert plane.sync(held) == (held,), "this is the first that is heard of it"

    def test_a_grant_that_was_never_taken_is_taken_back(self, plane: Plane) -> None:
        plane.sync()
        plane.sync()
        plane.now_ns += 120 * S
        (again,) = plane.sync()
        assert again.fence == 2


class TestPutOff:
    def test_a_grant_that_is_put_off_costs_nothing_and_the_next_round_comes(
        self, plane: Plane
    ) -> None:
        (first,) = plane.sync()
        plane.sync(first)
        (second,) = plane.sync(put_off=[first])
        assert (first.round_id, second.round_id) == ("r0", "r1")
        assert plane.sync(put_off=[first, second]) == (), "nothing else waits"
        assert plane.states() == [(RoundState.QUEUED, "put_off")] * 2
        assert plane.troubles == {"put_off": 2}
        assert [r.grants for r in plane.store.rounds("s1")] == [0, 0]
        (again,) = plane.sync()
        assert (again.round_id, again.fence) == ("r0", 2), "there is room"

    def test_one_that_never_was_reported_ends_as_well(self, plane: Plane) -> None:
        (first,) = plane.sync()
        assert plane.sync(first, put_off=[first])[0].round_id == "r1", "still held, for a moment"

    def test_an_old_grant_ends_no_new_one(self, plane: Plane) -> None:
        (first,) = plane.sync()
        plane.sync(first)
        (again,) = plane.sync()
        assert again.fence == 2
        assert plane.sync(again, put_off=[first]) == (again,)

    def test_it_is_counted_in_the_end(self, plane: Plane) -> None:
        for _ in range(scheduler.MOST_PUT_OFF + 2):
            (granted,) = plane.sync()
            assert granted.round_id == "r0"
            plane.sync(put_off=[granted, replace(granted, round_id="r1")])
        assert plane.store.round("r0").grants == 2
        (granted,) = plane.sync()
        plane.sync(put_off=[granted, replace(granted, round_id="r1")])
        assert plane.store.round("r0").state is RoundState.FAILED

    def test_what_comes_after_all_that_is_put_off_is_granted(self, plane: Plane) -> None:
        many = [waiting(f"m{i:02}", 2 + i) for i in range(40)]
        plane.store.add_sweep(
            sweep("s2", spec_json=FILE), [], [replace(r, sweep_id="s2") for r in many]
        )
        given: list[Round] = []
        while granted := plane.sync(put_off=given):
            given += granted
        assert len({round_.round_id for round_ in given}) == len(given) == 42


class TestLeaseAndQuiet:
    def test_a_lease_that_ran_out_says_so(self, plane: Plane) -> None:
        (held,) = plane.sync()
        plane.sync(held, state="MEASURING")
        plane.tick(held.lease_ns + scheduler.DELIVERY_NS)
        assert plane.states()[0] == (RoundState.QUEUED, "lease_expired")
        assert plane.troubles == {"lease_expired": 1}

    def test_a_round_its_device_lost_says_so(self, plane: Plane) -> None:
        (held,) = plane.sync()
        plane.sync(held)
        (again,) = plane.sync()
        assert (again.round_id, again.fence) == ("r0", 2)
        assert plane.troubles == {"given_up": 1}

    def test_a_device_is_quiet_for_no_longer_than_its_lease(self, plane: Plane) -> None:
        plane.store.set_sweep_state("s1", SweepState.CANCELLED)
        plane.sync(quiet_s=10**9)
        board = plane.desk.presence.vitals
        assert board.all()["id-bench"].quiet_until_ns == plane.now_ns, "it holds nothing"
        plane.store.add_sweep(sweep("s2"), [], [queued("q", sweep_id="s2")])
        (held,) = plane.sync()
        plane.sync(held, state="MEASURING", quiet_s=10**9)
        assert board.all()["id-bench"].quiet_until_ns == plane.now_ns + held.lease_ns
        assert plane.desk.presence.silences_ns(plane.now_ns + held.lease_ns + S) == {"id-bench": S}
        plane.sync(held, state="MEASURING", quiet_s=5)
        assert board.all()["id-bench"].quiet_until_ns == plane.now_ns + 5 * S


class TestOnTheDevice:
    @pytest.fixture
    def clock(self) -> list[int]:
        return [0]

    def limit(self, clock: list[int], limit_ns: int) -> tuple[threading.Event, Limit]:
        parent = threading.Event()
        return parent, Limit(parent, limit_ns, lambda: clock[0])

    def test_time_being_up_is_told_from_a_cancel(self, clock: list[int]) -> None:
        parent, limit = self.limit(clock, 5 * S)
        assert not limit.is_set() and not limit.timed_out
        clock[0] = 5 * S
        assert limit.is_set() and limit.timed_out
        assert limit.wait(60), "at once"
        parent.set()
        assert limit.is_set() and not limit.timed_out, "a cancel counts first"

    def test_without_a_limit_only_a_cancel_ends_it(self, clock: list[int]) -> None:
        parent, limit = self.limit(clock, 0)
        clock[0] = 1 << 60
        assert not limit.is_set() and not limit.wait(0)
        parent.set()
        assert limit.wait()

    def test_what_was_kept_to_ends_nothing_later(self, clock: list[int]) -> None:
        _, limit = self.limit(clock, 5 * S)
        limit.kept()
        clock[0] = 6 * S
        assert not limit.is_set()

    def test_a_transfer_ends_with_the_first_chunk_after_its_time(self, clock: list[int]) -> None:
        _, limit = self.limit(clock, 5 * S)

        def chunks() -> Iterator[bytes]:
            for number in range(10):
                clock[0] = number * 2 * S
                yield b"%d" % number

        seen: list[bytes] = []
        with pytest.raises(Cancelled):
            for chunk in until(limit, chunks()):
                seen.append(chunk)
        assert seen == [b"0", b"1", b"2", b"3"]
