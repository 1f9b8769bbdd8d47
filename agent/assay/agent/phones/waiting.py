"""Waits for the benchmark binary that runs detached on a phone, and reads how it ended."""

from __future__ import annotations

import contextlib
import threading
import time

from assay.agent.phones.adb import NO_ROOM, Phone, Said
from assay.agent.phones.invoke import OUTPUT, PID, STATUS, UNFIX
from assay.core.errors import Cancelled, DiskFull, Unreachable, WorkerCrashed, WorkerTimeout

_POLL_S = 1.0


def require_started(phone: Phone, said: Said) -> None:
    """Raises :class:`DiskFull` or :class:`WorkerCrashed` where the binary could not be started."""
    if NO_ROOM.search(said.text):
        raise _no_room(phone)
    if said.status:
        raise WorkerCrashed(f"{phone.serial}: the run did not start: {said.text.strip()[-200:]}")


def wait(phone: Phone, folder: str, deadline_s: float, cancel: threading.Event) -> str:
    """Waits for the detached binary, across any break of the connection; returns its output.

    :class:`WorkerTimeout` after ``deadline_s`` of CLOCK_MONOTONIC, :class:`WorkerCrashed`,
    :class:`DiskFull` where there was no room for its output, :class:`Cancelled`.
    """
    while True:
        try:
            said = phone.run(["cat", f"{folder}/{STATUS}"])
            if said.status == 0:
                return _finished(phone, folder, said.text.strip())
        except Unreachable as error:
            if time.monotonic() > deadline_s:
                raise
            with contextlib.suppress(Unreachable):
                phone.server.reconnect(phone.serial)
            reason = str(error)
        else:
            reason = "it is still running"
        if time.monotonic() > deadline_s:
            _kill(phone, folder)
            raise WorkerTimeout(f"the binary did not end in time: {reason}")
        if cancel.wait(_POLL_S):
            _kill(phone, folder)
            raise Cancelled("the run was cancelled; its binary on the phone is killed")


def _finished(phone: Phone, folder: str, status: str) -> str:
    text = phone.run(["cat", f"{folder}/{OUTPUT}"], timeout_s=60.0).text
    # The shell made the file and could not write into it.
    if not status or NO_ROOM.search(text):
        raise _no_room(phone)
    if status != "0":
        lines = [line for line in text.splitlines() if line.strip()]
        raise WorkerCrashed(
            f"the binary ended with status {status}: {lines[-1][:200] if lines else 'silent'}"
        )
    return text


def _kill(phone: Phone, folder: str) -> None:
    with contextlib.suppress(Unreachable):
        phone.shell(f"kill -9 -$(cat {folder}/{PID}); {UNFIX}")


def _no_room(phone: Phone) -> DiskFull:
    return DiskFull(f"{phone.serial}: no room for what the binary prints: free some storage on it")
