"""What happens to one Sync, between the wire and the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from assay.controller.metrics.tally import Tally
from assay.controller.planning import scheduler, timers
from assay.controller.planning.plan import lease_ns
from assay.controller.planning.scheduler import Key
from assay.controller.records import (
    Admission,
    DeviceRecord,
    DeviceState,
    Duty,
    HeldRound,
    RoundState,
    Standing,
)
from assay.controller.server.peer import heard, stranger
from assay.controller.server.presence import Presence
from assay.controller.server.rest import Rest
from assay.controller.server.starts import StartWatch
from assay.controller.store.base import Store
from assay.core import log
from assay.core.errors import NotFound, PermissionDenied
from assay.core.model import Round
from assay.v1 import fleet_pb2

_ACCEPTED = fleet_pb2.ATTEMPT_STATE_ACCEPTED
_MEASURED = (
    fleet_pb2.ATTEMPT_STATE_SPOOLED,
    fleet_pb2.ATTEMPT_STATE_RECORDED,
    fleet_pb2.ATTEMPT_STATE_SEALED,
)

_MOST_PUT_OFF = 500

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What a device says in one Sync: the grants it holds, those of them that it has begun, those
    that are measured to the end and only wait to be sent, whether it takes more, and the grants it
    has given back until another day."""

    device_id: str
    held: frozenset[Key]
    begun: frozenset[Key]
    spooled: frozenset[Key]
    accepting: bool
    put_off: frozenset[Key] = frozenset()

    @property
    def takes_any(self) -> bool:
        """Whether it takes whatever waits for it, so that any of it is news."""
        return self.accepting and not self.put_off

    @classmethod
    def of(cls, device_id: str, request: fleet_pb2.SyncRequest) -> Report:
        """Reads it off the request."""
        held = {(a.round_id, a.fence) for a in request.attempts}
        under_way = {(a.round_id, a.fence) for a in request.attempts if a.state not in _MEASURED}
        begun = {(a.round_id, a.fence) for a in request.attempts if a.state != _ACCEPTED}
        return cls(
            device_id,
            frozenset(held),
            frozenset(begun),
            frozenset(held - under_way),
            request.accepting,
            frozenset((g.round_id, g.fence) for g in request.put_off[:_MOST_PUT_OFF]),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device is told: the rounds it should hold, and whether to take nothing new."""

    rounds: tuple[Round, ...]
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """Settles reports against the store. Blocking, but for :meth:`known` and :meth:`at_rest`; call
    it from a worker thread."""

    store: Store
    presence: Presence
    now_ns: Callable[[], int]
    rest: Rest
    tally: Tally = field(default_factory=Tally)
    starts: StartWatch = field(default_factory=StartWatch)

    def known(self, report: Report, request: fleet_pb2.SyncRequest) -> Answer | None:
        """What :meth:`arrive` would answer and note, without asking the store: for a device at rest
        that says of itself what it said before. None where the store has to be asked."""
        answer = self.at_rest(report.device_id)
        facts = request.device if request.HasField("device") else None
        now_ns = self.now_ns()
        # It holds nothing, so nothing makes it quiet.
        if answer is None or not self.presence.again(report.device_id, facts, 0, now_ns):
            return None
        self.presence.vitals.note(report.device_id, request, now_ns, 0)
        return answer

    def at_rest(self, device_id: str) -> Answer | None:
        """What :meth:`look` would answer, likewise."""
        device = self.rest.admission(device_id)
        return None if device is None else Answer((), _drains(heard(device)))

    def arrive(self, report: Report, request: fleet_pb2.SyncRequest) -> Answer:
        """What the device should hold from now on.

        What the device no longer holds is settled only here, on arrival: later, while the call
        waits, its report is no longer news.
        """
        standing = self._standing(report)
        device = standing.device
        facts = request.device if request.HasField("device") else None
        now_ns, quiet_ns = self.now_ns(), _quiet_ns(request, standing.leased)
        if self.presence.note(device.device_id, facts, quiet_ns, now_ns):
            self._quarantine(device)
        self.presence.vitals.note(device.device_id, request, now_ns, quiet_ns)
        found = scheduler.reconcile(standing.leased, report.held, report.put_off)
        for round_id, fence in found.accepted:
            self.store.accept_round(round_id, fence)
        ended = {key: _end_trouble(key, report) for key in found.ended}
        ended |= self._not_begun(report, found.kept)
        if not ended:
            rounds = found.kept or self._grant(report, standing.queued)
            return Answer(rounds, _drains(device))
        for grant, trouble in ended.items():
            self._take_back(device, grant, trouble)
        return self.look(report)

    def look(self, report: Report) -> Answer:
        """The same after a wait, without taking the old report for a new one."""
        standing = self._standing(report)
        kept = tuple(held.round for held in standing.leased if not held.cancelled)
        return Answer(kept or self._grant(report, standing.queued), _drains(standing.device))

    def _standing(self, report: Report) -> Standing:
        try:
            standing = self.store.standing(report.device_id, len(report.put_off))
        except NotFound:
            raise stranger(report.device_id) from None
        heard(standing.device)
        return standing

    def _grant(self, report: Report, queued: Sequence[Key]) -> tuple[Round, ...]:
        if not report.accepting:
            return ()
        round_id = scheduler.choose(queued, report.spooled, report.put_off)
        if round_id is None:
            return ()
        planned = self.store.round(round_id)
        limits = timers.limits_of(self.store.sweep(planned.sweep_id).spec_json)
        fetch_ns, start_ns = timers.fetch_ns(limits, planned.runs), timers.start_ns(limits)
        granted = self.store.lease_round(
            report.device_id,
            lease_ns(planned.runs, fetch_ns, start_ns),
            self.now_ns(),
            round_id=round_id,
            fetch_ns=fetch_ns,
            start_ns=start_ns,
        )
        if granted is None:
            return ()
        _log.info(
            "round leased",
            device_id=report.device_id,
            round_id=granted.round_id,
            fence=granted.fence,
            runs=len(granted.runs),
        )
        return (granted,)

    def _not_begun(self, report: Report, kept: Sequence[Round]) -> Mapping[Key, str]:
        """The grant that the device has held for too long without beginning it, and what to say."""
        grant = timers.not_begun(kept, report.held, report.begun)
        waited_ns = self.starts.waited_ns(report.device_id, grant, self.now_ns())
        late = [r for r in kept if (r.round_id, r.fence) == grant and 0 < r.start_ns <= waited_ns]
        return {(r.round_id, r.fence): timers.start_trouble(r.start_ns) for r in late}

    def _take_back(self, device: Admission, grant: Key, trouble: str) -> None:
        uncounted = trouble == timers.put_off_trouble()
        state = self.store.release_round(
            *grant,
            scheduler.MAX_GRANTS,
            self.now_ns(),
            trouble,
            most_uncounted=scheduler.MOST_PUT_OFF if uncounted else 0,
        )
        if state is None or state is RoundState.CANCELLED:
            return
        self.tally.troubled(timers.trouble_code(trouble))
        _log.warning(
            "round taken back",
            device=device.name,
            device_id=device.device_id,
            round_id=grant[0],
            fence=grant[1],
            now=state.value,
            trouble=trouble,
        )

    def _quarantine(self, device: Admission) -> None:
        self.store.change_device(device.device_id, _quarantined)
        self.presence.forget(device.device_id)
        _log.error("device quarantined: two boards share one identity", device=device.name)
        raise PermissionDenied(
            f"two boards speak as device {device.name} (a cloned card?): both are shut out; enrol "
            f"each anew, or `assay device release {device.name}` if there is only one"
        )


def _quarantined(device: DeviceRecord) -> DeviceRecord:
    """One that was revoked meanwhile stays so."""
    if device.state is DeviceState.REVOKED:
        return device
    return replace(device, state=DeviceState.QUARANTINED)


def _end_trouble(grant: Key, report: Report) -> str:
    if grant in report.put_off:
        return timers.put_off_trouble()
    return timers.given_up_trouble()


def _quiet_ns(request: fleet_pb2.SyncRequest, leased: Sequence[HeldRound]) -> int:
    """How long the device may be silent for: what it says, as long as its lease may last."""
    longest_ns = max((held.round.lease_ns for held in leased), default=0)
    return min(max(0, request.quiet_for.ToNanoseconds()), longest_ns)


def _drains(device: Admission) -> bool:
    return device.duty is Duty.DRAINING
