"""What the tests share: a home and its store, and how one says what it needs and has measured."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # The agent's tests run where the controller cannot be imported.
    from assay.controller.home import Home
    from assay.controller.store.base import Store

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


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A controller's home that is not made yet."""
    from assay.controller.home import Home

    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    """The store of ``home``."""
    from assay.controller.store import open_store

    opened = open_store(home)
    yield opened
    opened.close()


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Takes a test's figures by name; they stand in a table at the end of the run."""

    def note(**values: object) -> None:
        for name, value in values.items():
            record_property(name, value)

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each long test, with its figures where it told some."""
    took_s: dict[str, float] = {}
    told: dict[str, list[str]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            took_s[report.nodeid] = took_s.get(report.nodeid, 0.0) + report.duration
            if "soak" in report.keywords:
                pairs = [f"{name} {value}" for name, value in report.user_properties]
                if outcome != "passed":
                    pairs.insert(0, "FAILED")
                told.setdefault(report.nodeid, []).extend(
                    pair for pair in pairs if pair not in told.get(report.nodeid, ())
                )
    if not told:
        return
    terminalreporter.section("figures")
    names = {nodeid: nodeid.rpartition("/")[2] for nodeid in told}
    width = max(map(len, names.values()))
    for nodeid, pairs in told.items():
        terminalreporter.line(
            f"{names[nodeid]:{width}}  {took_s[nodeid]:7.1f} s  {', '.join(pairs)}"
        )
