"""The quiet window: while a block is timed, this agent sends no packet.

Whoever talks to the controller does so inside :meth:`QuietWindow.packet`; whoever measures opens
the window with :meth:`QuietWindow.enter` and ends it with :meth:`QuietWindow.leave`. Entering waits
until nothing is in flight: a long-poll is cancelled at once, a transfer gets a moment to end and is
cancelled then (everything sent is safe to repeat).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE_S = 2.0
"""How long a transfer may hold up a run before it is cancelled."""


class Stopping(Exception):
    """The agent ends; raised where someone waits to send."""


class Packet:
    """A call in flight; ``attach`` what cancels it as soon as it has begun."""

    def __init__(self, idle: bool) -> None:
        self.idle = idle
        self._lock = threading.Lock()
        self._cancel: Callable[[], object] | None = None
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether this agent itself ended the call."""
        return self._cancelled

    def attach(self, cancel: Callable[[], object]) -> None:
        """Names what ends the call; called at once where it has been ended already."""
        with self._lock:
            self._cancel = cancel
        if self._cancelled:
            cancel()

    def cancel(self) -> None:
        """Ends the call, now or as soon as it has begun."""
        self._cancelled = True
        with self._lock:
            cancel = self._cancel
        if cancel is not None:
            cancel()


class QuietWindow:
    """One per agent; safe for all its threads."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._condition = threading.Condition()
        self._quiet = False
        self._stopping = False
        self._in_flight: set[Packet] = set()

    @property
    def quiet(self) -> bool:
        """Whether a timed block runs, or is about to."""
        return self._quiet

    def wait_open(self, timeout_s: float) -> bool:
        """Waits until packets may be sent; False after ``timeout_s`` without."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._quiet or self._stopping, timeout_s)

    @contextmanager
    def packet(self, *, idle: bool = False) -> Iterator[Packet]:
        """Waits for the window to end, then holds off the next one while the call inside goes on.

        An ``idle`` call (a long-poll that only waits) gets no grace. Raises :class:`Stopping` where
        the agent ends.
        """
        packet = Packet(idle)
        with self._condition:
            self._condition.wait_for(lambda: not self._quiet or self._stopping)
            if self._stopping:
                raise Stopping
            self._in_flight.add(packet)
        try:
            yield packet
        finally:
            with self._condition:
                self._in_flight.discard(packet)
                self._condition.notify_all()

    def enter(self) -> None:
        """Begins the window; returns once nothing is in flight."""
        with self._condition:
            self._quiet = True
            self._cancel(idle_only=True)
            if not self._condition.wait_for(lambda: not self._in_flight, self._grace_s):
                self._cancel()
                self._condition.wait_for(lambda: not self._in_flight, self._grace_s)

    def leave(self) -> None:
        """Ends the window; no error where there is none."""
        with self._condition:
            self._quiet = False
            self._condition.notify_all()

    def interrupt_idle(self) -> None:
        """Ends the long-poll, so that its owner sees what is new here."""
        with self._condition:
            self._cancel(idle_only=True)

    def stop(self) -> None:
        """For the end of the agent: cancels what is in flight and refuses all packets from now."""
        with self._condition:
            self._stopping = True
            self._cancel()
            self._condition.notify_all()

    def _cancel(self, *, idle_only: bool = False) -> None:
        for packet in self._in_flight:
            if packet.idle or not idle_only:
                packet.cancel()
