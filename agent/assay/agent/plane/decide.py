"""What to do about a Sync's reply: pure, level-triggered, from what is held and what is wished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assay.agent.plane.rounds import HeldRound
from assay.core.model import Round

NO_LONGER_ASSIGNED = "the controller no longer assigns it"
GRANTED_ANEW = "it was granted anew"
LEASE_RAN_OUT = "its lease ran out"


@dataclass(frozen=True, slots=True)
class Actions:
    """What follows from a reply: rounds to take, to go on with, to end (with the reason), and to
    remove from the books. Accepting a round whose id is held replaces the older grant."""

    accept: tuple[Round, ...] = ()
    confirm: tuple[str, ...] = ()
    drop: tuple[tuple[str, str], ...] = ()
    forget: tuple[str, ...] = ()


def decide(
    held: Sequence[HeldRound], wished: Iterable[Round], now_ns: int, *, accepting: bool
) -> Actions:
    """What to do so that this device runs what is ``wished`` and nothing else.

    A round that is held and not wished is dropped, and forgotten once nobody works on it. A newer
    fence replaces an older one as soon as that is no longer worked on; an older fence is a late
    message and changes nothing. ``now_ns`` is CLOCK_BOOTTIME.
    """
    by_id = {round_.round_id: round_ for round_ in wished}
    accept: list[Round] = []
    confirm: list[str] = []
    drop: list[tuple[str, str]] = []
    forget: list[str] = []
    for each in held:
        round_id = each.round.round_id
        wish = by_id.pop(round_id, None)
        if wish is not None and wish.fence <= each.round.fence:
            if each.ended or wish.fence < each.round.fence:
                continue
            if _ran_out(each, now_ns):
                drop.append((round_id, LEASE_RAN_OUT))
            else:
                confirm.append(round_id)
        elif each.running:
            if not each.ended:
                drop.append((round_id, GRANTED_ANEW if wish else NO_LONGER_ASSIGNED))
        elif wish is None:
            forget.append(round_id)
        elif accepting:
            accept.append(wish)
    if accepting:
        accept.extend(by_id.values())
    return Actions(tuple(accept), tuple(confirm), tuple(drop), tuple(forget))


def run_out(held: Sequence[HeldRound], now_ns: int) -> Actions:
    """What to do without any reply: rounds past their lease are dropped."""
    late = [each for each in held if not each.ended and _ran_out(each, now_ns)]
    return Actions(drop=tuple((each.round.round_id, LEASE_RAN_OUT) for each in late))


def next_lease_end_ns(held: Sequence[HeldRound]) -> int | None:
    """When :func:`run_out` will next have something to do."""
    return min(
        (each.lease_ends_ns for each in held if _counts(each) and not each.ended), default=None
    )


def _ran_out(each: HeldRound, now_ns: int) -> bool:
    return _counts(each) and now_ns >= each.lease_ends_ns


def _counts(each: HeldRound) -> bool:
    # Since a reboot nobody knows how old it is: the controller's word decides.
    return each.received_ns >= 0
