"""The agent's own tests on every Python it claims, with its wheel installed and no checkout."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import tomllib

from tests.collection import load
from tests.conftest import REPOSITORY, need

pytestmark = pytest.mark.packaging
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
BUILD = REPOSITORY / "build/pythons"
EXTRAS = "agent,onnxruntime,litert,ncnn"
# onnx makes the tiny models, flatbuffers the .tflite ones.
FOR_TESTS = (
    "pytest>=9",
    "pytest-xdist>=3.6",
    "pytest-rerunfailures>=15",
    "hypothesis>=6.100",
    "onnx>=1.20",
    "flatbuffers",
)


@cache
def interpreter(version: str) -> Path | None:
    """Where that Python is, of pyenv or on PATH."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    on_path = shutil.which(f"python{version}")
    candidates = [*found, *([Path(on_path)] if on_path else [])]
    return next((one for one in candidates if _works(one)), None)


def _works(python: Path) -> bool:
    # A shim of pyenv is there for every version and works for the chosen ones only.
    return not subprocess.run([python, "-c", "import venv"], capture_output=True).returncode


@cache
def of_the_agent(path: Path) -> bool:
    """Whether a test needs nothing of the controller, itself and through what it imports."""
    tree = ast.parse(path.read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in _imported(node)
    }
    if any(name.split(".")[:2] == ["assay", "controller"] for name in imported):
        return False
    if "assay.controller" in path.read_text() or not imported.isdisjoint({"bench", "docs"}):
        return False
    inner = [REPOSITORY / f"{name.replace('.', '/')}.py" for name in imported if "tests." in name]
    return all(of_the_agent(each) for each in inner if each.exists() and each != path)


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]


def files_of_the_agent() -> list[str]:
    """Unit and contract tests that run where only the agent is installed."""
    files = [p for kind in ("unit", "contract") for p in (REPOSITORY / "tests" / kind).glob("*.py")]
    return sorted(
        str(path.relative_to(REPOSITORY))
        for path in files
        if of_the_agent(path) and "assay.agent" in path.read_text()
    )


def installed(version: str, wheel: Path) -> Path:
    """A Python of its own with this checkout's wheel; what it depends on is installed once."""
    python = interpreter(version)
    assert python is not None
    home = BUILD / version
    if not (home / "bin/python").exists():
        subprocess.run([python, "-m", "venv", "--clear", home], check=True)
    own = home / "bin/python"
    pip = [own, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, f"{wheel}[{EXTRAS}]", *FOR_TESTS], check=True)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", wheel], check=True)
    return own


def test_what_is_claimed_is_what_is_tested() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={PYTHONS[0]}"


def test_the_agents_tests_are_found() -> None:
    found = files_of_the_agent()
    assert "tests/contract/test_samplers.py" in found
    assert "tests/contract/test_runtimes.py" in found
    assert "tests/unit/test_device_detect.py" in found
    assert not any("store" in name for name in found)


@pytest.mark.parametrize("version", PYTHONS)
def test_the_agent_passes_its_tests(version: str, tmp_path: Path) -> None:
    if interpreter(version) is None:
        # Not `need`: no Debian has all of them, so that this is no failure in CI either.
        pytest.skip(f"no Python {version} here, neither of pyenv nor on PATH")
    need(program="cc")
    wheel = load("packaging/wheelhouse.py").build_assay(tmp_path)
    python = installed(version, wheel)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_C", "ASSAY"))}
    done = subprocess.run(
        [python, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-m", "not system and not soak",
         "-p", "no:cacheprovider", "-o", "pythonpath=.", *files_of_the_agent()],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    print(f"Python {version}: {done.stdout.strip().splitlines()[-1]}")
