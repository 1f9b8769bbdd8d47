"""How the agent's main thread waits for the end: a signal, or a thread that is done."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType


class Ending:
    """Rung by signal handlers and threads; waited for by the main thread.

    A pipe and not an Event, whose lock a signal handler might find held by its own thread.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self.signal: int | None = None
        self.error: BaseException | None = None
        self.done = False

    def catch_signals(self) -> None:
        """SIGTERM and SIGINT ring from now on; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def ring(self) -> None:
        """Ends :meth:`wait`."""
        # Full of rings, or closed already: either way it has been heard.
        with contextlib.suppress(OSError):
            os.write(self._write, b".")

    def wait(self) -> None:
        """Until someone rings."""
        select.select([self._read], [], [])

    def close(self) -> None:
        """Gives the signals and the pipe back."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else _interrupt)
        os.close(self._read)
        os.close(self._write)
        self._write = -1

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or number
        self.ring()


_interrupt = signal.default_int_handler
