"""Leases and results under every order of events hypothesis can think of.

Both sides are modelled over one clock: a controller (the real desk, scheduler and store) and two
devices that measure, lose replies, lose acknowledgements, lose their disk, stall, stay away and
come back as zombies. Whatever happens: an acknowledged result is never lost, none is counted twice,
no lease is moved by an old fence, and nothing waits for ever.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assay.controller.home import Home
from assay.controller.metrics.tally import Tally
from assay.controller.planning.scheduler import MAX_GRANTS
from assay.controller.planning.timers import TROUBLES, trouble_code
from assay.controller.records import RecordOutcome, RoundState, SweepState
from assay.controller.server.clockwork import Clockwork
from assay.controller.server.desk import Desk, Report
from assay.controller.server.presence import Presence
from assay.controller.server.rest import Rest
from assay.controller.store import open_store
from assay.core.model import Round
from assay.v1 import fleet_pb2
from tests.plane import S, device, queued, reported, result, sweep

DEVICES = ("bench", "desk")
ACKED = {RecordOutcome.STORED, RecordOutcome.STORED_SUPERSEDED, RecordOutcome.ALREADY_STORED}
ENDED = {RoundState.DONE, RoundState.FAILED, RoundState.CANCELLED}

Entry = tuple[str, int, str, bytes]


@dataclass
class Board:
    """A device: rounds it holds, runs it has not measured yet, results it has not been acked."""

    held: dict[str, Round] = field(default_factory=dict)
    to_run: dict[str, list[int]] = field(default_factory=dict)
    spool: list[Entry] = field(default_factory=list)
    put_off: dict[str, int] = field(default_factory=dict)
    sent: list[Entry] = field(default_factory=list)  # what a zombie may send again


class Plane:
    """The events, and what must hold after them."""

    def __init__(self, root: Path) -> None:
        self.store = open_store(Home(root))
        self.now_ns = 1_000 * S
        self.rest = Rest(self.store)
        presence, tally, clock = Presence(self.store), Tally(), lambda: self.now_ns
        self.desk = Desk(self.store, presence, clock, self.rest, tally)
        self.clockwork = Clockwork(self.store, presence, tally, clock)
        self.boards = {name: Board() for name in DEVICES}
        self.acked: dict[tuple[str, int], str] = {}
        self.fences: dict[str, int] = {}
        self.states: dict[str, RoundState] = {}
        for name in DEVICES:
            self.store.add_device(device(name))
            rounds = [
                queued(f"{name}-r{i}", sweep_id=f"s-{name}", device_id=f"id-{name}", index=i)
                for i in range(3)
            ]
            self.store.add_sweep(sweep(f"s-{name}"), [], rounds)

    def sync(self, name: str, *, reply_lost: bool = False) -> None:
        """One call, and what follows from its reply."""
        board = self.boards[name]
        request = fleet_pb2.SyncRequest(accepting=True, attempts=held_attempts(board))
        for round_id, fence in board.put_off.items():
            request.put_off.add(round_id=round_id, fence=fence)
        report = Report.of(f"id-{name}", request)
        answer = self.desk.known(report, request)
        rounds = (self.desk.arrive(report, request) if answer is None else answer).rounds
        if reply_lost:
            return
        wished = {round_.round_id: round_ for round_ in rounds}
        for round_id in set(board.held) - set(wished):
            del board.to_run[round_id], board.held[round_id]
        for round_id, round_ in wished.items():
            held = board.held.get(round_id)
            if held is None or held.fence < round_.fence:
                board.held[round_id] = round_
                spooled = {entry[0] for entry in board.spool}
                board.to_run[round_id] = [
                    at for at, run in enumerate(round_.runs) if run.attempt_id not in spooled
                ]

    def sync_without_reply(self, name: str) -> None:
        """The controller acts, the device hears nothing of it."""
        self.sync(name, reply_lost=True)

    def measure(self, name: str) -> None:
        """The next run of a round; its result lies in the spool."""
        board = self.boards[name]
        for round_id, waiting in board.to_run.items():
            if waiting:
                made = result(board.held[round_id], waiting.pop(0), note=f"{self.now_ns}")
                board.spool.append(reported(made))
                return

    def report(self, name: str, *, ack_lost: bool = False) -> None:
        """The head of the spool; without its acknowledgement it stays there."""
        board = self.boards[name]
        entries = board.spool[:2]
        outcomes = self.store.record(f"id-{name}", entries, self.now_ns)
        assert set(outcomes) <= ACKED, "an honest device is never refused"
        self.acked |= {(entry[0], entry[1]): entry[2] for entry in entries}
        board.sent += entries
        if not ack_lost:
            del board.spool[:2]

    def report_without_ack(self, name: str) -> None:
        """Recorded, but the device does not know."""
        self.report(name, ack_lost=True)

    def zombie(self, name: str) -> None:
        """Everything sent before arrives once more."""
        sent = self.boards[name].sent
        outcomes = self.store.record(f"id-{name}", sent, self.now_ns)
        assert set(outcomes) <= {RecordOutcome.ALREADY_STORED}

    def put_off(self, name: str) -> None:
        """What it has not begun goes back until another day."""
        board = self.boards[name]
        for round_id, waiting in list(board.to_run.items()):
            if len(waiting) == len(board.held[round_id].runs):
                board.put_off[round_id] = board.held.pop(round_id).fence
                del board.to_run[round_id]

    def another_day(self, name: str) -> None:
        """There is room for all of it."""
        self.boards[name].put_off.clear()

    def lose_disk(self, name: str) -> None:
        """The card is swapped: the device knows of nothing."""
        self.boards[name] = Board(sent=self.boards[name].sent)

    def lose_rounds(self, name: str) -> None:
        """The spool survives, what was being run does not."""
        self.boards[name].held.clear()
        self.boards[name].to_run.clear()

    def partition(self, _name: str) -> None:
        """Longer than any lease."""
        self.now_ns += 100_000 * S
        self.clockwork.tick()

    def stall(self, name: str) -> None:
        """The device holds what it holds for longer than it may without beginning."""
        self.sync(name)
        self.now_ns += 301 * S
        self.sync(name)

    def desert(self, _name: str) -> None:
        """Nobody takes anything for longer than any queue may wait."""
        self.now_ns += 300_000 * S
        self.clockwork.tick()
        self.now_ns += 300_000 * S
        self.clockwork.tick()
        for name in DEVICES:
            assert self.store.queued_rounds(f"id-{name}") == [], "no sweep waits for ever"

    def cancel(self, name: str) -> None:
        """The operator changes his mind."""
        if self.store.sweep(f"s-{name}").state is SweepState.RUNNING:
            self.store.set_sweep_state(f"s-{name}", SweepState.CANCELLED)

    def look(self, _name: str) -> None:
        """The clockwork reads who is at rest."""
        self.rest.look()

    def check(self) -> None:
        """What must hold, whatever has happened."""
        self.now_ns += 1
        stored = self.store.results(superseded=True)
        by_key = {(r.attempt_id, r.seq): r.sha256 for r in stored}
        assert len(by_key) == len(stored), "none is counted twice"
        assert by_key == self.acked, "none is lost, none appears from nowhere"
        assert self.store.conflicts() == []
        rounds = {r.round_id: r for name in DEVICES for r in self.store.rounds(f"s-{name}")}
        counted = Counter(r.result.round_id for r in stored if not r.superseded)
        for r in stored:
            assert r.superseded == (r.result.fence < rounds[r.result.round_id].fence)
        for round_id, record in rounds.items():
            assert record.fence >= self.fences.get(round_id, 0)
            assert record.grants <= min(record.fence, MAX_GRANTS)
            before = self.states.get(round_id)
            assert before not in ENDED or record.state is before, "what has ended stays ended"
            whole = counted[round_id] == len(record.runs)
            assert whole == (record.state is RoundState.DONE) or record.state in ENDED
            code = trouble_code(record.trouble)
            assert (code in TROUBLES) == (code != ""), "every trouble has a name"
            assert code or record.state is not RoundState.FAILED, "none fails without one"
            assert not code or record.state is not RoundState.DONE
            assert record.since_ns <= self.now_ns
            self.fences[round_id], self.states[round_id] = record.fence, record.state
        for name in DEVICES:
            mine = [r for r in rounds.values() if r.sweep_id == f"s-{name}"]
            assert sum(r.state is RoundState.LEASED for r in mine) <= 1


def held_attempts(board: Board) -> list[fleet_pb2.HeldAttempt]:
    """What the board reports: runs that wait or lie in the spool."""
    spooled = {entry[0] for entry in board.spool}
    found = []
    for round_ in board.held.values():
        for position, run in enumerate(round_.runs):
            waits = position in board.to_run[round_.round_id]
            if not waits and run.attempt_id not in spooled:
                continue
            state = fleet_pb2.ATTEMPT_STATE_ACCEPTED if waits else fleet_pb2.ATTEMPT_STATE_SPOOLED
            found.append(
                fleet_pb2.HeldAttempt(
                    attempt_id=run.attempt_id,
                    round_id=round_.round_id,
                    fence=round_.fence,
                    state=state,
                )
            )
    return found


# The more often an event stands here the more often it happens.
EVENTS = [
    *["sync"] * 6,
    *["measure"] * 5,
    *["report"] * 3,
    "report_without_ack",
    "sync_without_reply",
    "zombie",
    "lose_disk",
    "lose_rounds",
    "partition",
    "stall",
    "put_off",
    "another_day",
    "look",
]
HISTORIES = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.sampled_from(DEVICES)), min_size=60, max_size=90
)


@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(history=HISTORIES, cancel_at=st.integers(0, 200), desert_at=st.integers(0, 200))
def test_no_order_of_events_loses_or_doubles_a_result(
    history: list[tuple[str, str]], cancel_at: int, desert_at: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        plane = Plane(Path(directory) / "home")
        for number, (event, name) in enumerate(history):
            getattr(plane, event)(name)
            if number == cancel_at:
                plane.cancel(name)
            if number == desert_at:
                plane.desert(name)
            if number % 6 == 0:
                plane.check()
        plane.check()
        plane.store.close()
