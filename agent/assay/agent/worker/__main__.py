"""Entry point of the worker process: reads its order, leaves its report.

The states go to the runner through what was stdout, as lines ``state NAME``; whatever a runtime
prints there goes to stderr instead.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assay.agent.measuring import sandbox
from assay.core import convert
from assay.core.errors import AssayError
from assay.core.model import Absent, WorkerOrder, WorkerReport

if TYPE_CHECKING:
    from assay.agent.native import NativeLoop
    from assay.agent.worker.conduct import Say

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
    """Runs the order in the file ``argv[1]``; 0 where a report was left."""
    _die_with_parent()
    states = os.dup(1)
    os.dup2(2, 1)
    order = convert.from_bytes(Path(argv[1]).read_bytes(), WorkerOrder)
    # The compiler runs and the cache is written while this process still may.
    native = _prepare_native(order)
    # Before anything of the model or its runtime is looked at.
    shut_in = " ".join(sandbox.enter(Path(order.run_dir))) or "none"

    def say(state: str) -> None:
        os.write(states, f"state {state}\n".encode())
        if state == "measuring":
            # Until the agent is quiet; nobody there (end of file) is quiet too.
            os.read(0, 1)

    report = _report(order, say, native)
    report = replace(report, notes={**report.notes, "sandbox": shut_in})
    partial = Path(order.run_dir) / "report.pb.part"
    partial.write_bytes(convert.to_bytes(report))
    partial.replace(partial.with_suffix(""))
    return 0


def _prepare_native(order: WorkerOrder) -> NativeLoop | Absent:
    from assay.agent.worker.native import prepare_native

    return prepare_native(order.native_dir, order.run.runtime.name)


def _report(order: WorkerOrder, say: Say, native: NativeLoop | Absent) -> WorkerReport:
    # Imported here: numpy is part of what the runtime needs, not of reading an order.
    from assay.agent.worker.conduct import conduct, failed

    try:
        return conduct(order, say, native)
    except OSError as error:
        traceback.print_exc()
        return failed("internal", f"the worker failed: {error}")


def _die_with_parent() -> None:
    """A worker must not outlive an agent that was killed."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv))
    except AssayError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(problem.meaning.exit_code)
