"""What passes between this agent and its controller, and how much of it a day may.

A day is any 24 hours of the board's running time: CLOCK_BOOTTIME, added up over boots in a file.
Wall clocks are wrong on boards, and a day by them could begin twice. Time the board is switched off
does not count, so that a limit is kept too strictly rather than too loosely.

Bytes are counted by hour; an hour counts until 24 hours after its end. They are the lengths of the
messages and, estimated, what carries them (:func:`on_wire_bytes`).
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.home import write_atomically
from assay.core import log
from assay.core.errors import DiskFull, OverBudget

_LOG = log.get(__name__)
_HOUR_NS = 3_600_000_000_000
_HOURS = 24
_STEP_BYTES = 1 << 20
_FORMAT = 1

Reserve = Callable[[int, str], contextlib.AbstractContextManager[None]]
"""(bytes, of what) → held while they pass; raises :class:`OverBudget`."""

WAITS = "waits:daily_bytes"
"""The capability of a device that takes no work for want of bytes, so that `assay device show`
says so."""

CALL_BYTES = 700
"""Of a call beside its messages: headers, trailers and the packets that carry them."""

CONNECTION_BYTES = 5_000
"""Of a TLS handshake that shows certificates both ways."""

OPEN_BYTES_PER_S = 30
"""Of a call that is held open: pings of both sides and their answers."""


def on_wire_bytes(length: int) -> int:
    """What ``length`` bytes of messages take on the wire: 6 % for frames, records, packet headers
    and acknowledgements."""
    return length + length * 6 // 100


@dataclass(frozen=True, slots=True)
class DayBytes:
    """Bytes by hour of running time (:attr:`hours`: hour → bytes). Pure."""

    hours: dict[int, int] = field(default_factory=dict)

    def spent(self, now_ns: int) -> int:
        """What passed in the day that ends now."""
        return sum(size for hour, size in self.hours.items() if _counts(hour, now_ns))

    def plus(self, size: int, now_ns: int) -> DayBytes:
        """With ``size`` more; hours that are over are forgotten."""
        kept = {hour: held for hour, held in self.hours.items() if _counts(hour, now_ns)}
        hour = now_ns // _HOUR_NS
        return DayBytes({**kept, hour: kept.get(hour, 0) + size})

    def room_in_ns(self, size: int, limit: int, now_ns: int) -> int | None:
        """How long until ``size`` bytes fit below ``limit``; None where they never do."""
        over = self.spent(now_ns) + size - limit
        if over <= 0:
            return 0
        for hour in sorted(hour for hour in self.hours if _counts(hour, now_ns)):
            over -= self.hours[hour]
            if over <= 0:
                return (hour + _HOURS + 1) * _HOUR_NS - now_ns
        return None


@dataclass(frozen=True, slots=True)
class Passed:
    """Bytes since the process began, those of the day that ends now, and what a day may have."""

    sent: int = 0
    received: int = 0
    day: int = 0
    day_limit: int | None = None


class Traffic:
    """Counts, and says what may pass; safe for several threads. Close it when done.

    With a ``limit_bytes`` the count outlives the process in ``file``: written ahead by up to 1 MiB,
    so that a kill counts too much and never too little. Without one it is kept in memory.
    """

    def __init__(
        self, file: Path, limit_bytes: int | None, boot_id: str, boottime_ns: Callable[[], int]
    ) -> None:
        self._file = file
        self.limit_bytes = limit_bytes
        self._boot_id = boot_id
        self._boottime_ns = boottime_ns
        self._lock = threading.Lock()
        self._before_ns = 0
        self._day = DayBytes()
        self._reserved = 0
        self._wanted = 0
        self._ahead = 0
        self._sent = 0
        self._received = 0
        if limit_bytes is not None:
            self._load()

    @property
    def day_bytes(self) -> int:
        """What passed in the last 24 hours, both ways."""
        with self._lock:
            return self._day.spent(self._now_ns())

    def now(self) -> Passed:
        """A snapshot."""
        with self._lock:
            day = self._day.spent(self._now_ns())
            return Passed(self._sent, self._received, day, self.limit_bytes)

    def count(self, sent: int, received: int) -> None:
        """Notes what has passed. Never refuses: what is small and must go is only counted."""
        with self._lock:
            self._sent += sent
            self._received += received
            self._day = self._day.plus(sent + received, self._now_ns())
            self._ahead -= sent + received
            if self._ahead < 0:
                self._keep(_STEP_BYTES)

    @contextlib.contextmanager
    def reserved(self, length: int, what: str) -> Iterator[None]:
        """Sets aside what a transfer of ``length`` bytes will take while it goes on;
        :class:`OverBudget`, and nothing may be sent, where that is more than is left of the day's.
        """
        size = on_wire_bytes(length) + CALL_BYTES
        with self._lock:
            self._check(size, what)
            self._reserved += size
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= size

    def put_off(self, length: int) -> None:
        """Work was given back for want of ``length`` bytes: :attr:`waits` until there is room for
        them, over restarts too."""
        with self._lock:
            self._wanted = length
            self._keep(0)

    @property
    def waits(self) -> bool:
        """Whether new work is not taken, since there is no room for what was put off."""
        with self._lock:
            if not self._wanted or self.limit_bytes is None:
                return False
            # Syncs alone use some of every day, so that it is never free whole; and what is asked
            # for may come as a patch. With half a day's room it is worth another try.
            if self._room_in_ns(min(on_wire_bytes(self._wanted), self.limit_bytes // 2)) == 0:
                self._wanted = 0
            return bool(self._wanted)

    def room_in_s(self, length: int) -> float | None:
        """How long until a transfer of ``length`` bytes may begin; None where it is more than a
        whole day's."""
        if self.limit_bytes is None:
            return 0.0
        with self._lock:
            room_ns = self._room_in_ns(on_wire_bytes(length) + CALL_BYTES)
        return None if room_ns is None else room_ns / 1e9

    def close(self) -> None:
        """Writes the exact count."""
        with self._lock:
            self._keep(0)

    def _check(self, size: int, what: str) -> None:
        if self.limit_bytes is None:
            return
        room_ns = self._room_in_ns(size)
        if room_ns == 0:
            return
        spent = self._day.spent(self._now_ns())
        when = "never" if room_ns is None else f"in {room_ns / _HOUR_NS:.1f} h"
        raise OverBudget(
            f"{what} takes {size} bytes; of the {self.limit_bytes} a day (daily_bytes) {spent} are "
            f"used: there is room for it {when}; raise daily_bytes to have it sooner",
            size,
            never=room_ns is None and size > self.limit_bytes,
        )

    def _room_in_ns(self, size: int) -> int | None:
        assert self.limit_bytes is not None
        limit = self.limit_bytes - self._reserved
        return self._day.room_in_ns(size, limit, self._now_ns())

    def _now_ns(self) -> int:
        return self._before_ns + self._boottime_ns()

    def _keep(self, ahead: int) -> None:
        if self.limit_bytes is None:
            return
        now_ns = self._now_ns()
        day = self._day.plus(ahead, now_ns)
        kept = {
            "format": _FORMAT,
            "boot_id": self._boot_id,
            "before_ns": self._before_ns,
            "ran_ns": now_ns,
            "wanted": self._wanted,
            "hours": {str(hour): size for hour, size in day.hours.items()},
        }
        try:
            write_atomically(self._file, json.dumps(kept).encode())
        except (OSError, DiskFull) as error:
            # A full disk is no reason to stop talking; the next write says it all.
            _LOG.error("count of bytes was not kept", path=str(self._file), error=str(error))
            return
        self._ahead = ahead

    def _load(self) -> None:
        try:
            kept = json.loads(self._file.read_bytes())
            same_boot = kept["boot_id"] == self._boot_id
            self._before_ns = int(kept["before_ns"] if same_boot else kept["ran_ns"])
            self._day = DayBytes({int(hour): int(size) for hour, size in kept["hours"].items()})
            self._wanted = int(kept["wanted"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.error("count of bytes was unreadable", path=str(self._file), error=str(error))
            self._before_ns, self._day, self._wanted = 0, DayBytes(), 0


def kept_day_bytes(file: Path) -> int | None:
    """What an agent's ``file`` said last, for people; None where there is none to read."""
    try:
        kept = json.loads(file.read_bytes())
        day = DayBytes({int(hour): int(size) for hour, size in kept["hours"].items()})
        return day.spent(int(kept["ran_ns"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _counts(hour: int, now_ns: int) -> bool:
    return hour >= now_ns // _HOUR_NS - _HOURS
