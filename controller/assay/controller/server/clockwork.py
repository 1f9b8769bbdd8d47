"""What the controller does by the clock: signs of life, retries, leases, queues, duty."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from assay.controller.metrics.tally import Tally
from assay.controller.planning import health, scheduler, sweeps, timers
from assay.controller.records import AuditRecord, DeviceRecord, Role
from assay.controller.server.presence import Presence
from assay.controller.store.base import Store
from assay.core import log
from assay.core.errors import NotFound

_S = 1_000_000_000
_QUEUES_EVERY_NS = 10 * _S
_DUTY_EVERY_NS = 2 * _S
# What is being committed just now may carry an earlier time.
_OVERLAP_NS = 30 * _S
_LATELY_NS = 900 * _S
_SITES_EVERY_NS = 30 * _S

_log = log.get(__name__)


class Clockwork:
    """Blocking; :meth:`tick` is called about once a second, by one thread at a time."""

    def __init__(
        self, store: Store, presence: Presence, tally: Tally, now_ns: Callable[[], int]
    ) -> None:
        self._store = store
        self._presence = presence
        self._tally = tally
        self._now_ns = now_ns
        self._started_ns = now_ns()
        self._queues_ns = self._duty_ns = self._started_ns
        self._sites: Mapping[str, str] = {}
        self._sites_ns = -_SITES_EVERY_NS
        self._away: frozenset[str] = frozenset()
        self._judged: dict[str, tuple[str, ...]] = {}
        self._struck: dict[str, int] = {}

    def tick(self) -> None:
        """Does what is due; what the store refuses is tried again with the next tick."""
        now_ns = self._now_ns()
        self._presence.flush(now_ns)
        sweeps.tend(self._store)
        if now_ns - self._duty_ns >= _DUTY_EVERY_NS:
            self._judge_devices(now_ns)
        silences_ns = self._presence.silences_ns(now_ns)
        if not scheduler.may_expire(
            started_ns=self._started_ns, now_ns=now_ns, silences_ns=silences_ns.values()
        ):
            return
        self._expire_leases(now_ns, self._cut_off(silences_ns, now_ns))
        if now_ns - self._queues_ns >= _QUEUES_EVERY_NS:
            self._queues_ns = now_ns
            self._fail_queues(now_ns)

    def _cut_off(self, silences_ns: Mapping[str, int], now_ns: int) -> frozenset[str]:
        """The devices of sites that are out of reach as a whole."""
        if scheduler.fell_silent(silences_ns.values()) < scheduler.MASS_LEAST:
            self._away = frozenset()
            return self._away
        if now_ns - self._sites_ns >= _SITES_EVERY_NS:
            self._sites_ns = now_ns
            self._sites = {
                device.device_id: device.all_labels.get(scheduler.SITE_LABEL, "")
                for device in self._store.devices()
            }
        found = scheduler.cut_off(silences_ns, self._sites)
        if found - self._away:
            sites = sorted({self._sites[device_id] for device_id in found})
            _log.warning("sites out of reach: their leases stay", sites=sites, devices=len(found))
        self._away = found
        return found

    def _expire_leases(self, now_ns: int, spare: frozenset[str]) -> None:
        for round_id in self._store.expire_leases(
            now_ns,
            scheduler.MAX_GRANTS,
            delivery_ns=scheduler.DELIVERY_NS,
            trouble=f"{timers.LEASE_EXPIRED}: its device did not end it in time",
            spare=spare,
        ):
            self._tally.troubled(timers.LEASE_EXPIRED)
            _log.warning("lease expired", round_id=round_id)

    def _fail_queues(self, now_ns: int) -> None:
        """Rounds that nobody takes fail, so that their sweep ends."""
        for queue in self._store.idle_queues():
            limits = timers.limits_of(self._store.sweep(queue.sweep_id).spec_json)
            # While nobody served, nobody could take a round.
            if not timers.waits_too_long(queue, self._started_ns, limits, now_ns):
                continue
            worked_ns = self._store.last_work_ns(queue.device_id, timers.QUEUE_TIMEOUT)
            worked_ns = max(worked_ns, self._started_ns)
            if not timers.waits_too_long(queue, worked_ns, limits, now_ns):
                continue
            trouble = timers.queue_trouble(self._store.device(queue.device_id), limits)
            for round_id in self._store.fail_queue(queue, now_ns, trouble):
                self._tally.troubled(timers.QUEUE_TIMEOUT)
                _log.warning(
                    "round not taken in time",
                    round_id=round_id,
                    sweep_id=queue.sweep_id,
                    device_id=queue.device_id,
                    trouble=trouble,
                )

    def _judge_devices(self, now_ns: int) -> None:
        """Devices whose rounds come to nothing are taken off duty."""
        after_ns, self._duty_ns = self._duty_ns - _OVERLAP_NS, now_ns
        for device_id in sorted(self._store.ended_lately(after_ns)):
            outcomes = self._store.last_outcomes(device_id, health.STRIKES)
            newest = tuple(outcome.round_id for outcome in outcomes)
            # Once for each round that ends: an operator who puts it back to work is not overruled.
            if self._judged.get(device_id) == newest:
                continue
            self._judged[device_id] = newest
            try:
                device = self._store.device(device_id)
            except NotFound:
                continue
            after = health.struck_out(device, outcomes)
            if after != device and not self._is_shared(device_id, now_ns):
                self._cordon(after, now_ns)

    def _is_shared(self, device_id: str, now_ns: int) -> bool:
        """Whether this device is one of many that fail at once."""
        since_ns = now_ns - _LATELY_NS
        self._struck = {d: at for d, at in self._struck.items() if at > since_ns}
        self._struck[device_id] = now_ns
        worked = self._store.ended_lately(since_ns)
        if not health.is_shared_trouble(len(self._struck), len(worked | self._struck.keys())):
            return False
        _log.error(
            "most devices fail: none is taken off duty; look at the controller, its network and "
            "its files",
            device_id=device_id,
            failing=len(self._struck),
            worked=len(worked),
        )
        return True

    def _cordon(self, after: DeviceRecord, now_ns: int) -> None:
        if not self._store.cordon(after.device_id, after.duty_reason):
            return
        self._store.add_audit(_entry(after, now_ns))
        _log.error(
            "device taken off duty",
            device=after.name,
            device_id=after.device_id,
            reason=after.duty_reason,
        )


def _entry(device: DeviceRecord, now_ns: int) -> AuditRecord:
    return AuditRecord(
        at_ns=now_ns,
        actor="controller",
        role=Role.OPERATOR,
        origin="home",
        action="device cordon",
        subject=device.name,
        outcome="ok",
        detail=device.duty_reason,
    )
