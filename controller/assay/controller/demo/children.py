"""The controller and the agent as real processes of the demo, stopped with it whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from assay.core.errors import CheckFailed

_PATIENCE_S = 20.0
_TAIL_LINES = 15


@contextlib.contextmanager
def child(
    arguments: list[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs ``python -m ARGUMENTS`` until the block ends; its stderr goes to ``log``.

    It gets a session of its own, so that Ctrl-C reaches the demo alone and the demo decides the
    order in which things stop: SIGTERM, then SIGKILL to what is left of its group.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def require_alive(process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Raises :class:`CheckFailed` with the end of its log if the process is gone."""
    if process.poll() is None:
        return
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
    raise CheckFailed(f"the {name} ended with status {process.returncode}; {log} says:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
