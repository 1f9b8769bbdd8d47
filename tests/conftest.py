"""What the tests share: one way to say that something outside Python is needed."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def need(
    *, module: str = "", program: str = "", path: Path | None = None, root: bool = False
) -> None:
    """Skips the calling test with the reason where something is missing; fails it instead under
    ``ASSAY_REQUIRE_ALL=1``, where everything installable has been installed."""
    missing = ""
    if module and importlib.util.find_spec(module) is None:
        missing = f"Python module {module} is not installed"
    elif program and shutil.which(program) is None:
        missing = f"program {program} is not on PATH"
    elif path is not None and not path.exists():
        missing = f"{path.name} is not there"
    elif root and os.geteuid() != 0:
        missing = "root is needed"
    if not missing:
        return
    if os.environ.get("ASSAY_REQUIRE_ALL") == "1" and path is None:
        pytest.fail(f"{missing}, and ASSAY_REQUIRE_ALL=1 allows no skip")
    pytest.skip(missing)
