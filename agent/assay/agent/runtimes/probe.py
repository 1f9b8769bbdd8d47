"""Which runtimes truly work on this board, found out without importing any into this process.

Each is probed in a process of its own (``python -m assay.agent.runtimes.probe NAME``): a library
built for another processor dies by SIGILL at import, and must neither take the agent with it nor
hide the others.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from assay.agent.environ import child_environment
from assay.agent.runtimes import names, runtime
from assay.core.errors import AssayError
from assay.core.jsonable import jsonable
from assay.core.model import Absent, RuntimeFacts

_TIMEOUT_S = 60.0


def probe_runtimes(timeout_s: float = _TIMEOUT_S) -> tuple[RuntimeFacts | tuple[str, Absent], ...]:
    """For each runtime Assay knows, its facts after a real inference, or its name and why it is
    absent. Takes about half a second each; raises nothing."""
    return tuple(
        found if isinstance(found, RuntimeFacts) else (name, found)
        for name in names()
        for found in [probe_runtime(name, timeout_s)]
    )


def probe_runtime(name: str, timeout_s: float = _TIMEOUT_S) -> RuntimeFacts | Absent:
    """Facts about one runtime, or why it is absent; raises nothing."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "assay.agent.runtimes.probe", name],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
            start_new_session=True,
            env=child_environment(),
        )
    except subprocess.TimeoutExpired:
        return Absent(f"{name} did not answer a tiny model within {timeout_s:g} s")
    except OSError as error:
        return Absent(f"the probe of {name} did not start: {error.strerror}")
    if done.returncode < 0:
        return Absent(f"{name} died by {_signal(-done.returncode)} when it was tried")
    return _answer(name, done.stdout, done.stderr)


def _answer(name: str, stdout: bytes, stderr: bytes) -> RuntimeFacts | Absent:
    # A library may print to stdout while it loads; the answer is the last line.
    lines = stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        told = json.loads(lines[-1])
        if "absent" in told:
            return Absent(str(told["absent"]))
        return RuntimeFacts(str(told["name"]), str(told["version"]), tuple(told["providers"]))
    except (IndexError, ValueError, KeyError, TypeError):
        said = stderr.decode("utf-8", "replace").strip().splitlines()
        return Absent(f"the probe of {name} failed: {said[-1] if said else 'it said nothing'}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def main(name: str) -> int:
    """The child: prints one JSON line."""
    try:
        found = runtime(name).probe()
    except AssayError as error:
        found = Absent(str(error))
    print("\n" + json.dumps(jsonable(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
