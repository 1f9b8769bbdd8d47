"""How the agent's main thread waits for the end: a signal, or a thread that is done."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from assay.core.errors import EXIT_INTERRUPTED, EXIT_OK, AssayError


class Ending:
    """Rung by signal handlers and threads; waited for by the main thread. As a context manager it
    catches SIGTERM and SIGINT inside its block.

    A pipe and not an Event, whose lock a signal handler might find held by its own thread.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._signal: int | None = None
        self._error: AssayError | None = None
        self._done = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Ending:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)
        self._write = -1

    def thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Starts a thread whose end is the agent's end."""

        def body() -> None:
            try:
                work()
                self._done = True
            except AssayError as error:
                self._error = self._error or error
            finally:
                self.ring()

        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return thread

    def ring(self) -> None:
        """Ends :meth:`wait`."""
        # Full of rings, or closed already: either way it has been heard.
        with contextlib.suppress(OSError):
            os.write(self._write, b".")

    def wait(self) -> None:
        """Until someone rings."""
        select.select([self._read], [], [])

    def exit_code(self) -> int:
        """What the end means to a shell; raises the error that brought it about."""
        if self._error is not None:
            raise self._error
        if self._signal is None and not self._done:
            raise AssayError("a thread ended by a mistake of ours; its traceback is above")
        return EXIT_INTERRUPTED if self._signal == signal.SIGINT else EXIT_OK

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = self._signal or number
        self.ring()


@contextlib.contextmanager
def end_by_exception() -> Iterator[None]:
    """Until the threads are there SIGTERM raises, as SIGINT does, so that children started by this
    thread are ended on the way out."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(EXIT_OK)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
