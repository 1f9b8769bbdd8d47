"""How much waits to be recorded, and how long devices should stay away because of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_FIRST_PER_S = 1_000.0  # before anything was measured
_KEPT = 0.7  # of what earlier commits say, with each new one
_LEAST_S = 0.2
_MOST_S = 30.0
_JITTER = (0.5, 1.0)


class Backlog:
    """Results between their arrival and their commit, and the pace of commits. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0
        # Both fade alike, so that a large commit says more about the pace than many small ones.
        self._results, self._seconds = _FIRST_PER_S, 1.0

    def queued(self, results: int) -> None:
        """So many more wait."""
        with self._lock:
            self._waiting += results

    @contextmanager
    def expecting(self, results: int) -> Iterator[None]:
        """So many are about to come; whoever takes them in says so anew."""
        self.queued(results)
        try:
            yield
        finally:
            self.queued(-results)

    def committed(self, results: int, took_ns: int) -> None:
        """They wait no longer; their commit took so long, whatever came of it."""
        with self._lock:
            self._waiting -= results
            if not results:  # says nothing about the pace; many of them would make it none at all
                return
            self._results = _KEPT * self._results + results
            self._seconds = _KEPT * self._seconds + took_ns / 1e9

    def pause_s(self, rng: random.Random) -> float:
        """How long a device whose report is answered now should wait with its next one.

        Zero where little waits; else half to all of the time that what waits will take, so that it
        shrinks and yet never runs out while devices have something to send.
        """
        with self._lock:
            left_s = self._waiting * self._seconds / self._results
        return min(_MOST_S, left_s * rng.uniform(*_JITTER)) if left_s >= _LEAST_S else 0.0
