"""Processes that cannot outlive the tests: namespaces and mounts live and die with them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# SIGKILL when the parent ends, however it ends.
_TIED = ("setpriv", "--pdeathsig", "KILL", "--")


def start(command: Sequence[str], log: Path = Path(os.devnull)) -> subprocess.Popen[bytes]:
    """Starts ``command`` in a session of its own, tied to the life of this process."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [*_TIED, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to its session, and waits; no error where it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def eventually(
    check: Callable[[], object], what: str, *, timeout_s: float = 30.0, every_s: float = 0.1
) -> None:
    """Waits until ``check`` is true; the failure says ``what`` never came."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(every_s)
