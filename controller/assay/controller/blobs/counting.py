"""Bytes the blob process has moved: counted here, told to the controller by its stdout."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from assay.core.encoding import Encoding

SENT = "sent"
RECEIVED = "received"

Moved = Mapping[tuple[str, str], int]
"""Bytes by direction and encoding."""


class ByteCount:
    """Bytes moved since they were asked for last. Thread-safe."""

    def __init__(self) -> None:
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def passing(
        self, direction: str, encoding: Encoding, chunks: Iterable[bytes]
    ) -> Iterator[bytes]:
        """The same chunks, each counted as it is taken."""
        for chunk in chunks:
            with self._lock:
                self._bytes[direction, encoding.value] += len(chunk)
            yield chunk

    def take(self) -> Moved:
        """What was moved since the last time."""
        with self._lock:
            taken, self._bytes = self._bytes, Counter()
        return taken


def to_lines(moved: Moved) -> str:
    """As lines for the controller; empty where nothing was moved."""
    return "".join(f"{direction} {encoding} {n}\n" for (direction, encoding), n in moved.items())


def from_line(line: str) -> tuple[str, str, int]:
    """Direction, encoding and bytes of one of those lines."""
    direction, encoding, number = line.split()
    return direction, encoding, int(number)
