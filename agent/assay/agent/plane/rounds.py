"""The rounds this device holds: durable, so that a restart neither loses nor repeats a run.

One file per round, replaced whole before an attempt starts and when a result is acknowledged. What
is spooled is known from the spool. ``seq`` of a result is ``fence × 1000 + start``: it grows within
an attempt over new starts and new grants, even where the device lost all it knew.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assay.agent.home import write_atomically
from assay.agent.plane.spool import Key
from assay.core import convert, log
from assay.core.errors import BadMessage, DiskFull
from assay.core.model import Round

_LOG = log.get(__name__)
STARTS_PER_FENCE = 1000


class AttemptState(enum.Enum):
    """How far an attempt is; the names are those of ``assay.v1.AttemptState``."""

    ACCEPTED = "accepted"
    FETCHING = "fetching"
    VERIFIED = "verified"
    SETTLING = "settling"
    WARMING = "warming"
    MEASURING = "measuring"
    SPOOLED = "spooled"
    RECORDED = "recorded"
    CANCELLED = "cancelled"


_ENDED = frozenset({AttemptState.SPOOLED, AttemptState.RECORDED})


@dataclass(frozen=True, slots=True)
class HeldRound:
    """A round as the device holds it; times are nanoseconds of CLOCK_BOOTTIME."""

    round: Round
    received_ns: int
    starts: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, AttemptState] = field(default_factory=dict)
    confirmed: bool = True
    dropped: str = ""
    running: bool = False

    @property
    def lease_ends_ns(self) -> int:
        """When the lease runs out, counted from receipt."""
        return self.received_ns + self.round.lease_ns

    @property
    def complete(self) -> bool:
        """Whether every attempt has its result."""
        return all(self.state(run.attempt_id) in _ENDED for run in self.round.runs)

    @property
    def recorded(self) -> bool:
        """Whether the controller has acknowledged every result of it."""
        recorded = AttemptState.RECORDED
        return all(self.states.get(run.attempt_id) is recorded for run in self.round.runs)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do for it, for good or for ill."""
        return self.complete or bool(self.dropped)

    def state(self, attempt_id: str) -> AttemptState:
        """How far an attempt is."""
        state = self.states.get(attempt_id, AttemptState.ACCEPTED)
        if self.dropped and not self.running and state not in _ENDED:
            return AttemptState.CANCELLED
        return state


def seq_of(fence: int, start: int) -> int:
    """The seq of the ``start``-th start (from 1) of an attempt under a grant."""
    return fence * STARTS_PER_FENCE + start


class RoundBook:
    """Every round held, below ``directory``. Safe for several threads; needs no closing."""

    def __init__(self, directory: Path, boot_id: str, spooled: Iterable[Key] = ()) -> None:
        self._directory = directory
        self._boot_id = boot_id
        self._changed = threading.Condition(threading.RLock())
        self._cancels: dict[str, threading.Event] = {}
        self._encoded: dict[str, str] = {}
        self._held: dict[str, HeldRound] = {}
        waiting = set(spooled)
        found = [_read(path, boot_id, waiting) for path in directory.glob("*.json")]
        for held in sorted(filter(None, found), key=lambda each: each.received_ns):
            self._put(held)

    @property
    def held(self) -> tuple[HeldRound, ...]:
        """A snapshot, in the order of acceptance."""
        with self._changed:
            return tuple(self._held.values())

    def accept(self, new: Round, now_ns: int) -> None:
        """Takes a round, in place of an older grant of it; not while that is worked on.
        :class:`DiskFull` where it cannot be kept: then it is not taken."""
        with self._changed:
            older = self._held.get(new.round_id)
            if older is not None and older.running:
                return
            self._held.pop(new.round_id, None)
            self._put(HeldRound(new, now_ns))
            try:
                self._write(new.round_id)
            except DiskFull:
                self.forget(new.round_id)
                raise
            self._changed.notify_all()

    def confirm(self, round_id: str, now_ns: int) -> None:
        """The controller still wants it: a round found at start may go on. Its lease counts on,
        from now where the device has been rebooted in between."""
        with self._changed:
            held = self._held.get(round_id)
            if held is not None and not held.confirmed:
                received = held.received_ns if held.received_ns >= 0 else now_ns
                self._keep(replace(held, confirmed=True, received_ns=received))
                self._changed.notify_all()

    def drop(self, round_id: str, why: str) -> None:
        """Ends work on it: its run is cancelled, no other begins. Results already spooled stay."""
        with self._changed:
            held = self._held.get(round_id)
            if held is not None and not held.ended:
                self._held[round_id] = replace(held, dropped=why)
                self._cancels[round_id].set()
                self._changed.notify_all()

    def forget(self, round_id: str, fence: int | None = None) -> None:
        """Removes it, or only its grant of that ``fence``: the controller knows all there is to
        know. One that is worked on is dropped instead, to be forgotten later; one that is gone
        already stays gone."""
        with self._changed:
            held = self._held.get(round_id)
            if held is None or fence not in (None, held.round.fence):
                return
            if held.running:
                self.drop(round_id, "it was forgotten")
                return
            del self._held[round_id], self._cancels[round_id], self._encoded[round_id]
            self._path(round_id).unlink(missing_ok=True)
            self._changed.notify_all()

    def take(self, stop: threading.Event) -> HeldRound | None:
        """Waits for a round to work on and marks it running; None once ``stop`` is set and the
        book has been woken (see :meth:`wake`)."""
        with self._changed:
            while not stop.is_set():
                for round_id, held in self._held.items():
                    if held.confirmed and not held.ended:
                        self._held[round_id] = replace(held, running=True)
                        return self._held[round_id]
                self._changed.wait()
        return None

    def wake(self) -> None:
        """Lets everyone who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def release(self, round_id: str) -> None:
        """Nobody works on it any more."""
        with self._changed:
            self._held[round_id] = replace(self._held[round_id], running=False)
            self._changed.notify_all()

    def cancelled(self, round_id: str) -> threading.Event:
        """Set when the round is dropped."""
        return self._cancels[round_id]

    def cancel_all(self, why: str) -> None:
        """Ends the run going on, for the end of the agent; the rounds stay on disk."""
        for held in self.held:
            self.drop(held.round.round_id, why)

    def start(self, round_id: str, attempt_id: str) -> int:
        """Notes on disk that an attempt begins, before it does; returns how often it has now."""
        with self._changed:
            held = self._held[round_id]
            start = held.starts.get(attempt_id, 0) + 1
            self._keep(replace(held, starts={**held.starts, attempt_id: start}))
            return start

    def advance(self, round_id: str, attempt_id: str, state: AttemptState) -> None:
        """Notes how far an attempt is; a recorded one stays recorded."""
        with self._changed:
            held = self._held[round_id]
            if held.states.get(attempt_id) is not AttemptState.RECORDED:
                self._held[round_id] = replace(held, states={**held.states, attempt_id: state})
                self._changed.notify_all()

    def recorded(self, keys: Iterable[Key]) -> None:
        """Notes on disk that results have been acknowledged; call it before the spool lets go.

        Results of a round or grant that is no longer held are no error; :class:`DiskFull` is one.
        """
        found = set(keys)
        with self._changed:
            for held in self.held:
                done = dict.fromkeys(_of_grant(held.round, found), AttemptState.RECORDED)
                if done:
                    self._keep(replace(held, states={**held.states, **done}))
            self._changed.notify_all()

    def _put(self, held: HeldRound) -> None:
        round_id = held.round.round_id
        self._held[round_id] = held
        self._cancels[round_id] = threading.Event()
        self._encoded[round_id] = base64.b64encode(convert.to_bytes(held.round)).decode()

    def _path(self, round_id: str) -> Path:
        return self._directory / f"{hashlib.sha256(round_id.encode()).hexdigest()[:32]}.json"

    def _keep(self, changed: HeldRound) -> None:
        """Here and on disk, or neither."""
        round_id = changed.round.round_id
        before = self._held[round_id]
        self._held[round_id] = changed
        try:
            self._write(round_id)
        except DiskFull:
            self._held[round_id] = before
            raise

    def _write(self, round_id: str) -> None:
        held = self._held[round_id]
        states = held.states.items()
        text = json.dumps(
            {
                "format": 1,
                "boot_id": self._boot_id,
                "received_boottime_ns": held.received_ns,
                "starts": dict(held.starts),
                "recorded": [name for name, state in states if state is AttemptState.RECORDED],
                "round": self._encoded[round_id],
            }
        )
        write_atomically(self._path(round_id), text.encode())


def _read(path: Path, boot_id: str, spooled: set[Key]) -> HeldRound | None:
    """A round as an earlier process left it; one whose file is unreadable is given up (the
    controller's lease on it runs out)."""
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        round_ = convert.from_bytes(base64.b64decode(raw["round"]), Round)
        received = raw["received_boottime_ns"] if raw["boot_id"] == boot_id else -1
        starts = MappingProxyType({str(k): int(v) for k, v in raw["starts"].items()})
        recorded = set(raw["recorded"])
    except (ValueError, KeyError, TypeError, AttributeError, BadMessage) as error:
        _LOG.error("round file was unreadable and set aside", path=str(path), error=str(error))
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".unreadable"))
        return None
    states = dict.fromkeys(_of_grant(round_, spooled), AttemptState.SPOOLED)
    done = {run.attempt_id for run in round_.runs} & recorded
    states |= dict.fromkeys(done, AttemptState.RECORDED)
    return HeldRound(round_, int(received), starts, states, confirmed=False)


def _of_grant(round_: Round, keys: Iterable[Key]) -> set[str]:
    """The attempts of this round, under this fence, among ``keys``."""
    ids = {run.attempt_id for run in round_.runs}
    return {
        key.attempt_id
        for key in keys
        if key.attempt_id in ids and key.seq // STARTS_PER_FENCE == round_.fence
    }
