"""Signs of life: kept in memory, written down in bulk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from assay.controller.metrics.vitals import VitalsBoard
from assay.controller.server.claims import claims_of
from assay.controller.store.base import Store
from assay.core.convert import from_proto
from assay.core.errors import AssayError
from assay.core.model import DeviceFacts
from assay.v1 import device_pb2

_FLUSH_NS = 10 * 1_000_000_000
_BOOTS_REMEMBERED = 8


@dataclass(slots=True)
class _Sign:
    seen_ns: int
    quiet_until_ns: int = 0
    facts_bytes: bytes = b""
    facts: DeviceFacts | None = None  # only what the store does not have yet
    dirty: bool = True
    boots: deque[str] = field(default_factory=lambda: deque(maxlen=_BOOTS_REMEMBERED))
    returns: int = 0


class Presence:
    """When each device was last heard, and what it said about itself. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._signs: dict[str, _Sign] = {}
        self._lock = threading.Lock()
        self._flushed_ns = 0
        self.vitals = VitalsBoard()

    def note(
        self, device_id: str, facts: device_pb2.DeviceFacts | None, quiet_ns: int, now_ns: int
    ) -> bool:
        """Notes a call; True where it gives the device away as two: a boot id that comes back
        after another one, twice, means that two boards share one identity (a cloned SD card).
        Raises :class:`BadMessage` where the facts cannot be read."""
        raw = b"" if facts is None else facts.SerializeToString(deterministic=True)
        with self._lock:
            sign = self._signs.setdefault(device_id, _Sign(now_ns))
            if facts is not None and raw != sign.facts_bytes:
                sign.facts = from_proto(claims_of(facts), DeviceFacts)
                sign.facts_bytes = raw
            sign.seen_ns, sign.quiet_until_ns, sign.dirty = now_ns, now_ns + quiet_ns, True
            return facts is not None and _two_boards(sign, facts.boot_id)

    def again(
        self, device_id: str, facts: device_pb2.DeviceFacts | None, quiet_ns: int, now_ns: int
    ) -> bool:
        """:meth:`note` for a call that says of the device what the last one said; False where it
        does not, and nothing is noted."""
        raw = b"" if facts is None else facts.SerializeToString(deterministic=True)
        with self._lock:
            sign = self._signs.get(device_id)
            if sign is None or (facts is not None and raw != sign.facts_bytes):
                return False
            sign.seen_ns, sign.quiet_until_ns, sign.dirty = now_ns, now_ns + quiet_ns, True
            return True

    def forget(self, device_id: str) -> None:
        """Starts over with this device, as after a quarantine."""
        with self._lock:
            self._signs.pop(device_id, None)

    def silences_ns(self, now_ns: int) -> dict[str, int]:
        """By device, how long it has been silent beyond the quiet window it announced."""
        with self._lock:
            signs = list(self._signs.items())
        return {
            device_id: max(0, now_ns - max(sign.seen_ns, sign.quiet_until_ns))
            for device_id, sign in signs
        }

    def count(self) -> int:
        """Devices heard since the start."""
        return len(self._signs)

    def flush(self, now_ns: int, *, everything: bool = False) -> None:
        """Writes new facts at once and last-seen times every ten seconds, in one transaction."""
        due = everything or now_ns - self._flushed_ns >= _FLUSH_NS
        with self._lock:
            chosen = [
                (device_id, sign)
                for device_id, sign in self._signs.items()
                if sign.dirty and (due or sign.facts is not None)
            ]
            signs = [(device_id, sign.facts, sign.seen_ns) for device_id, sign in chosen]
            _mark_clean(sign for _, sign in chosen)
            if due:
                self._flushed_ns = now_ns
        if not signs:
            return
        try:
            self._store.seen_all(signs)
        except AssayError:
            with self._lock:
                for _, sign in chosen:
                    # Unwritten facts come again with the next call.
                    sign.facts_bytes, sign.dirty = b"", True
            raise


def _mark_clean(signs: Iterable[_Sign]) -> None:
    for sign in signs:
        sign.facts, sign.dirty = None, False


def _two_boards(sign: _Sign, boot_id: str) -> bool:
    if not boot_id or (sign.boots and sign.boots[-1] == boot_id):
        return False
    if boot_id in sign.boots:
        sign.returns += 1
    sign.boots.append(boot_id)
    return sign.returns >= 2
