"""Starts build processes, listens to them, and ends them as a group."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from assay.controller.variants.child import STATUS_REFUSED
from assay.controller.variants.orders import REPORT, Order, write_order
from assay.core.errors import TABLE, AssayError, BuildFailed, DiskFull

_LOG = "build.log"
_LAST_LINES = 5
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

OnLine = Callable[[int, str], None]
"""Called with (units done, note)."""


@contextlib.contextmanager
def build_folder() -> Iterator[Path]:
    """A folder for one build, gone afterwards; :class:`DiskFull` where it has no room."""
    try:
        with tempfile.TemporaryDirectory(prefix="assay-build-") as name:
            yield Path(name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = tempfile.gettempdir()
            raise DiskFull(f"no room to build in {where}: free some space there") from error
        raise


class BuildProcesses:
    """The build processes of one builder; :meth:`close` ends those that still run.

    :meth:`run` may be called from several threads.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(
        self, order: Order, folder: Path, on_line: OnLine, silence_s: float | None = None
    ) -> None:
        """Runs one order to its end; its report is then in ``folder``.

        :class:`BuildFailed` where it crashed, with the last lines it wrote, or said nothing for
        ``silence_s``; where it refused its order, the error it refused it with.
        """
        write_order(folder, order)
        read_end, write_end = os.pipe()
        try:
            process = self._start(folder, write_end)
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        note, refusal = "starting", None
        try:
            for line in _lines(read_end, silence_s):
                said = json.loads(line)
                if "error" in said:
                    refusal = _error(said["error"], said["message"])
                else:
                    note = said["note"]
                    on_line(said["done"], note)
            # Left unreaped, so that the group's number stays its own until the group is killed.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        except TimeoutError:
            raise BuildFailed(
                f"the build was ended after {silence_s:g} s without a word while {note!r}"
            ) from None
        finally:
            os.close(read_end)
            status = self._end(process)
        if status == STATUS_REFUSED and refusal is not None:
            raise refusal
        if status != 0:
            raise BuildFailed(_crash(status, note, folder / _LOG))
        if not (folder / REPORT).exists():
            raise BuildFailed(f"the build ended without its report while {note!r}: did it exit?")

    def close(self) -> None:
        """Kills every process still running, with its children, and starts no more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _kill_group(process)

    def _start(self, folder: Path, descriptor: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            **dict.fromkeys(_ONE_THREAD, "1"),
            "TMPDIR": str(folder),
            "PYTHONHASHSEED": "0",
        }
        module = "assay.controller.variants.child"
        with self._lock, (folder / _LOG).open("wb") as log:
            if self._closed:
                raise BuildFailed("stopped before it started")
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(folder), str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(descriptor,),
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        with self._lock:
            self._running.discard(process)
            _kill_group(process)
            status = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return status


def _lines(descriptor: int, silence_s: float | None) -> Iterator[bytes]:
    """Lines until the other end closes; :class:`TimeoutError` where none comes for so long."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    left = b""
    while poller.poll(None if silence_s is None else silence_s * 1000):
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return
        *whole, left = (left + chunk).split(b"\n")
        yield from whole
    raise TimeoutError


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """The process leads its own group; what it may have started is in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _error(code: str, message: str) -> AssayError:
    """The error a process refused its order with, as the same class."""
    classes = {cls.code: cls for cls in _subclasses(AssayError) if cls.code in TABLE}
    # SpecError takes its problems apart; its message is already whole here.
    found = classes.get(code, BuildFailed)
    return BuildFailed(message) if code == "bad_spec" else found(message)


def _subclasses(cls: type[AssayError]) -> list[type[AssayError]]:
    return [cls, *(deep for sub in cls.__subclasses__() for deep in _subclasses(sub))]


def _crash(status: int, note: str, log: Path) -> str:
    how = f"ended with status {status}"
    if status < 0:
        how = f"was ended by {signal.Signals(-status).name}"
        if -status == signal.SIGKILL:
            how += " (out of memory, or stopped)"
    said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    last = [line.strip() for line in said if line.strip()][-_LAST_LINES:]
    return f"the build {how} while {note!r}" + "".join(f"\n  {line}" for line in last)
