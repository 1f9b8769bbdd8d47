"""A signature of a .tflite file becomes what an interpreter runs."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from assay.agent.runtimes.litert import LiteRt
from assay.controller.home import Home
from assay.controller.inspection import tflite_signature
from assay.controller.store import open_store
from assay.controller.variants.add import add_variant
from assay.controller.variants.own_inputs import Declared
from assay.core.cas import ContentStore
from assay.core.errors import BadInputs, UsageError
from assay.core.model import MEDIA_TFLITE, RuntimeSpec
from tests import anytflite
from tests.conftest import need


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Signature ``serve`` gives total and size of two inputs, ``branch`` one of them by an IF whose
    branches are subgraphs: total where the condition holds, else size."""
    need(module="ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    path = anytflite.mixing(tmp_path / "two.tflite")
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()))
    (serve,) = model.subgraphs
    then, other, branch = (copy.deepcopy(serve) for _ in range(3))
    then.outputs, other.outputs = [2], [3]
    condition = copy.deepcopy(serve.tensors[0])
    condition.name, condition.type = b"condition", schema.TensorType.BOOL
    condition.shape, condition.shapeSignature = [], None
    branch.tensors = [*branch.tensors[:3], condition]
    branch.inputs, branch.outputs = [3, 0, 1], [2]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.IF
    model.operatorCodes = [*model.operatorCodes, code]
    chosen = schema.OperatorT()
    chosen.opcodeIndex, chosen.inputs, chosen.outputs = 2, [3, 0, 1], [2]
    chosen.builtinOptionsType = schema.BuiltinOptions.IfOptions
    chosen.builtinOptions = schema.IfOptionsT()
    chosen.builtinOptions.thenSubgraphIndex, chosen.builtinOptions.elseSubgraphIndex = 0, 2
    branch.operators = [chosen]
    # The then-branch lies where the chosen signature goes.
    model.subgraphs = [then, serve, other, branch]
    named = [(b"serve", 1, serve), (b"branch", 3, branch)]
    model.signatureDefs = [anytflite.signature(schema, *one) for one in named]
    return anytflite.saved(model, path)


def run(path: Path, **inputs: object) -> list[list[float]]:
    model = LiteRt.load(path, RuntimeSpec("litert"))
    outputs = model.run({name: np.array(value) for name, value in inputs.items()})
    return [np.asarray(output).ravel()[:2].tolist() for output in outputs]


def test_the_chosen_signature_runs_and_branches_are_found_again(two: Path, tmp_path: Path) -> None:
    serve, branch = tmp_path / "serve.tflite", tmp_path / "branch.tflite"
    tflite_signature.choose(two, serve, "serve")
    tflite_signature.choose(two, branch, "branch")
    shape = LiteRt.load(serve, RuntimeSpec("litert")).inputs[0].shape
    state, step = np.full(shape, -3, np.float32), np.full(shape, 1, np.float32)
    assert run(serve, state=state, step=step) == [[-2, -2], [2, 2]]
    assert run(branch, condition=True, state=state, step=step) == [[-2, -2]]
    assert run(branch, condition=False, state=state, step=step) == [[2, 2]]


def test_a_variant_is_of_the_signature_that_was_named(two: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    store, blobs = open_store(home), ContentStore(home.artifacts)
    record = add_variant([two], "b", "m", Declared(), store, blobs, signature="branch")
    first = add_variant([two], "f", "m", Declared(), store, blobs)
    store.close()
    assert record.notes["signature"] == "branch"
    assert "signature" not in first.notes and first.variant_id != record.variant_id
    stored = blobs.path(record.files[MEDIA_TFLITE].artifact.digest)
    assert [spec.name for spec in LiteRt.load(stored, RuntimeSpec("litert")).inputs] == [
        "condition",
        "state",
        "step",
    ]


def test_a_signature_that_is_not_there_is_told_with_those_that_are(
    two: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInputs, match="no signature 'train': it has branch, serve"):
        tflite_signature.choose(two, tmp_path / "out", "train")
    store = open_store(Home(tmp_path / "home").create())
    onnx = tmp_path / "m.onnx"
    onnx.touch()
    with pytest.raises(UsageError, match=r"only \.tflite files have signatures"):
        blobs = ContentStore(tmp_path / "artifacts")
        add_variant([onnx], "x", "x", Declared(), store, blobs, signature="serve")
    store.close()


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 64])
def test_what_is_no_tflite_file_is_refused(content: bytes, tmp_path: Path) -> None:
    need(module="ai_edge_litert")
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(BadInputs):
        tflite_signature.choose(path, tmp_path / "out", "serve")
