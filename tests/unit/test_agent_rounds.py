"""What the device holds survives it, and is never worked on twice."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from assay.agent.plane.decide import (
    GRANTED_ANEW,
    LEASE_RAN_OUT,
    NO_LONGER_ASSIGNED,
    Actions,
    decide,
    next_lease_end_ns,
    run_out,
)
from assay.agent.plane.rounds import AttemptState, HeldRound, RoundBook, seq_of
from assay.agent.plane.spool import Key
from assay.core.model import Round
from tests import plane

S = plane.S
STOP = threading.Event()


def a_round(round_id: str = "r1", fence: int = 1, lease_ns: int = 100 * S) -> Round:
    runs = tuple(plane.run(name, f"{round_id}.{name}") for name in ("fp32", "int8"))
    return Round(round_id, "s1", "sweep", 0, fence, lease_ns, runs)


def book(tmp_path: Path, boot_id: str = "boot", spooled: tuple[Key, ...] = ()) -> RoundBook:
    return RoundBook(tmp_path, boot_id, spooled)


def held(round_: Round, **changes: object) -> HeldRound:
    return replace(HeldRound(round_, received_ns=0), **changes)  # type: ignore[arg-type]


def complete(round_: Round) -> HeldRound:
    return held(round_, states={run.attempt_id: AttemptState.SPOOLED for run in round_.runs})


# decide


def test_what_is_wished_and_not_held_is_accepted() -> None:
    assert decide([], [a_round()], 0, accepting=True) == Actions(accept=(a_round(),))


def test_nothing_new_is_accepted_while_not_accepting() -> None:
    mine = held(a_round("r1"))
    actions = decide([mine], [a_round("r1"), a_round("r2")], 0, accepting=False)
    assert actions == Actions(confirm=("r1",))
    assert decide([mine], [a_round("r1", fence=2)], 0, accepting=False) == Actions()


def test_what_is_missing_from_the_reply_is_cancelled_and_then_forgotten() -> None:
    running = held(a_round(), running=True)
    assert decide([running], [], 0, accepting=True) == Actions(drop=(("r1", NO_LONGER_ASSIGNED),))
    dropped = replace(running, dropped="why")
    assert decide([dropped], [], 0, accepting=True) == Actions()
    released = replace(dropped, running=False)
    assert decide([released], [], 0, accepting=True) == Actions(forget=("r1",))


def test_a_finished_round_is_not_begun_again_by_a_late_reply() -> None:
    assert decide([complete(a_round())], [a_round()], 0, accepting=True) == Actions()
    assert decide([complete(a_round())], [], 0, accepting=True) == Actions(forget=("r1",))


def test_a_newer_grant_replaces_an_older_one_once_nobody_works_on_it() -> None:
    running = held(a_round(fence=1), running=True)
    newer = a_round(fence=2)
    assert decide([running], [newer], 0, accepting=True) == Actions(drop=(("r1", GRANTED_ANEW),))
    released = replace(running, running=False, dropped=GRANTED_ANEW)
    assert decide([released], [newer], 0, accepting=True) == Actions(accept=(newer,))


def test_an_older_grant_is_a_late_message() -> None:
    mine = held(a_round(fence=3))
    assert decide([mine], [a_round(fence=2)], 0, accepting=True) == Actions()


def test_a_lease_that_ran_out_ends_the_round_with_and_without_a_reply() -> None:
    mine = held(a_round(lease_ns=10 * S))
    late = Actions(drop=(("r1", LEASE_RAN_OUT),))
    assert decide([mine], [a_round()], 10 * S - 1, accepting=True) == Actions(confirm=("r1",))
    assert decide([mine], [a_round()], 10 * S, accepting=True) == late
    assert run_out([mine], 10 * S - 1) == Actions()
    assert run_out([mine], 10 * S) == late
    assert next_lease_end_ns([mine, complete(a_round("r2", lease_ns=1))]) == 10 * S
    assert run_out([complete(a_round())], 10**18) == Actions()


def test_after_a_reboot_only_the_controller_knows_how_old_a_lease_is() -> None:
    found = held(a_round(), received_ns=-1, confirmed=False)
    assert run_out([found], 10**18) == Actions()
    assert decide([found], [a_round()], 10**18, accepting=True) == Actions(confirm=("r1",))
    assert next_lease_end_ns([found]) is None


# the book


def test_a_round_is_worked_on_once_and_released(tmp_path: Path) -> None:
    it = book(tmp_path)
    it.accept(a_round(), 5)
    taken = it.take(STOP)
    assert taken is not None and taken.running
    for run in a_round().runs:
        it.advance("r1", run.attempt_id, AttemptState.SPOOLED)
    it.release("r1")
    (now,) = it.held
    assert now.complete and now.ended and not now.running and not now.recorded
    stopped = threading.Event()
    stopped.set()
    assert it.take(stopped) is None


def test_a_restart_keeps_what_was_done_and_counts_starts_on(tmp_path: Path) -> None:
    it = book(tmp_path)
    it.accept(a_round(), 7)
    first, second = (run.attempt_id for run in a_round().runs)
    assert it.start("r1", first) == 1
    it.recorded([Key(first, seq_of(1, 1))])
    assert it.start("r1", second) == 1

    again = book(tmp_path)
    (found,) = again.held
    assert found.round == a_round()
    assert (found.received_ns, found.confirmed) == (7, False)
    assert found.state(first) is AttemptState.RECORDED
    assert found.state(second) is AttemptState.ACCEPTED
    again.confirm("r1", 99)
    assert again.held[0].received_ns == 7
    assert again.start("r1", second) == 2


def test_a_restart_takes_no_work_up_before_the_controller_confirms_it(tmp_path: Path) -> None:
    book(tmp_path).accept(a_round(), 7)
    again = book(tmp_path)
    taken: list[HeldRound | None] = []
    thread = threading.Thread(target=lambda: taken.append(again.take(STOP)))
    thread.start()
    thread.join(0.05)
    assert not taken
    again.confirm("r1", 8)
    thread.join(5)
    assert taken[0] is not None


def test_a_reboot_starts_the_lease_anew_with_the_confirmation(tmp_path: Path) -> None:
    book(tmp_path, "before").accept(a_round(), 10**15)
    again = book(tmp_path, "after")
    assert again.held[0].received_ns == -1
    again.confirm("r1", 50)
    assert again.held[0].received_ns == 50


def test_what_lies_in_the_spool_is_done_but_not_under_an_older_grant(tmp_path: Path) -> None:
    book(tmp_path).accept(a_round(fence=2), 7)
    first, second = (run.attempt_id for run in a_round().runs)
    spooled = (Key(first, seq_of(2, 1)), Key(second, seq_of(1, 9)), Key("other", seq_of(2, 1)))
    (found,) = book(tmp_path, spooled=spooled).held
    assert found.state(first) is AttemptState.SPOOLED
    assert found.state(second) is AttemptState.ACCEPTED
    assert set(found.states) == {first}


def test_an_acknowledged_result_stays_done_when_its_spooling_is_noted_late(tmp_path: Path) -> None:
    it = book(tmp_path)
    it.accept(a_round(), 7)
    attempt = a_round().runs[0].attempt_id
    it.recorded([Key(attempt, seq_of(1, 1))])
    it.advance("r1", attempt, AttemptState.SPOOLED)
    assert it.held[0].state(attempt) is AttemptState.RECORDED


def test_dropping_cancels_the_run_and_is_confirmed_once_it_is_gone(tmp_path: Path) -> None:
    it = book(tmp_path)
    it.accept(a_round(), 7)
    assert it.take(STOP) is not None
    attempt = a_round().runs[0].attempt_id
    it.advance("r1", attempt, AttemptState.MEASURING)
    it.drop("r1", "why")
    assert it.cancelled("r1").is_set()
    assert it.held[0].state(attempt) is AttemptState.MEASURING
    it.release("r1")
    assert it.held[0].state(attempt) is AttemptState.CANCELLED


def test_what_is_worked_on_is_neither_forgotten_nor_replaced(tmp_path: Path) -> None:
    it = book(tmp_path)
    it.accept(a_round(), 7)
    assert it.take(STOP) is not None
    it.accept(a_round(fence=2), 8)
    assert it.held[0].round.fence == 1
    it.forget("r1")
    assert it.cancelled("r1").is_set()
    it.release("r1")
    it.accept(a_round(fence=2), 8)
    assert it.held[0].round.fence == 2
    assert not it.cancelled("r1").is_set()
    it.forget("r1")
    assert it.held == () == book(tmp_path).held


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"round": "AAAA"}', b'{"round": 1}'])
def test_an_unreadable_file_costs_one_round_and_not_the_agent(tmp_path: Path, junk: bytes) -> None:
    it = book(tmp_path)
    it.accept(a_round("r1"), 1)
    it.accept(a_round("r2"), 2)
    next(tmp_path.glob("*.json")).write_bytes(junk)
    assert len(book(tmp_path).held) == 1
    assert len(list(tmp_path.glob("*.unreadable"))) == 1


def test_seq_grows_over_starts_and_grants() -> None:
    order = [seq_of(1, 0), seq_of(1, 1), seq_of(1, 2), seq_of(2, 0), seq_of(2, 1)]
    assert order == sorted(set(order))
