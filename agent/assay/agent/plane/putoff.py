"""Rounds given back until another day, since their files are more than is left of this one's bytes.

They are named in every Sync for as long as that lasts: the controller counts no grant for them and
passes them over, so that what needs no bytes is measured meanwhile.
"""

from __future__ import annotations

import threading

from assay.agent.plane.traffic import Traffic

Grant = tuple[str, int]
"""A round's id, and the fence it was granted under."""

MOST = 200
"""With so many put off nothing more is tried on this day."""

NAMED_BYTES = 200_000
"""Of a day's Syncs for each that they name: some 40 bytes, 5,000 times where others are measured
meanwhile."""

_SHARE = 10


class PutOff:
    """Safe for several threads. Naming them all takes a tenth of the day's bytes at most: what they
    wait for must become free. What is named is forgotten with the process; that there is no room
    is not (:class:`~assay.agent.plane.traffic.Traffic`)."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._most = min(MOST, max(1, (traffic.limit_bytes or 0) // _SHARE // NAMED_BYTES))
        self._lock = threading.Lock()
        self._fences: dict[str, int] = {}

    def add(self, round_id: str, fence: int, length: int) -> None:
        """A round goes back for want of ``length`` bytes. Of several the first is waited for: what
        comes later and needs less would else be fetched in its place, day after day."""
        with self._lock:
            if not self._traffic.waits:
                self._traffic.put_off(length)
            self._fences[round_id] = fence

    def grants(self) -> tuple[Grant, ...]:
        """Those put off; none once there is room."""
        with self._lock:
            if not self._traffic.waits:
                self._fences.clear()
            return tuple(self._fences.items())

    def may_take(self, passes_over: bool) -> bool:
        """Whether new rounds may be taken, by whether the controller passes over what is put off:
        by one that does not, each is granted until it has failed."""
        return not self._traffic.waits or (passes_over and len(self._fences) < self._most)
