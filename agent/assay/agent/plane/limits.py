"""What a lease allows for fetching and for beginning, counted on the device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from assay.core.errors import Cancelled
from assay.core.framing import Chunk

_S = 1_000_000_000


class Limit(threading.Event):
    """A cancel that also comes when time is up: set with ``parent``, or ``limit_ns`` after it was
    made (0: never) by ``now_ns``, a clock that goes on while the board sleeps.

    ``timed_out`` tells the one from the other.
    """

    def __init__(self, parent: threading.Event, limit_ns: int, now_ns: Callable[[], int]) -> None:
        super().__init__()
        self._parent = parent
        self._now_ns = now_ns
        self._ends_ns = now_ns() + limit_ns if limit_ns > 0 else None
        self.limit_s = limit_ns / _S

    @property
    def timed_out(self) -> bool:
        """Whether time is up and nothing else has ended the work."""
        over = self._ends_ns is not None and self._now_ns() >= self._ends_ns
        return over and not self._parent.is_set()

    def kept(self) -> None:
        """What was to happen in time has happened: from now on only ``parent`` counts."""
        self._ends_ns = None

    def is_set(self) -> bool:
        """Whether to stop, for either reason."""
        return self._parent.is_set() or self.timed_out

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is set, ``timeout`` seconds at most; whether it is."""
        if self._ends_ns is not None:
            left_s = max(0.0, (self._ends_ns - self._now_ns()) / _S)
            timeout = left_s if timeout is None else min(timeout, left_s)
        self._parent.wait(timeout)
        return self.is_set()


def until(cancel: threading.Event, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The chunks of a transfer, up to the moment ``cancel`` is set: then :class:`Cancelled`."""
    for chunk in chunks:
        yield chunk
        if cancel.is_set():
            raise Cancelled("the transfer was cancelled")
