"""What one device may take of the blob process."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from assay.core.errors import DiskFull, Unreachable

_DAY_NS = 86_400 * 1_000_000_000


class DailyQuota:
    """How many bytes each device may still send today; forgotten with the process."""

    def __init__(self, bytes_per_day: int, now_ns: Callable[[], int]) -> None:
        self._bytes_per_day = bytes_per_day
        self._now_ns = now_ns
        self._day = 0
        self._taken: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def take(self, device_id: str, size_bytes: int) -> None:
        """Counts a file that is about to be sent; :class:`DiskFull` where it is too much."""
        with self._lock:
            day = self._now_ns() // _DAY_NS
            if day != self._day:
                self._day, self._taken = day, defaultdict(int)
            if self._taken[device_id] + size_bytes > self._bytes_per_day:
                raise DiskFull(
                    f"this device has sent {self._taken[device_id]} bytes today; its quota is "
                    f"{self._bytes_per_day}: try again tomorrow"
                )
            self._taken[device_id] += size_bytes


class TransferSlots:
    """How many transfers a device may have under way, so that one that stalls them all, by
    mistake or on purpose, leaves threads for the others."""

    def __init__(self, per_device: int) -> None:
        self._per_device = per_device
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def one(self, device_id: str) -> Iterator[None]:
        """Takes a slot for the block; :class:`Unreachable` where none is free."""
        with self._lock:
            if self._busy[device_id] >= self._per_device:
                raise Unreachable(
                    f"this device has {self._per_device} transfers under way; end one of them first"
                )
            self._busy[device_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[device_id] -= 1
                if not self._busy[device_id]:
                    del self._busy[device_id]
