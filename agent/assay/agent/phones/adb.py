"""Calls to adb, each with a deadline of its own.

After a network partition adb's client blocks for ever while its server still lists the phone, and
only ``disconnect`` and ``connect`` heal it. So every call is a process that is killed in time, and
the server is a private one on its own port: killing it disturbs nobody else's.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.agent.environ import child_environment
from assay.core.errors import NotFound, Unreachable

CALL_S = 10.0
_CHUNK_BYTES = 1 << 16
NO_ROOM = re.compile(r"No space left on device|ENOSPC", re.IGNORECASE)
_ADDRESS = re.compile(r"^[^\s:]+:\d+$")


@dataclass(frozen=True, slots=True)
class Said:
    """What a command on the phone printed (stdout and stderr together) and its exit status."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class AdbServer:
    """A private adb server on ``port``; starts with the first call, ends with :meth:`end`."""

    port: int
    program: str = "adb"
    stall_s: float = 20.0

    def call(self, *argv: str, timeout_s: float = CALL_S) -> str:
        """What ``adb argv`` printed; :class:`Unreachable` where it fails or takes longer,
        :class:`NotFound` where there is no adb here."""
        status, text = self.try_call(*argv, timeout_s=timeout_s)
        if status:
            raise Unreachable(f"adb {argv[0]}: {_last_line(text)}")
        return text

    def try_call(self, *argv: str, timeout_s: float = CALL_S) -> tuple[int, str]:
        """Like :meth:`call`, but a failure is a status."""
        return _answer(self.begin(argv), argv, timeout_s)

    def begin(
        self, argv: Sequence[str], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """``adb argv`` as a process that runs; whoever calls ends it."""
        program = shutil.which(self.program)
        if program is None:
            raise NotFound(f"{self.program} is not on PATH: apt install adb")
        return subprocess.Popen(
            [program, "-P", str(self.port), *argv],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=child_environment(HOME=os.environ.get("HOME", "/")),
            start_new_session=True,
        )

    def start(self) -> None:
        """Starts the server; it is a daemon of its own."""
        self.call("start-server", timeout_s=20.0)

    def end(self) -> None:
        """Ends the server."""
        self.try_call("kill-server")

    def devices(self) -> str:
        """``adb devices -l`` as it stands; see :mod:`.listing`."""
        return self.call("devices", "-l")

    def reconnect(self, serial: str) -> None:
        """Heals a phone on the network after a partition; does nothing for one on USB."""
        if _ADDRESS.match(serial):
            self.try_call("disconnect", serial)
            told = self.call("connect", serial)
            if "connected to" not in told:
                raise Unreachable(f"adb connect: {_last_line(told)}")


@dataclass(frozen=True, slots=True)
class Phone:
    """One phone by the serial its server lists it under."""

    server: AdbServer
    serial: str

    def shell(self, script: str, timeout_s: float = CALL_S) -> Said:
        """Runs a script of the phone's ``sh``. Its status is printed behind a mark, because old
        phones' shells answer 0 always; :class:`Unreachable` where the mark does not come."""
        mark, wrapped = _marked(script)
        _, text = self.server.try_call("-s", self.serial, "shell", wrapped, timeout_s=timeout_s)
        return self._said(mark, text)

    def run(self, argv: Sequence[str], timeout_s: float = CALL_S) -> Said:
        """One command, its words quoted."""
        return self.shell(shlex.join(argv), timeout_s)

    def feed(
        self,
        script: str,
        source: Path,
        offset: int,
        on_sent: Callable[[int], None],
        finish_s: float,
    ) -> Said:
        """Like :meth:`shell`, with the bytes of ``source`` from ``offset`` on as standard input.

        ``on_sent`` is told how many bytes were handed over; :class:`Unreachable` where none are
        taken for the server's ``stall_s``, or the script has not ended ``finish_s`` after the last.
        Needs adb's protocol of Android 7 and later: before it, standard input is a terminal.
        """
        mark, wrapped = _marked(script)
        argv = ("-s", self.serial, "shell", "-T", wrapped)
        child = self.server.begin(argv, subprocess.PIPE)
        try:
            assert child.stdin is not None
            taken = _pour(source, offset, child.stdin.fileno(), self.server.stall_s, on_sent)
            # What is written last lies in the pipe, which is closed unbuffered.
            child.stdin.close()
            child.stdin = None
        except BaseException:
            _kill(child)
            raise
        if not taken:
            _kill(child)
            raise Unreachable(f"{self.serial}: took nothing for {self.server.stall_s:g} s")
        _, text = _answer(child, argv[:3], finish_s)
        return self._said(mark, text)

    def pull(self, remote: str, local: Path, timeout_s: float = 60.0) -> None:
        """Copies a file from the phone; :class:`Unreachable` where that fails."""
        self.server.call("-s", self.serial, "pull", remote, str(local), timeout_s=timeout_s)

    def _said(self, mark: str, text: str) -> Said:
        body, found, status = text.replace("\r\n", "\n").rpartition(f"\n{mark}:")
        if not found or not status.strip().isdigit():
            raise Unreachable(f"{self.serial}: the shell did not finish: {_last_line(text)}")
        return Said(int(status), body)


def _marked(script: str) -> tuple[str, str]:
    mark = f"assay-{secrets.token_hex(8)}"
    return mark, f"({script}\n) 2>&1; s=$?; echo; echo {mark}:$s"


def _pour(
    source: Path, offset: int, pipe: int, stall_s: float, on_sent: Callable[[int], None]
) -> bool:
    """Writes until the end or until nobody reads any more; False where it stalls."""
    os.set_blocking(pipe, False)
    with source.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_CHUNK_BYTES):
            left = memoryview(chunk)
            while left:
                if not select.select([], [pipe], [], stall_s)[1]:
                    return False
                try:
                    written = os.write(pipe, left)
                except BrokenPipeError:
                    return True
                left = left[written:]
                on_sent(written)
    return True


def _answer(
    child: subprocess.Popen[bytes], argv: Sequence[str], timeout_s: float
) -> tuple[int, str]:
    """Status and output of a client; :class:`Unreachable` where it does not end in time."""
    try:
        out, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(child)
        shown = " ".join(argv[:4])
        raise Unreachable(f"adb {shown}: no answer within {timeout_s:g} s") from None
    return child.returncode, out.decode("utf-8", "replace")


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Ends the client alone: a server that it started has left its process group."""
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no answer"
