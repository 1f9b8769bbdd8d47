"""One import root over three folders, light at the edges, and whole in a wheel."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, need

ROOTS = ("agent", "controller", "protos")
HEAVY = {"torch", "onnxruntime", "ai_edge_litert", "pydantic", "sqlalchemy", "jinja2", "grpc"}


def modules_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running ``code``."""
    probe = f"{code}\nimport sys\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    out = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True, timeout=60
    )
    return set(out.stdout.split())


@pytest.mark.parametrize("root", ROOTS)
def test_no_stray_init_hides_the_other_roots(root: str) -> None:
    assert not (REPOSITORY / root / "assay/__init__.py").exists()
    assert not (REPOSITORY / root / "__init__.py").exists()


@pytest.mark.parametrize("root", ["agent/assay", "protos/assay"])
def test_what_runs_on_devices_parses_on_python_3_10(root: str) -> None:
    for path in (REPOSITORY / root).rglob("*.py"):
        ast.parse(path.read_text(), filename=str(path), feature_version=(3, 10))


def test_the_command_lines_start_without_anything_heavy() -> None:
    for module in ("assay.controller.cli", "assay.agent.cli"):
        assert not modules_after(f"import {module}") & HEAVY, module


def test_the_worker_imports_no_grpc() -> None:
    assert "grpc" not in modules_after("import assay.agent.worker")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(module="hatchling")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    (built,) = out.glob("*.whl")
    return built


def tracked(pattern: str) -> set[str]:
    """Files below the three roots that belong to the packages, as the wheel should name them."""
    return {
        str(path.relative_to(REPOSITORY / root))
        for root in ROOTS
        for path in (REPOSITORY / root / "assay").rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_wheel_holds_every_module_and_every_data_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert tracked("*") <= held


def test_a_wheel_imports_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import assay.core.model, assay.agent, assay.controller, assay.v1, pathlib;"
        "print(pathlib.Path(assay.core.__file__).is_relative_to(pathlib.Path('site').resolve()))"
    )
    # -S leaves site-packages out, and with it the editable install; the dependencies come back
    # behind the unpacked wheel.
    dependencies = os.pathsep.join(p for p in sys.path if p.endswith("site-packages"))
    out = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), dependencies])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert out.stdout.strip() == "True", out.stderr
