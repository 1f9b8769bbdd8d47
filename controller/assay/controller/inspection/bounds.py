"""Bounds for processes that look at files nobody has checked, or run code of somebody else's."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from assay.core import errors
from assay.core.errors import AssayError, RuntimeRejected, WorkerCrashed, WorkerTimeout

_MEMORY_SHARE = 3 / 4
_LEAST_BYTES = 2 << 30
# Of /proc/PID/statm: data and stack, in pages.
_DATA = 5


def limit_memory() -> None:
    """Bounds the memory that this process may write to, so that it runs out of it alone: three
    quarters of the machine's, beyond what is in use. Files may be mapped at any size."""
    pages = int(Path("/proc/self/statm").read_text().split()[_DATA])
    page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    allowed = pages * page + max(int(total * page * _MEMORY_SHARE), _LEAST_BYTES)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = allowed if hard == resource.RLIM_INFINITY else min(allowed, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def ask(module: str, file: Path, *arguments: str, timeout_s: float) -> Any:
    """What ``python -m module FILE ...`` answers: JSON, the last line it prints.

    The error it was refused with; :class:`WorkerTimeout` where it took too long and was killed,
    :class:`WorkerCrashed` where it died of the file.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(file.resolve()), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise WorkerTimeout(
            f"{file.name}: looking at it took more than {timeout_s:g} s; the process was killed"
        ) from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = said.decode("utf-8", "replace").strip().splitlines()
    try:
        told = json.loads(lines[-1])
    except (IndexError, ValueError):
        how = f"status {process.returncode}"
        if process.returncode < 0:
            how = signal.Signals(-process.returncode).name
        raise WorkerCrashed(f"{file.name}: the process that looked at it died ({how})") from None
    if isinstance(told, dict) and "error" in told:
        raise _error(told["error"], told["message"])
    return told


def answer(compute: Any) -> int:
    """The other side of :func:`ask`: prints what ``compute`` returns, or the error it raised."""
    limit_memory()
    try:
        told = compute()
    except AssayError as error:
        told = {"error": error.code, "message": str(error)}
    except MemoryError:
        told = {"error": errors.WorkerOom.code, "message": "it took too much memory"}
    print("\n" + json.dumps(told))
    return 0


def _error(code: str, message: str) -> AssayError:
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    for kind in kinds:
        if issubclass(kind, AssayError) and kind.code == code and code != errors.SpecError.code:
            return kind(message)
    return RuntimeRejected(message)
