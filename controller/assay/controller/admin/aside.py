"""Sweeps planned and reports made beside the control loop: a process for each, started here."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assay.controller.admin.views import (
    Exported,
    ExportOrder,
    StartedSweep,
    SweepFile,
    SweepPlan,
)
from assay.controller.home import Home
from assay.core.convert import from_proto
from assay.core.errors import AssayError, SpecError
from assay.v1 import admin_pb2

LONGEST_S = 600.0


class Aside:
    """:class:`~assay.controller.admin.sweeping.Sweeping` in processes of their own, so that neither
    what is imported nor what is computed holds up the fleet, and a model that a sweep's sizes make
    run away takes nothing with it. For several threads; :meth:`close` ends what still runs.

    A process that takes longer than ``longest_s`` is ended: :class:`AssayError`.
    """

    def __init__(self, home: Home, longest_s: float = LONGEST_S) -> None:
        self._home = home
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def plan(self, file: SweepFile) -> SweepPlan:
        """See :class:`Sweeping`."""
        body = self._done({"do": "plan", "source": file.source, "text": file.text})
        return from_proto(admin_pb2.SweepPlan.FromString(body), SweepPlan)

    def start(self, file: SweepFile) -> StartedSweep:
        """See :class:`Sweeping`."""
        body = self._done({"do": "start", "source": file.source, "text": file.text})
        return from_proto(admin_pb2.RunSweepResponse.FromString(body), StartedSweep)

    def report(self, sweep: str, *, markdown: bool, force: bool = False) -> bytes:
        """See :class:`Sweeping`."""
        order = {"do": "report", "sweep": sweep, "markdown": markdown, "force": force}
        return self._done(order)

    def export(self, order: ExportOrder, path: Path) -> Exported:
        """See :class:`Sweeping`."""
        body = self._done({"do": "export", "path": str(path.absolute()), **asdict(order)})
        made = admin_pb2.ExportResultsResponse.FromString(body)
        return Exported(made.results, made.missing_traces)

    def close(self) -> None:
        """Ends every process and starts no more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _kill(process)

    def _done(self, order: dict[str, Any]) -> bytes:
        process = self._start()
        late = threading.Timer(self._longest_s, _kill, (process,))
        late.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            # Where it died before it read, it answers nothing.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
        finally:
            late.cancel()
            self._end(process)
        return self._answer(str(order["do"]), line)

    def _answer(self, what: str, line: bytes) -> bytes:
        if not line.endswith(b"\n"):
            why = "ended with the controller" if self._closed else "crashed or took too long"
            raise AssayError(
                f"the process that was to {what} {why}; the controller's log says more"
            )
        said = json.loads(line)
        if "error" in said:
            raise _error(said["error"], said["message"])
        return base64.b64decode(said["body"])

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise AssayError("the controller is stopping")
            process = subprocess.Popen(
                [sys.executable, "-m", "assay.controller.admin.child"],
                env={**os.environ, "ASSAY_HOME": str(self._home.root.absolute())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C in a terminal is for the controller, which then ends this.
                start_new_session=True,
            )
            # If memory runs out, it goes first and not the controller.
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
            self._running.add(process)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(process)
            _kill(process)
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _error(code: str, message: str) -> AssayError:
    """The error the process ended with, as the same class."""
    if code == SpecError.code:
        source = message.partition(": ")[0]
        return SpecError(source, [m.removeprefix(f"{source}: ") for m in message.splitlines()])
    pending: list[type[AssayError]] = [AssayError]
    while pending:
        cls = pending.pop()
        if cls.code == code:
            return cls(message)
        pending += cls.__subclasses__()
    return AssayError(message)
