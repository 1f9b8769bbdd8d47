"""How devices fare right now, from their newest Sync: kept in memory, never in the store.

What is lost with the controller is told again by the next Sync. Thread-safe.
"""

from __future__ import annotations

import enum
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter

from assay.controller.planning.scheduler import SILENT_NS
from assay.controller.records import DeviceRecord, DeviceState
from assay.v1 import fleet_pb2

LOST_NS = 600 * 1_000_000_000
"""Silence for this long beyond an announced quiet window is a loss."""


class Reach(enum.Enum):
    """What a device looks like from here."""

    ONLINE = "online"
    SILENT = "silent"
    LOST = "lost"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Vitals:
    """One device's newest Sync. ``doing`` is the furthest state of an attempt it holds, empty where
    it holds none; times are of the controller's clock."""

    seen_ns: int
    quiet_until_ns: int
    temperature_c: float | None
    memory_available_bytes: float
    disk_free_bytes: float
    spool_entries: int
    spool_bytes: int
    throttled: bool
    accepting: bool
    doing: str

    @property
    def expected_by_ns(self) -> int:
        """Until then silence is no news."""
        return max(self.seen_ns, self.quiet_until_ns)


class VitalsBoard:
    """The newest vitals of every device heard since the start."""

    def __init__(self) -> None:
        self._held: dict[str, Vitals] = {}
        self._fresh: dict[str, Vitals] = {}
        self._lock = threading.Lock()

    def note(
        self, device_id: str, request: fleet_pb2.SyncRequest, now_ns: int, quiet_ns: int
    ) -> None:
        """Keeps what one Sync says."""
        self.put(device_id, read_vitals(request, now_ns, quiet_ns))

    def put(self, device_id: str, vitals: Vitals) -> None:
        """Keeps these as the newest."""
        with self._lock:
            self._held[device_id] = self._fresh[device_id] = vitals

    def fresh(self) -> Mapping[str, Vitals]:
        """Those that came since this was asked last."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
            return fresh

    def all(self) -> Mapping[str, Vitals]:
        """A copy, by device id."""
        with self._lock:
            return dict(self._held)


def to_line(device_id: str, vitals: Vitals) -> str:
    """One device's vitals as a line of JSON, for the process that shows them."""
    return json.dumps([device_id, *_values(vitals)]) + "\n"


def from_line(line: str) -> tuple[str, Vitals]:
    """What :func:`to_line` wrote."""
    device_id, *values = json.loads(line)
    return device_id, Vitals(*values)


_values = attrgetter(*(field.name for field in fields(Vitals)))


def read_vitals(request: fleet_pb2.SyncRequest, now_ns: int, quiet_ns: int) -> Vitals:
    """Reads a Sync; a device without a thermometer has no temperature. ``quiet_ns`` is how long it
    may be silent for."""
    health = request.health
    state = max((attempt.state for attempt in request.attempts), default=0)
    return Vitals(
        seen_ns=now_ns,
        quiet_until_ns=now_ns + quiet_ns,
        temperature_c=health.temperature_c if health.HasField("temperature_c") else None,
        memory_available_bytes=health.memory_available_bytes,
        disk_free_bytes=health.disk_free_bytes,
        spool_entries=health.spool_entries,
        spool_bytes=health.spool_bytes,
        throttled=health.throttled,
        accepting=request.accepting,
        doing=_word(state) if state else "",
    )


def expected_by_ns(device: DeviceRecord, vitals: Vitals | None) -> int:
    """When silence of this device begins to count: from its enrolment on where it was never
    heard."""
    heard_ns = vitals.expected_by_ns if vitals is not None else 0
    return max(heard_ns, device.last_seen_ns or device.enrolled_ns)


def reach(device: DeviceRecord, vitals: Vitals | None, now_ns: int) -> Reach:
    """Whether a device is there, by what was heard of it last."""
    if device.state is DeviceState.REVOKED:
        return Reach.REVOKED
    if device.state is DeviceState.QUARANTINED:
        return Reach.QUARANTINED
    silent_ns = now_ns - expected_by_ns(device, vitals)
    if silent_ns > LOST_NS:
        return Reach.LOST
    return Reach.SILENT if silent_ns > SILENT_NS else Reach.ONLINE


def _word(state: int) -> str:
    """``measuring`` and the like; empty for a state of a newer agent."""
    names = [name for name, value in fleet_pb2.AttemptState.items() if value == state]
    return names[0].removeprefix("ATTEMPT_STATE_").lower() if names else ""
