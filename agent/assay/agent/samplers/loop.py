"""Reads every sampler at its own pace and survives those that die."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.samplers import Sampler, probe_all
from assay.agent.samplers.base import Channel, Reading
from assay.agent.samplers.recording import Recording, SamplerCounters, Series
from assay.core.errors import SamplerError
from assay.core.model import Absent

CAPACITY = 65_536
"""Readings kept per channel (1 MiB): 11 minutes at 100 Hz; then every second one goes."""

_RETRY_NS = 1_000_000_000
_FAILURES_BEFORE_BACKOFF = 5

Clock = Callable[[], int]


@dataclass(slots=True)
class _Kept:
    channel: Channel
    t_ns: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class _Running:
    """One sampler, when it is due, and what it has yielded."""

    sampler: Sampler
    period_ns: int
    due_ns: int
    kept: dict[str, _Kept]
    successes: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    lost_readings: int = 0
    duration_ns: int = 0
    thinned: int = 0
    last_error: str = ""

    def keep(self, readings: tuple[Reading, ...], t_ns: int) -> None:
        for reading in readings:
            kept = self.kept[reading.channel.name]
            kept.t_ns.append(t_ns)
            kept.value.append(reading.value)
        self.successes += 1
        self.failures_in_a_row = 0
        self.lost_readings += len(self.kept) - len(readings)
        self.last_error = self.sampler.silence or self.last_error

    def failed(self, message: str) -> None:
        self.failures += 1
        self.failures_in_a_row += 1
        self.last_error = message

    def bound(self, capacity: int) -> None:
        """Halves what is kept, and the pace, once a channel is full."""
        if max((len(kept.t_ns) for kept in self.kept.values()), default=0) < capacity:
            return
        for kept in self.kept.values():
            kept.t_ns, kept.value = kept.t_ns[::2], kept.value[::2]
        self.period_ns *= 2
        self.thinned += 1

    def reschedule(self, begin_ns: int, end_ns: int) -> None:
        """Stays on the grid of its period, but takes at most half of the loop's time."""
        self.duration_ns += end_ns - begin_ns
        wait_ns = self.period_ns
        if self.failures_in_a_row >= _FAILURES_BEFORE_BACKOFF:
            wait_ns = max(wait_ns, _RETRY_NS)
        self.due_ns = max(self.due_ns + wait_ns, 2 * end_ns - begin_ns)


class SampleLoop:
    """The state of one sampling run; single-threaded, closed by its owner."""

    def __init__(
        self,
        samplers: Mapping[str, Sampler | Absent],
        hz: float,
        clock: Clock = time.monotonic_ns,
        capacity: int = CAPACITY,
    ) -> None:
        self._clock = clock
        self._capacity = capacity
        self._absent = {n: s.reason for n, s in samplers.items() if isinstance(s, Absent)}
        now = clock()
        self._running = [
            _Running(
                one,
                int(1e9 / min(hz, one.max_hz)),
                now,
                {channel.name: _Kept(channel) for channel in one.channels},
            )
            for one in samplers.values()
            if not isinstance(one, Absent)
        ]
        self._idle_until_ns = now + _RETRY_NS

    @classmethod
    def over(cls, sysroot: Path, hz: float) -> SampleLoop:
        """A loop over every sampler that answers under ``sysroot``."""
        return cls(probe_all(sysroot), hz)

    @property
    def next_due_ns(self) -> int:
        """When the next sampler wants to be read."""
        return min((one.due_ns for one in self._running), default=self._idle_until_ns)

    def read_due(self, now_ns: int) -> None:
        """Reads whatever is due; a sampler that fails is counted and tried again."""
        self._idle_until_ns = now_ns + _RETRY_NS
        for one in self._running:
            if one.due_ns <= now_ns:
                self._read(one)

    def read_last(self) -> None:
        """Reads every sampler once more, so that its series reaches the end."""
        for one in self._running:
            self._read(one)

    def recording(self) -> Recording:
        """Everything recorded so far; channels that never answered have no series."""
        series = {
            f"{one.sampler.name}.{name}": Series(
                kept.t_ns,
                kept.value,
                kept.channel.quantity,
                kept.channel.unit,
                kept.channel.meter,
            )
            for one in self._running
            for name, kept in one.kept.items()
            if kept.t_ns
        }
        counters = {
            one.sampler.name: SamplerCounters(
                one.successes,
                one.failures,
                one.lost_readings,
                one.duration_ns,
                one.thinned,
                one.last_error,
            )
            for one in self._running
        }
        return Recording(series, counters, self._absent)

    def close(self) -> None:
        """Closes every sampler."""
        for one in self._running:
            one.sampler.close()

    def _read(self, one: _Running) -> None:
        begin = self._clock()
        try:
            readings = one.sampler.read()
            # The middle of the read is when the value was true, give or take half its duration.
            one.keep(readings, (begin + self._clock()) // 2)
        except SamplerError as error:
            one.failed(str(error))
        except Exception as error:  # a sampler's bug must not cost the run its other sensors
            if one.failures_in_a_row == 0:
                _log_bug(one.sampler.name)
            one.failed(f"{type(error).__name__}: {error}")
        one.bound(self._capacity)
        one.reschedule(begin, self._clock())


def _log_bug(name: str) -> None:
    # Imported here: it takes a quarter of a second, which every run would wait for.
    from assay.core.log import get

    get(__name__).exception("sampler failed", sampler=name)
