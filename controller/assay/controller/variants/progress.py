"""How far a build is, in one number that only grows."""

from __future__ import annotations

from collections.abc import Callable


class Meter:
    """Adds up pieces of work of known size; ``say`` gets (done, note)."""

    def __init__(self, say: Callable[[int, str], None]) -> None:
        self._say = say
        self._before = 0
        self._piece = 0
        self._note = ""
        self._told = 0

    def begin(self, note: str, units: int) -> None:
        """The piece before is done; the next one costs ``units``."""
        self._before += self._piece
        self._piece, self._note = units, note
        self._tell(self._before)

    def within(self, done: int, total: int) -> None:
        """``done`` of ``total`` of the present piece."""
        share = min(1.0, done / total) if total > 0 else 0.0
        self._tell(self._before + round(share * self._piece))

    def _tell(self, done: int) -> None:
        self._told = max(self._told, done)
        self._say(self._told, self._note)
