"""The agent's books against a model of the controller, killed at every point between two steps.

The real spool, round book and decisions over real files; the controller is a model of what its
store promises: a grant per fence, exactly-once recording, release of what a device lost.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from assay.agent.plane.decide import decide, run_out
from assay.agent.plane.rounds import AttemptState, HeldRound, RoundBook, seq_of
from assay.agent.plane.spool import Key, Spool
from assay.core.model import Round
from tests import plane

S = plane.S
LEASE_NS = 100 * S
ROUNDS = ("r1", "r2")
DONE = (AttemptState.SPOOLED, AttemptState.RECORDED)


@dataclass
class Controller:
    """What the store promises; attempts are named by grant, as the real one does."""

    fences: dict[str, int] = field(default_factory=dict)
    leased: dict[str, Round] = field(default_factory=dict)
    expires_ns: dict[str, int] = field(default_factory=dict)
    accepted: set[tuple[str, int]] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    bodies: dict[Key, bytes] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def sync(self, held: set[tuple[str, int]], accepting: bool, now_ns: int) -> list[Round]:
        for round_id, round_ in list(self.leased.items()):
            grant = (round_id, round_.fence)
            if grant in held:
                self.accepted.add(grant)
            elif grant in self.accepted:
                del self.leased[round_id]
        if not self.leased and accepting:
            waiting = [r for r in ROUNDS if r not in self.done and r not in self.leased]
            if waiting:
                self.grant(waiting[0], now_ns)
        return list(self.leased.values())

    def grant(self, round_id: str, now_ns: int) -> None:
        fence = self.fences[round_id] = self.fences.get(round_id, 0) + 1
        runs = tuple(plane.run(name, f"{round_id}.{fence}.{name}") for name in ("a", "b"))
        self.leased[round_id] = Round(round_id, "s1", "sweep", 0, fence, LEASE_NS, runs)
        self.expires_ns[round_id] = now_ns + LEASE_NS + 60 * S
        self.known |= {run.attempt_id for run in runs}

    def expire(self, now_ns: int) -> None:
        for round_id in [r for r in self.leased if self.expires_ns[r] <= now_ns]:
            del self.leased[round_id]

    def record(self, key: Key, body: bytes) -> None:
        assert key.attempt_id in self.known
        assert self.bodies.setdefault(key, body) == body, "two bodies under one key"
        round_id, fence, _ = key.attempt_id.split(".")
        held = self.leased.get(round_id)
        if held is not None and held.fence == int(fence):
            have = {each.attempt_id for each in self.bodies}
            if {run.attempt_id for run in held.runs} <= have:
                del self.leased[round_id]
                self.done.add(round_id)


class Agent(RuleBasedStateMachine):
    """An agent that may die, lose replies, acknowledgements and time after any step."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.home = Path(self.folder.name)
        self.controller = Controller()
        self.now_ns = 0
        self.boot = 0
        self.measured = 0
        self.acknowledged: set[Key] = set()
        self.reply: list[Round] | None = None
        self.running: HeldRound | None = None
        self.begun: tuple[str, Key] | None = None
        (self.home / "rounds").mkdir()
        self.open()

    def open(self) -> None:
        self.spool = Spool(self.home / "spool", 1 << 20, lambda: 1 << 40)
        keys = [entry.key for entry in self.spool.entries]
        self.book = RoundBook(self.home / "rounds", f"boot-{self.boot}", keys)
        self.running = self.begun = self.reply = None

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()

    @rule()
    def ask(self) -> None:
        """The controller answers; the reply may still be on its way when other things happen."""
        held = {(each.round.round_id, each.round.fence) for each in self.book.held}
        self.reply = self.controller.sync(held, True, self.now_ns)

    @precondition(lambda self: self.reply is not None)
    @rule(lost=st.booleans())
    def hear(self, lost: bool) -> None:
        """The reply arrives, or does not."""
        reply, self.reply = self.reply, None
        if lost or reply is None:
            return
        actions = decide(self.book.held, reply, self.now_ns, accepting=True)
        for round_id, why in actions.drop:
            self.book.drop(round_id, why)
        for round_id in actions.forget:
            self.book.forget(round_id)
        for round_id in actions.confirm:
            self.book.confirm(round_id, self.now_ns)
        for new in actions.accept:
            self.book.accept(new, self.now_ns)

    @rule(steps=st.integers(1, 6))
    def get_on(self, steps: int) -> None:
        """What an undisturbed agent does next, a few steps of it."""
        for _ in range(steps):
            if self.begun is not None:
                self.end_run(noted=True)
            elif self.running is not None:
                self.begin_or_release()
            elif self.ready():
                self.running = self.book.take(NEVER)
            else:
                self.ask()
                self.hear(lost=False)

    def ready(self) -> bool:
        return any(each.confirmed and not each.ended for each in self.book.held)

    def begin_or_release(self) -> None:
        """The next run begins, or the round is over."""
        assert self.running is not None
        round_ = self.running.round
        held = next(each for each in self.book.held if each.round.round_id == round_.round_id)
        left = [run for run in round_.runs if held.state(run.attempt_id) not in DONE]
        if not left or self.book.cancelled(round_.round_id).is_set():
            self.book.release(round_.round_id)
            self.running = None
            return
        start = self.book.start(round_.round_id, left[0].attempt_id)
        key = Key(left[0].attempt_id, seq_of(round_.fence, start))
        self.begun = (round_.round_id, key)

    @precondition(lambda self: self.begun is not None)
    @rule()
    def end_run_and_die(self) -> None:
        self.end_run(noted=False)

    def end_run(self, noted: bool) -> None:
        """The result is spooled; the agent may die before it notes that in memory."""
        assert self.begun is not None
        round_id, key = self.begun
        self.begun = None
        self.measured += 1
        self.spool.append(key, b"result %d" % self.measured)
        if noted:
            self.book.advance(round_id, key.attempt_id, AttemptState.SPOOLED)
        else:
            self.kill()

    @rule(most=st.integers(1, 3), lost=st.booleans(), torn=st.booleans())
    def report(self, most: int, lost: bool, torn: bool) -> None:
        """A batch is recorded; its acknowledgement may be lost, or the agent die amid taking it."""
        batch = self.spool.batch(most, 1 << 20)
        for entry in batch:
            self.controller.record(entry.key, self.spool.read(entry))
        if lost:
            return
        keys = [entry.key for entry in batch]
        self.book.recorded(keys)
        if torn:
            self.kill()
            return
        self.spool.remove(keys)
        self.acknowledged.update(keys)

    @rule()
    def kill(self) -> None:
        self.spool.close()
        self.open()

    @rule(cut=st.integers(1, 40))
    def lose_power(self, cut: int) -> None:
        """A restart of the board; what was being written and never flushed is torn off."""
        self.spool.close()
        with (self.home / "spool").open("ab") as file:
            file.write(b"AsR1" + bytes(cut))
        self.boot += 1
        self.now_ns = 0
        self.controller.expires_ns = dict.fromkeys(self.controller.expires_ns, LEASE_NS)
        self.open()

    @rule(seconds=st.sampled_from([1, 40, 120, 400]))
    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * S
        self.controller.expire(self.now_ns)
        for round_id, why in run_out(self.book.held, self.now_ns).drop:
            self.book.drop(round_id, why)

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        assert self.acknowledged <= self.controller.bodies.keys()

    @invariant()
    def nothing_counts_twice(self) -> None:
        counts = Counter(key.attempt_id for key in self.controller.bodies)
        waiting = Counter(
            entry.key.attempt_id
            for entry in self.spool.entries
            if entry.key not in self.controller.bodies
        )
        assert max((counts + waiting).values(), default=0) <= 1

    def finish(self) -> None:
        """Left in peace, the agent ends everything."""
        for _ in range(60):
            # A lease that ran out here is granted anew once it has run out over there.
            self.wait(seconds=5)
            self.ask()
            self.hear(lost=False)
            while self.running is not None or self.ready():
                self.get_on(steps=1)
            self.report(most=200, lost=False, torn=False)
        self.nothing_acknowledged_is_lost()
        self.nothing_counts_twice()
        assert self.controller.done == set(ROUNDS)
        assert self.book.held == ()
        assert self.spool.entries == ()


class Never:
    """An event that is not set: ``take`` is called only where something is ready."""

    def is_set(self) -> bool:
        return False


NEVER: Any = Never()


class AgentThatFinishes(Agent):
    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            super().teardown()


def test_no_result_is_lost_or_counted_twice_and_every_round_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    run_state_machine_as_test(
        AgentThatFinishes,
        settings=settings(max_examples=80, stateful_step_count=40, deadline=None),
    )
