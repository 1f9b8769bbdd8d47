"""One process that samples the board's sensors while a worker is measured.

The parent's side is :class:`SamplerProcess`, the child's :func:`main`
(``python -m assay.agent.measuring.sampler_process``). The child is pinned to the housekeeping CPUs,
keeps its readings in bounded memory and writes once, when its stdin closes: so it also ends when
the parent dies. All stamps are CLOCK_MONOTONIC nanoseconds, comparable between the processes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from assay.agent.environ import child_environment
from assay.agent.samplers.ina2xx import SHUNT_VARIABLE, SIGN_VARIABLE
from assay.agent.samplers.ina2xx_i2c import CHIP_VARIABLE
from assay.agent.samplers.loop import SampleLoop
from assay.agent.samplers.recording import Recording, SamplerCounters, Series, read_recording
from assay.agent.samplers.tally import TALLY
from assay.agent.samplers.um25c import PORT_VARIABLE

__all__ = ["SamplerCounters", "SamplerProcess", "Series", "main"]

_READY = b"ready\n"
_READY_WAIT_S = 10.0
_STOP_WAIT_S = 5.0
_POLL_S = 0.005
# What the kernel cannot know of an attached meter and its owner states.
_WIRING = (SHUNT_VARIABLE, SIGN_VARIABLE, CHIP_VARIABLE, PORT_VARIABLE)


class SamplerProcess:
    """The sampler of one run; a loss of it is named in ``loss``, never raised.

    One owner, not thread-safe; whoever starts it calls :meth:`stop`.
    """

    def __init__(self, child: subprocess.Popen[bytes] | None, out_path: Path, loss: str) -> None:
        self._child = child
        self._out_path = out_path
        self._recording: Recording | None = None
        self.loss = loss

    @classmethod
    def start(
        cls, out_path: Path, cpus: tuple[int, ...], hz: float, sysroot: Path = Path("/")
    ) -> SamplerProcess:
        """Starts sampling at ``hz`` (10 to 100) and returns once every sensor answered once.

        ``out_path`` is where the child writes its recording at the end. Where the process cannot be
        started or does not become ready the run goes on without it and ``loss`` says why.
        """
        wiring = {name: os.environ[name] for name in _WIRING if name in os.environ}
        argv = [sys.executable, "-m", __name__, "--out", str(out_path), "--hz", str(hz)]
        argv += ["--cpus", ",".join(map(str, cpus)), "--sysroot", str(sysroot)]
        try:
            out_path.unlink(missing_ok=True)
            child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env=child_environment(**wiring),
            )
        except OSError as error:
            return cls(None, out_path, f"the sampler process did not start: {error.strerror}")
        process = cls(child, out_path, "")
        if not _becomes_ready(child):
            process.loss = f"the sampler process was not ready within {_READY_WAIT_S:g} s"
        return process

    @property
    def pid(self) -> int | None:
        """The child's process id, which leads its own process group."""
        return self._child.pid if self._child else None

    @property
    def counters(self) -> Mapping[str, SamplerCounters]:
        """Successes, failures and time spent by sampler; empty before :meth:`stop`."""
        return MappingProxyType(self._recording.counters if self._recording else {})

    @property
    def absent(self) -> Mapping[str, str]:
        """Why each sampler that is not here is absent; empty before :meth:`stop`."""
        return MappingProxyType(self._recording.absent if self._recording else {})

    def stop(self) -> Mapping[str, Series]:
        """Ends sampling and returns the series by ``sampler.channel``; empty if all was lost.

        Asks, waits five seconds, then kills the child's whole process group. May be called twice.
        """
        if self._recording is None:
            self._recording = self._collect()
            TALLY.add(self._recording.counters)
        return MappingProxyType(self._recording.series)

    def _collect(self) -> Recording:
        if self._child is None:
            return Recording()
        status = self._end(self._child)
        try:
            return read_recording(self._out_path)
        except (OSError, ValueError) as error:
            why = self.loss or f"the sampler process ended with status {status}: {error}"
            self.loss = why
            _log_loss(why)
            return Recording()

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        if not _exits(child.pid, _STOP_WAIT_S):
            self.loss = self.loss or f"the sampler process did not stop within {_STOP_WAIT_S:g} s"
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.stdout.close()
        return child.wait()


def _exits(pid: int, seconds: float) -> bool:
    """Waits without reaping, so that the group's number stays ours until it has been killed."""
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def _becomes_ready(child: subprocess.Popen[bytes]) -> bool:
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], _READY_WAIT_S)
    return bool(ready) and os.read(child.stdout.fileno(), len(_READY)) == _READY


def _log_loss(why: str) -> None:
    # Imported here: the child shares this file and starts a quarter of a second sooner.
    from assay.core.log import get

    get(__name__).warning("sampler process lost", reason=why)


def main(argv: list[str] | None = None) -> int:
    """The child: samples until stdin closes, then writes the recording; returns the exit status."""
    options = _parser().parse_args(argv)
    # What anybody prints belongs on stderr: the pipe is for one word, and unread after it.
    ready = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # An agent that is interrupted closes stdin, which ends this process with its data written.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _pin(options.cpus)
    loop = SampleLoop.over(Path(options.sysroot), options.hz)
    loop.read_due(time.monotonic_ns())
    os.write(ready, _READY)
    os.close(ready)
    _loop_until_stdin_closes(loop)
    loop.close()
    loop.recording().write(Path(options.out))
    return 0


def _loop_until_stdin_closes(loop: SampleLoop) -> None:
    while True:
        wait_s = max(0.0, (loop.next_due_ns - time.monotonic_ns()) / 1e9)
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], wait_s)
        if readable and not os.read(sys.stdin.fileno(), 64):
            loop.read_last()
            return
        loop.read_due(time.monotonic_ns())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="assay.agent.measuring.sampler_process")
    parser.add_argument("--out", required=True)
    parser.add_argument("--hz", type=float, required=True)
    parser.add_argument("--cpus", type=_cpu_set, default=frozenset())
    parser.add_argument("--sysroot", default="/")
    return parser


def _cpu_set(text: str) -> frozenset[int]:
    return frozenset(int(cpu) for cpu in text.split(",") if cpu)


def _pin(cpus: frozenset[int]) -> None:
    if cpus:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cpus)


if __name__ == "__main__":
    sys.exit(main())
