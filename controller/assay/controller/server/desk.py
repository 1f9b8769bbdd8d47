"""What happens to one Sync, between the wire and the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from assay.controller.planning import scheduler
from assay.controller.planning.plan import lease_ns
from assay.controller.planning.scheduler import Key
from assay.controller.records import Admission, DeviceState, Duty, Standing
from assay.controller.server.peer import heard, stranger
from assay.controller.server.presence import Presence
from assay.controller.store.base import Store
from assay.core import log
from assay.core.errors import NotFound, PermissionDenied
from assay.core.model import Round
from assay.v1 import fleet_pb2

_MEASURED = (
    fleet_pb2.ATTEMPT_STATE_SPOOLED,
    fleet_pb2.ATTEMPT_STATE_RECORDED,
    fleet_pb2.ATTEMPT_STATE_SEALED,
)

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What a device says in one Sync: the grants it holds, those of them that are measured to the
    end and only wait to be sent, and whether it takes more."""

    device_id: str
    held: frozenset[Key]
    spooled: frozenset[Key]
    accepting: bool

    @classmethod
    def of(cls, device_id: str, request: fleet_pb2.SyncRequest) -> Report:
        """Reads it off the request."""
        held = {(a.round_id, a.fence) for a in request.attempts}
        under_way = {(a.round_id, a.fence) for a in request.attempts if a.state not in _MEASURED}
        return cls(device_id, frozenset(held), frozenset(held - under_way), request.accepting)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device is told: the rounds it should hold, and whether to take nothing new."""

    rounds: tuple[Round, ...]
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """Settles reports against the store. Blocking; call it from a worker thread."""

    store: Store
    presence: Presence
    now_ns: Callable[[], int]

    def arrive(self, report: Report, request: fleet_pb2.SyncRequest) -> Answer:
        """What the device should hold from now on.

        What the device no longer holds is settled only here, on arrival: later, while the call
        waits, its report is no longer news.
        """
        standing = self._standing(report.device_id)
        device = standing.device
        facts = request.device if request.HasField("device") else None
        quiet_ns = max(0, request.quiet_for.ToNanoseconds())
        if self.presence.note(device.device_id, facts, quiet_ns, self.now_ns()):
            self._quarantine(device)
        self.presence.vitals.note(device.device_id, request, self.now_ns())
        found = scheduler.reconcile(standing.leased, report.held)
        for round_id, fence in found.accepted:
            self.store.accept_round(round_id, fence)
        if not found.ended:
            rounds = found.kept or self._grant(report, standing.queued)
            return Answer(rounds, _drains(device))
        for round_id, fence in found.ended:
            state = self.store.release_round(round_id, fence, scheduler.MAX_GRANTS)
            if state is not None:
                _log.warning(
                    "round given up by its device",
                    device=device.name,
                    round_id=round_id,
                    fence=fence,
                    now=state.value,
                )
        return self.look(report)

    def look(self, report: Report) -> Answer:
        """The same after a wait, without taking the old report for a new one."""
        standing = self._standing(report.device_id)
        kept = tuple(held.round for held in standing.leased if not held.cancelled)
        return Answer(kept or self._grant(report, standing.queued), _drains(standing.device))

    def _standing(self, device_id: str) -> Standing:
        try:
            standing = self.store.standing(device_id)
        except NotFound:
            raise stranger(device_id) from None
        heard(standing.device)
        return standing

    def _grant(self, report: Report, queued: Sequence[Key]) -> tuple[Round, ...]:
        round_id = scheduler.choose(queued, report.spooled) if report.accepting else None
        if round_id is None:
            return ()
        box_ns = lease_ns(self.store.round(round_id).runs)
        granted = self.store.lease_round(report.device_id, box_ns, self.now_ns(), round_id=round_id)
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

    def _quarantine(self, device: Admission) -> None:
        record = self.store.device(device.device_id)
        self.store.update_device(replace(record, state=DeviceState.QUARANTINED))
        self.presence.forget(device.device_id)
        _log.error("device quarantined: two boards share one identity", device=device.name)
        raise PermissionDenied(
            f"two boards speak as device {device.name} (a cloned card?): both are shut out; enrol "
            f"each anew, or `assay device release {device.name}` if there is only one"
        )


def _drains(device: Admission) -> bool:
    return device.duty is Duty.DRAINING
