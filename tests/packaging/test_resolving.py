"""Every kind of board gets its wheels: pip resolves them, nothing is built and none is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.collection import load

pytestmark = pytest.mark.packaging
wheelhouse = load("packaging/wheelhouse.py")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
RUNTIMES = {"onnxruntime", "ai-edge-litert", "ncnn"}


@pytest.fixture(scope="module")
def assay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = wheelhouse.build_assay(tmp_path_factory.mktemp("wheel"))
    return found


def resolved(requirement: str, python: str, machine: str, *more: str) -> dict[str, str]:
    """What pip would install there: package → version."""
    target = wheelhouse.Target("agent", python, machine)
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
    }
    done = subprocess.run(
        [sys.executable, "-c", wheelhouse._PIP_FOR_TARGET, json.dumps(environment),
         "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-",
         "--target", "unused", "--only-binary=:all:", "--implementation", "cp",
         "--python-version", python, *(f"--platform={tag}" for tag in target.platforms), *more,
         requirement],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout)
    found = [one["metadata"] for one in report["install"]]
    return {one["name"].lower().replace("_", "-"): one["version"] for one in found}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS)
def test_a_board_gets_the_agent_with_every_runtime(assay: Path, python: str, machine: str) -> None:
    found = resolved(f"{assay}[agent,onnxruntime,litert,ncnn]", python, machine)
    assert set(found) >= RUNTIMES | {"grpcio", "numpy", "psutil", "prometheus-client"}
    assert "torch" not in found and "pydantic" not in found
    if python == "3.10":
        assert found["onnxruntime"].startswith("1.23.")


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13"])
def test_a_32_bit_board_gets_ncnn(python: str) -> None:
    assert "ncnn" in resolved("ncnn>=1.0.20250503", python, "armv7l", "--no-deps")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_bench_gets_the_controller(assay: Path, machine: str) -> None:
    found = resolved(f"{assay}[controller,models]", "3.11", machine)
    assert {"pydantic", "sqlalchemy", "onnx"} <= set(found) and "torch" not in found
