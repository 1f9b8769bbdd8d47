"""Runs one worker process: starts it clean, watches it, and leaves nothing of it behind.

Whatever the worker does — crash, hang, eat memory, print rubbish, fork — ends here as one of
:class:`WorkerCrashed`, :class:`WorkerOom`, :class:`WorkerTimeout` or :class:`BadMessage`, with the
last lines of its stderr.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from assay.agent.environ import child_environment
from assay.core import convert
from assay.core.errors import (
    BadMessage,
    Cancelled,
    WorkerCrashed,
    WorkerOom,
    WorkerTimeout,
)
from assay.core.model import Profile, WorkerOrder, WorkerReport

WORKER: Final = (sys.executable, "-m", "assay.agent.worker")

_POLL_S = 0.1
_END_POLL_S = 0.01
_TERM_GRACE_S = 1.0
_STDERR_KEPT_BYTES = 16_384
_STDERR_SHOWN_LINES = 5
_REPORT_LIMIT_BYTES = 16 << 20
_FILE_LIMIT_BYTES = 4 << 30
_STATE = re.compile(rb"^state (\w+)(?: .*)?$")
_MEMORY_WORDS = re.compile(r"bad_alloc|Cannot allocate memory|MemoryError|out of memory", re.I)


@dataclass(frozen=True, slots=True)
class TimeBox:
    """How long a worker may take in each state, in seconds; every word of it starts the state's
    time anew, so that a long evaluation that gets on is not a hang."""

    by_state: Mapping[str, float]
    first_s: float = 120.0

    @classmethod
    def of(cls, profile: Profile) -> TimeBox:
        """Generous: the slowest single query fits in the slack of each state."""
        warmup_s, t_max_s = profile.warmup_max_ns / 1e9, profile.t_max_ns / 1e9
        return cls(
            {
                "loading": 300.0,
                "warming": 2 * warmup_s + 120.0,
                "measuring": 2 * t_max_s + 120.0,
                "evaluating": 300.0,
            }
        )

    def seconds(self, state: str) -> float:
        """Of one state; ``first_s`` before the first word and for a state it does not know."""
        return self.by_state.get(state, self.first_s)


def run_worker(
    order: WorkerOrder,
    time_box: TimeBox,
    cancel: threading.Event,
    on_state: Callable[[str], None] = lambda state: None,
    *,
    memory_limit_bytes: int | None = None,
    command: Sequence[str] = WORKER,
) -> WorkerReport:
    """Runs ``order`` in a fresh process and returns its report.

    Blocks; call it from a thread that outlives the worker (the kernel kills the worker when that
    thread ends). The run's directory must exist; a folder for temporary files is made in it and
    removed. Raises :class:`Cancelled` once ``cancel`` is set; the whole process group is gone then.
    """
    run_dir = Path(order.run_dir)
    order_path = run_dir / "order.pb"
    order_path.write_bytes(convert.to_bytes(order))
    (run_dir / "report.pb").unlink(missing_ok=True)
    scratch = run_dir / "tmp"
    scratch.mkdir(exist_ok=True)
    kills_before = _oom_kills()
    try:
        with _start([*command, str(order_path)], scratch, memory_limit_bytes) as child:
            watch = _Watch(child, time_box, cancel, on_state)
            try:
                watch.until_end()
            finally:
                status = _end_group(child)
        _raise_for(status, watch.stderr, oom_killed=_oom_kills() > kills_before)
        return _report(run_dir / "report.pb", watch.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _start(
    argv: Sequence[str], scratch: Path, memory_limit_bytes: int | None
) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=scratch,
        env=child_environment(TMPDIR=str(scratch)),
        start_new_session=True,
    )
    # After the start, by prlimit: a function between fork and exec is not safe beside threads.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(child.pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (_FILE_LIMIT_BYTES,) * 2)
        if memory_limit_bytes is not None:
            resource.prlimit(child.pid, resource.RLIMIT_AS, (memory_limit_bytes,) * 2)
    # If the board runs out of memory, the worker goes first and not the agent.
    with contextlib.suppress(OSError):
        Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
    return child


class _Watch:
    """Reads what the worker says until it ends, its time is up, or someone cancels."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        time_box: TimeBox,
        cancel: threading.Event,
        on_state: Callable[[str], None],
    ) -> None:
        self._child = child
        self._time_box = time_box
        self._cancel = cancel
        self._on_state = on_state
        self._state = ""
        self._line = b""
        self._deadline_s = time.monotonic() + time_box.seconds("")
        self.stderr = b""

    def until_end(self) -> None:
        """Returns once the worker has ended, before it is reaped."""
        assert self._child.stdout is not None and self._child.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ, self._hear)
            selector.register(self._child.stderr, selectors.EVENT_READ, self._keep)
            while not _ended(self._child.pid):
                self._check()
                # With both pipes closed only the process itself is left to wait for.
                if not selector.get_map():
                    time.sleep(_POLL_S)
                self._read(selector, _POLL_S)
            # What it said last; a child it left behind may hold the pipe open, so no waiting.
            self._read(selector, 0)
            self._read(selector, 0)

    def _check(self) -> None:
        if self._cancel.is_set():
            raise Cancelled("the run was cancelled")
        if time.monotonic() > self._deadline_s:
            doing = f"while {self._state}" if self._state else "before its first word"
            limit_s = self._time_box.seconds(self._state)
            raise WorkerTimeout(
                f"the worker was killed after {limit_s:g} s {doing}{_tail(self.stderr)}"
            )

    def _read(self, selector: selectors.BaseSelector, timeout_s: float) -> None:
        for key, _ in selector.select(timeout_s):
            data = os.read(key.fd, 65_536)
            if data:
                key.data(data)
            else:
                selector.unregister(key.fileobj)

    def _hear(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line[-_STDERR_KEPT_BYTES:]
        for line in lines:
            match = _STATE.match(line)
            if match is None:
                continue
            state = match[1].decode()
            self._deadline_s = time.monotonic() + self._time_box.seconds(state)
            if state != self._state:
                self._state = state
                self._on_state(state)
                self._answer(state)

    def _answer(self, state: str) -> None:
        """The timed part waits until everyone who had to be told has become quiet."""
        assert self._child.stdin is not None
        if state == "measuring":
            self._deadline_s = time.monotonic() + self._time_box.seconds(state)
            with contextlib.suppress(OSError):
                os.write(self._child.stdin.fileno(), b"\n")

    def _keep(self, data: bytes) -> None:
        self.stderr = (self.stderr + data)[-_STDERR_KEPT_BYTES:]


def _ended(pid: int) -> bool:
    """Whether a child has ended. It is left unreaped, so that its number stays ours until its
    group has been killed."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _end_group(child: subprocess.Popen[bytes]) -> int:
    """Ends whatever is left of the worker's group and session, politely first if it still runs;
    returns its exit status as ``Popen.returncode`` has it."""
    if not _ended(child.pid):
        _signal_group(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_GRACE_S
        while not _ended(child.pid) and time.monotonic() < deadline:
            time.sleep(_END_POLL_S)
    _signal_group(child.pid, signal.SIGKILL)
    for pid in _session_members(child.pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return child.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _session_members(session: int) -> list[int]:
    """Processes that left the worker's group but not its session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # After the name in parentheses: state, parent, group, session.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.append(int(entry.name))
    return found


def _raise_for(status: int, stderr: bytes, *, oom_killed: bool) -> None:
    if status == 0:
        return
    said = _tail(stderr)
    if status == -signal.SIGKILL and oom_killed:
        raise WorkerOom(f"the kernel killed the worker for want of memory{said}")
    if _MEMORY_WORDS.search(stderr.decode("utf-8", "replace")):
        raise WorkerOom(f"the worker could get no more memory{said}")
    if status < 0:
        raise WorkerCrashed(f"the worker died by {_signal_name(-status)}{said}")
    raise WorkerCrashed(f"the worker ended with status {status}{said}")


def _report(path: Path, stderr: bytes) -> WorkerReport:
    try:
        if path.stat().st_size > _REPORT_LIMIT_BYTES:
            raise WorkerCrashed(f"the worker's report is larger than {_REPORT_LIMIT_BYTES} bytes")
        return convert.from_bytes(path.read_bytes(), WorkerReport)
    except FileNotFoundError:
        raise WorkerCrashed(f"the worker ended without a report{_tail(stderr)}") from None
    except BadMessage as error:
        raise WorkerCrashed(f"the worker left rubbish for a report: {error}") from error


def _tail(stderr: bytes) -> str:
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return "; stderr: " + " | ".join(lines[-_STDERR_SHOWN_LINES:]) if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _oom_kills() -> int:
    """How often the kernel has killed for want of memory since boot (Linux 4.13)."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
