"""Which files a model may take along, and which names and sizes it may not get away with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.controller.inspection.external import external_files
from assay.core.errors import BadInputs
from tests.conftest import need
from tests.tinymodels import save_onnx


def model(path: Path, location: str = "w.bin", **more: str) -> Path:
    """y = x + w, with w in a file beside the model."""
    need(module="onnx")
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "length": "16", **more}.items():
        weight.external_data.add(key=key, value=value)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy"]
    return save_onnx(
        path, [helper.make_node("Add", ["x", "w"], ["y"])], ends[:1], ends[1:], [weight]
    )


def test_the_file_beside_the_model_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/w.bin").write_bytes(bytes(16))
    found = external_files(model(tmp_path / "m.onnx", "deep/w.bin"))
    assert found == {"deep/w.bin": tmp_path / "deep/w.bin"}


def test_a_model_that_is_whole_needs_none(tmp_path: Path) -> None:
    need(module="onnx")
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    assert external_files(save_onnx(tmp_path / "m.onnx", [node], ends[:1], ends[1:])) == {}


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("../w.bin", "leads out"),
        ("/etc/passwd", "not relative"),
        ("", "no name"),
        ("model.onnx", "the model's own"),
        ("absent.bin", "is not there"),
        ("link.bin", "a link to elsewhere"),
        ("folder", "no file"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, location: str, why: str) -> None:
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (home / "link.bin").symlink_to("/etc/passwd")
    with pytest.raises(BadInputs, match=why):
        external_files(model(home / "m.onnx", location))


@pytest.mark.parametrize("more", [{"offset": "8"}, {"length": "100000000000"}])
def test_a_model_that_reads_beyond_the_file_is_refused(
    tmp_path: Path, more: dict[str, str]
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    with pytest.raises(BadInputs, match="has 16 bytes; the model reads up to byte"):
        external_files(model(tmp_path / "m.onnx", **more))


def test_weights_inside_control_flow_are_found(tmp_path: Path) -> None:
    need(module="onnx")
    from onnx import TensorProto, helper, numpy_helper

    def branch(name: str) -> Any:
        value = numpy_helper.from_array(np.zeros(4, np.float32), name)
        value.ClearField("raw_data")
        value.data_location = TensorProto.EXTERNAL
        value.external_data.add(key="location", value=f"{name}.bin")
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [4])
        node = helper.make_node("Identity", [name], [f"{name}_out"])
        return helper.make_graph([node], name, [], [out], [value])

    for name in "ab":
        (tmp_path / f"{name}.bin").write_bytes(bytes(16))
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    assert set(external_files(save_onnx(tmp_path / "m.onnx", [node], [c], [y]))) == {
        "a.bin",
        "b.bin",
    }
