"""What the LiteRT converter makes of torch modules: several inputs, and several signatures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from assay.agent.runtimes.litert import LiteRt
from assay.controller.cli import assay
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.controller.variants.add import add_variant
from assay.controller.variants.own_inputs import Declared
from assay.core.cas import ContentStore
from assay.core.model import RuntimeSpec
from assay.core.npz import read_npz
from assay.core.synthetic import Rule
from tests.conftest import need

pytestmark = [pytest.mark.system, pytest.mark.slow]

CONVERT = """
import sys, torch, litert_torch

class Score(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rows = torch.nn.Embedding(50, 8)
        self.out = torch.nn.Linear(8, 4)

    def forward(self, image, ids):
        return self.out(self.rows(ids).mean(1) + image.mean((2, 3))), ids.sum(1)

class Double(torch.nn.Module):
    def forward(self, x):
        return x + x

torch.manual_seed(0)
score = (torch.zeros(1, 8, 6, 6), torch.zeros(1, 5, dtype=torch.int64))
made = litert_torch.signature("score", Score().eval(), score)
made.signature("double", Double().eval(), (torch.zeros(1, 3),)).convert().export(sys.argv[1])
"""


def test_a_converted_model_of_two_signatures_is_told_and_either_is_measured(tmp_path: Path) -> None:
    for module in ("litert_torch", "ai_edge_litert"):
        need(module=module)
    path = tmp_path / "score.tflite"
    # A process of its own: the converter is slow to import and keeps a gigabyte.
    command = [sys.executable, "-c", CONVERT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(CliRunner().invoke(assay, ["inspect", str(path), "--format", "json"]).stdout)
    assert [one.partition(" (")[0] for one in told["signatures"]] == [
        "score: args_0, args_1 → output_0, output_1",
        "double: args_0 → output_0",
    ]
    home = Home(tmp_path / "home")
    store, blobs = open_store(home), ContentStore(home.create().artifacts)
    image, ids = (one.partition(" ")[0] for one in told["inputs"])
    rules = {image: Rule(low=0, high=1), ids: Rule(low=0, high=49)}
    record = add_variant([path], "score", "score", Declared(rules=rules), store, blobs)
    second = add_variant([path], "double", "score", Declared(), store, blobs, signature="double")
    store.close()
    (file,) = record.files.values()
    assert file.inputs is not None and file.golden is not None
    kept = read_npz(blobs.path(file.golden.artifact.digest))
    model = LiteRt.load(path, RuntimeSpec("litert"))
    assert [spec.name for spec in model.inputs] == [image, ids]
    logits, total = model.run({image: kept[image][0][None], ids: kept[ids][0][None]})
    np.testing.assert_allclose(logits, kept["output_0"][0], rtol=1e-5)
    assert total.tolist() == kept["output_1"][0].tolist() == [int(kept[ids][0].sum())]
    (file,) = second.files.values()
    assert file.inputs is not None and file.golden is not None
    kept = read_npz(blobs.path(file.golden.artifact.digest))
    doubled = LiteRt.load(blobs.path(file.artifact.digest), RuntimeSpec("litert"))
    (x,) = (kept[spec.name][0][None] for spec in doubled.inputs)
    (y,) = doubled.run({doubled.inputs[0].name: x})
    np.testing.assert_array_equal(y, x + x)
    np.testing.assert_array_equal(kept["output_0"][0], y)
