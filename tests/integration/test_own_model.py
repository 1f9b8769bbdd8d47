"""A torch module of one's own, from the page that tells how to the variant it becomes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from assay.controller.cli import assay
from assay.controller.variants import trials
from assay.core.errors import BuildFailed, UsageError
from tests.conftest import REPOSITORY, need

EXAMPLE = REPOSITORY / "docs/examples/own-model"


@pytest.fixture(autouse=True)
def tools_are_there() -> None:
    for module in ("torch", "onnxslim", "onnxscript", "onnxruntime", "torch_pruning"):
        need(module=module)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example with its dataset, as the current folder."""
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    folder = tmp_path / "my-model"
    shutil.copytree(EXAMPLE, folder)
    monkeypatch.chdir(folder)
    assert run("dataset", "add", "shapes:Shapes", "--name", "shapes")
    return folder


def run(*arguments: str) -> str:
    """What the command prints; an :class:`AssayError` comes up as it is."""
    done = CliRunner().invoke(assay, list(arguments), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def build(model: str, *options: str) -> str:
    return run("variant", "build", "--model", model, "--data", "shapes", *options, "fp32.toml")


def printed_commands() -> str:
    """The first block of commands of the page."""
    page = (REPOSITORY / "docs/own-model.md").read_text()
    found = re.search(r"```sh\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.mark.system
def test_the_commands_of_the_page_build_the_example(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(REPOSITORY / "docs")
    environment = {
        **os.environ,
        "ASSAY_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    script = f"set -ex\n{printed_commands()}\nassay variant list --format json"
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout[done.stdout.rindex("\n[") :])
    variants: dict[str, Any] = {row["name"]: row for row in rows}
    assert list(variants) == ["shapes-fp32", "shapes-int8", "shapes-pruned"]
    for row in rows:
        assert row["notes"]["weights"] == "weights.pt" and row["model"] == "net:build"
        assert float(row["notes"]["onnx.controller_top1"].split()[0]) > 0.8
    fp32, int8, pruned = variants.values()
    assert int8["bytes"] < 0.6 * fp32["bytes"] and int8["macs"] == fp32["macs"]
    assert pruned["macs"] <= 0.5 * fp32["macs"]


def test_a_factory_that_calls_exit_is_told_with_its_place(project: Path) -> None:
    (project / "broken.py").write_text("def build():\n    raise SystemExit(3)\n")
    with pytest.raises(BuildFailed, match=r"broken:build\(\) called exit\(3\) .*line 2") as caught:
        build("broken:build")
    assert caught.value.meaning.exit_code == 1
    assert run("variant", "list", "--format", "json").strip() == "[]"


def test_a_factory_that_never_returns_is_ended(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "TIME_BOX_S", 6)
    (project / "broken.py").write_text("import time\ndef build(): time.sleep(600)\n")
    with pytest.raises(BuildFailed, match="was ended after 6 s without a word"):
        build("broken:build")
    commands = (child.cmdline() for child in psutil.Process().children(recursive=True))
    assert not [words for words in commands if "assay.controller.variants.child" in words]


def test_what_is_no_reference_is_a_mistake_of_usage(project: Path) -> None:
    with pytest.raises(UsageError, match=r"'net': code is named package.module:name"):
        build("net")


def test_weights_without_a_model_are_a_mistake_of_usage() -> None:
    with pytest.raises(UsageError, match="--weights goes with --model"):
        run("variant", "build", "--weights", "w.pt", str(EXAMPLE / "fp32.toml"))
