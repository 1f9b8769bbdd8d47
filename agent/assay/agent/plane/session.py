"""The Sync loop: says what this device is and runs now, and brings about what should be.

Level-triggered: every request carries everything held, every reply everything wished, so a lost
message needs no replay. :meth:`Session.step` is one Sync; what a reply leads to is decided in
:mod:`assay.agent.plane.decide`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from assay.agent.clock import Clock
from assay.agent.plane.decide import Actions, decide, next_lease_end_ns, run_out
from assay.agent.plane.identity import Identity
from assay.agent.plane.link import Link
from assay.agent.plane.putoff import Grant
from assay.agent.plane.quiet import QuietWindow, Stopping
from assay.agent.plane.rounds import HeldRound, RoundBook
from assay.agent.plane.spool import Spool
from assay.core import convert, log
from assay.core.channel import PROTO, Backoff
from assay.core.clock_check import clock_trouble
from assay.core.errors import (
    AssayError,
    BadMessage,
    Cancelled,
    ClockWrong,
    DiskFull,
    PermissionDenied,
    Unauthenticated,
    Unreachable,
    VersionMismatch,
)
from assay.core.model import DeviceFacts, Round
from assay.v1 import fleet_pb2, job_pb2

_LOG = log.get(__name__)
_S = 1_000_000_000
_SHORTEST_PAUSE_S = 0.05
_JITTER = 0.1
_REPLY_S = 10.0
_FAILURES_BEFORE_HINT = 3
_FAILURES_BETWEEN_LOOKS = 20  # at the clock: each look is one more handshake
_HURRIED_WAIT_S = 1.0
_HURRIED_TRIES = 5
_FINAL = (PermissionDenied, Unauthenticated, VersionMismatch)


@dataclass(slots=True)
class Session:
    """One device's side of ``Fleet.Sync``; :meth:`run` belongs to one thread, :meth:`announce` to
    whoever measures. ``refuse`` is given rounds this version cannot read, with the reason;
    ``draining`` tells whether nothing new may be taken, ``may_take`` whether something may, given
    whether the controller passes over the grants that are ``put_off``; ``pulse`` hears after each
    step whether the controller answered (None where it was not waited for).

    ``wait_s`` is how long a reply may be held back while there is nothing new.
    """

    link: Link
    book: RoundBook
    spool: Spool
    quiet: QuietWindow
    identity: Identity
    facts: Callable[[], DeviceFacts]
    health: Callable[[], fleet_pb2.Health]
    refuse: Callable[[job_pb2.Round, str], None]
    draining: Callable[[], bool] = lambda: False
    may_take: Callable[[bool], bool] = lambda _passes_over: True
    put_off: Callable[[], Sequence[Grant]] = tuple
    on_back: Callable[[], None] = lambda: None
    pulse: Callable[[bool | None], None] = lambda _answered: None
    clock: Clock = field(default_factory=Clock)
    rng: random.Random = field(default_factory=random.Random)
    wait_s: float = 30.0
    assigned: int = -1
    _backoff: Backoff = field(init=False)
    _answered: bool | None = None
    _passes_over: bool = False
    _failures: int = 0
    _clock_wrong: ClockWrong | None = None
    _bell: threading.Event = field(default_factory=threading.Event)
    _applying: threading.Lock = field(default_factory=threading.Lock)
    _refused: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._backoff = Backoff(first_s=0.5, most_s=30.0, rng=self.rng)

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Syncs until ``stop``, or ``once`` until there is nothing left to do.

        Raises the error that no further attempt can mend (a certificate that is not accepted, no
        common version), with all work ended; ``once`` also :class:`Unreachable` after some tries.
        """
        nothing_left = 0
        while not stop.is_set():
            try:
                pause_s = self.step(hurry=once)
                self.pulse(self._answered)
            except Stopping:
                return
            except _FINAL as error:
                self.book.cancel_all(str(error))
                raise
            # Asked twice: a round may just have been granted to a call that gave way.
            nothing_left = nothing_left + 1 if self._nothing_left() else 0
            if once and nothing_left == 2:
                return
            self._bell.wait(pause_s)
            self._bell.clear()

    def start_over(self, identity: Identity) -> None:
        """With another identity: whether the controller hears it shall be known at once."""
        self.identity = identity
        self.assigned = -1

    def wake(self) -> None:
        """Something changed here: the next Sync is made now."""
        self._bell.set()
        self.quiet.interrupt_idle()

    def step(self, *, hurry: bool = False) -> float:
        """One Sync; returns the seconds to wait before the next. In a ``hurry`` the reply is not
        waited for, and a controller that does not answer is given up."""
        self._answered = None
        now_ns = self.clock.boottime_ns()
        with self._applying:
            self._act(run_out(self.book.held, now_ns))
        wait_s = self._until_lease_end(now_ns)
        if not self.quiet.wait_open(wait_s):
            return 0.0
        try:
            reply = self._sync(self._patience(wait_s, hurry))
        except Cancelled:
            return 0.0
        except Unreachable as error:
            pause_s = self._unreachable(error)
            if hurry and self._failures >= _HURRIED_TRIES:
                raise (self._clock_wrong or error) from error
            return pause_s
        except _FINAL:
            raise
        except AssayError as error:
            _LOG.error("sync was refused", code=error.code, error=str(error))
            self._answered = False
            return self._backoff.next_s()
        self._apply(reply)
        pause_s = reply.next_sync_in.ToNanoseconds() / _S
        return max(_SHORTEST_PAUSE_S, pause_s * self.rng.uniform(1 - _JITTER, 1 + _JITTER))

    def announce(self, quiet_for_ns: int, *, again: bool = False) -> None:
        """Tells the controller that this device measures and is not lost; the reply counts, so a
        cancel still arrives before the block. Call with the quiet window entered. ``again``, after
        a pause of a long timed part, also a controller that was away."""
        request = self._request(wait_s=0.0, quiet_for_ns=quiet_for_ns)
        reply = self.link.announce(request, anew=again)
        if reply is not None and reply.proto == PROTO:
            self._apply(reply)

    def _patience(self, wait_s: float, hurry: bool) -> float:
        """How long the reply may be held back."""
        if self.assigned < 0 or self._failures:
            # Whether the controller hears this device is worth knowing at once.
            return 0.0
        if any(each.recorded for each in self.book.held):
            # Only the word that it may be forgotten is missing.
            return 0.0
        if hurry:
            busy = self.book.held or self.spool.entries
            return min(wait_s, _HURRIED_WAIT_S if busy else 0.0)
        return wait_s

    def _sync(self, wait_s: float) -> fleet_pb2.SyncResponse:
        reply = self.link.sync(self._request(wait_s=wait_s), timeout_s=wait_s + _REPLY_S)
        if reply.proto != PROTO:
            raise VersionMismatch(
                f"the controller speaks protocol {reply.proto}, this agent {PROTO}: install the "
                "same version of Assay on both"
            )
        if self._failures:
            _LOG.info("controller answered again", after_failures=self._failures)
            self.on_back()
        self._answered, self._failures, self._clock_wrong = True, 0, None
        self._backoff.succeeded()
        return reply

    def _accepting(self) -> bool:
        ready = not (self.spool.near_full or self.draining())
        return ready and self.may_take(self._passes_over)

    def _nothing_left(self) -> bool:
        return self.assigned == 0 and not self.book.held and not self.spool.entries

    def _request(self, *, wait_s: float, quiet_for_ns: int = 0) -> fleet_pb2.SyncRequest:
        request = fleet_pb2.SyncRequest(
            proto_min=PROTO,
            proto_max=PROTO,
            health=self.health(),
            attempts=_attempts(self.book.held),
            put_off=[
                fleet_pb2.Grant(round_id=round_id, fence=fence)
                for round_id, fence in self.put_off()
            ],
            accepting=self._accepting(),
            wait=Duration(),
        )
        request.device.CopyFrom(convert.to_proto(self.facts()))  # type: ignore[arg-type]
        request.wait.FromNanoseconds(int(wait_s * _S))
        if quiet_for_ns:
            request.quiet_for.FromNanoseconds(quiet_for_ns)
        return request

    def _apply(self, reply: fleet_pb2.SyncResponse) -> None:
        with self._applying:
            self._passes_over = reply.passes_over
            given_back = dict(self.put_off())
            # A reply that is older than the giving back may still name the grant.
            wished = [
                round_
                for round_ in self._readable(reply.assignments)
                if given_back.get(round_.round_id) != round_.fence
            ]
            accepting = self._accepting() and not reply.drain
            now_ns = self.clock.boottime_ns()
            self._act(decide(self.book.held, wished, now_ns, accepting=accepting))
            self.assigned = len(reply.assignments)

    def _readable(self, assignments: Sequence[job_pb2.Round]) -> list[Round]:
        wished: list[Round] = []
        for message in assignments:
            try:
                wished.append(convert.from_proto(message, Round))
            except BadMessage as error:
                grant = (message.round_id, message.fence)
                if grant not in self._refused:
                    self._refused.add(grant)
                    _LOG.error("round was refused", round_id=message.round_id, error=str(error))
                    self.refuse(message, str(error))
        return wished

    def _act(self, actions: Actions) -> None:
        now_ns = self.clock.boottime_ns()
        for round_id, why in actions.drop:
            _LOG.warning("round was dropped", round_id=round_id, why=why)
            self.book.drop(round_id, why)
        for round_id in actions.forget:
            self.book.forget(round_id)
        try:
            for round_id in actions.confirm:
                self.book.confirm(round_id, now_ns)
            for new in actions.accept:
                self.book.accept(new, now_ns)
                _LOG.info(
                    "round was accepted", round_id=new.round_id, fence=new.fence, runs=len(new.runs)
                )
        except DiskFull as error:
            # The next reply says it again.
            _LOG.error("round was not taken", error=str(error))
            return
        if actions.accept:
            # The controller learns at once that the round has arrived.
            self._bell.set()

    def _until_lease_end(self, now_ns: int) -> float:
        end_ns = next_lease_end_ns(self.book.held)
        if end_ns is None:
            return self.wait_s
        return max(0.0, min(self.wait_s, (end_ns - now_ns) / _S))

    def _unreachable(self, error: Unreachable) -> float:
        self._answered = False
        self._failures += 1
        pause_s = self._backoff.next_s()
        note = self._hint(error) if self._failures >= _FAILURES_BEFORE_HINT else ""
        _LOG.warning(
            "controller did not answer",
            address=self.identity.fleet_address,
            code=(self._clock_wrong or error).code,
            error=str(error),
            failures=self._failures,
            next_try_s=round(pause_s, 1),
            **({"note": note} if note else {}),
        )
        return pause_s

    def _hint(self, error: Unreachable) -> str:
        """A certificate that either side refuses looks like a dead network to gRPC; where nobody
        took the connection it was one."""
        connected = not isinstance(error.__cause__, OSError)
        if connected and self._failures % _FAILURES_BETWEEN_LOOKS == _FAILURES_BEFORE_HINT:
            self._clock_wrong = self._look_at_clock()
        if self._clock_wrong is not None:
            return str(self._clock_wrong)
        return self.identity.expiry_note(self.clock.unix_ns() / _S) or (
            "if the network and the controller are up, this device's certificate may be "
            "refused: see `assay device show` on the controller"
        )

    def _look_at_clock(self) -> ClockWrong | None:
        if self.quiet.quiet:
            return None
        with self.quiet.packet():
            return clock_trouble(self.identity.fleet_address, self.identity.ca_bundle_pem)


def _attempts(held: Sequence[HeldRound]) -> list[fleet_pb2.HeldAttempt]:
    return [
        fleet_pb2.HeldAttempt(
            attempt_id=run.attempt_id,
            round_id=each.round.round_id,
            fence=each.round.fence,
            state=fleet_pb2.AttemptState.Value(f"ATTEMPT_STATE_{each.state(run.attempt_id).name}"),
        )
        for each in held
        for run in each.round.runs
    ]
