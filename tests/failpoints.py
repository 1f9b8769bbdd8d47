"""A program of Assay that kills itself at one place: ``python failpoints.py PROGRAM ...``.

The environment's ``FAILPOINT`` names the place as ``MODULE:CLASS.METHOD:WHEN[:ARGUMENT]``. WHEN is
``before`` or ``after`` the call; with ARGUMENT only calls that are given an enum member of that
name count. It ends by SIGKILL. Nothing of this is in the programs themselves.
"""

from __future__ import annotations

import enum
import functools
import importlib
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

LAUNCHER = str(Path(__file__))


def arm(place: str) -> None:
    """Sets the trap."""
    module, path, when, *named = place.split(":")
    owner_name, method = path.split(".")
    owner = getattr(importlib.import_module(module), owner_name)
    call = getattr(owner, method)

    @functools.wraps(call)
    def trapped(*arguments: Any, **options: Any) -> Any:
        given = {a.name for a in (*arguments, *options.values()) if isinstance(a, enum.Enum)}
        due = set(named) <= given
        if due and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = call(*arguments, **options)
        if due and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, method, trapped)


if __name__ == "__main__":
    _, program, *_arguments = sys.argv
    sys.argv = [program, *_arguments]
    if place := os.environ.get("FAILPOINT"):
        arm(place)
    runpy.run_module(program, run_name="__main__", alter_sys=False)
