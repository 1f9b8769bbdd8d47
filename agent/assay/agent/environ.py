"""The environment children get: what a runtime needs to be found, and nothing that is secret."""

from __future__ import annotations

import os
from collections.abc import Mapping

_PASSED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "TZ",
)


def child_environment(**extra: str) -> Mapping[str, str]:
    """The few variables passed on, single-threaded numpy, no bytecode written, no module taken
    from the current directory, and ``extra``."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {
        **passed,
        # numpy's own threads would run beside the measured one.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        **extra,
    }
