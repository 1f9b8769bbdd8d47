"""ncnn answers wrongly without a word in many ways; each is refused here before it can."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assay.agent.runtimes import runtime
from assay.core.errors import BadMessage, RuntimeRejected
from assay.core.model import RuntimeSpec
from assay.core.ncnn_file import NcnnFile, NcnnTensor, layers, pack, unpack
from tests.conftest import need

SPEC = RuntimeSpec("ncnn")
PARAM = (
    "7767517\n3 3\nInput in0 0 1 in0\n"
    "InnerProduct fc 1 1 in0 1 0=2 1=1 2=8\nReLU relu 1 1 1 out0 0=0.0\n"
)
WEIGHTS = np.array([[1, 2, 3, 4], [-1, 0, 1, 0]], dtype=np.float32)
BIAS = np.array([0.5, -0.5], dtype=np.float32)
BIN = b"\0\0\0\0" + WEIGHTS.tobytes() + BIAS.tobytes()
FILE = NcnnFile(
    PARAM.encode(),
    BIN,
    (NcnnTensor("x", "in0", (1, 4), True),),
    (NcnnTensor("y", "out0", (1, 2), True),),
)


def load(file: NcnnFile = FILE, **spec: Any) -> Any:
    need(module="ncnn")
    return runtime("ncnn").load(pack(file), replace(SPEC, **spec))


def sample(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 4)).astype(np.float32)


def right(x: np.ndarray) -> np.ndarray:
    return np.maximum(x @ WEIGHTS.T + BIAS, 0)


def test_it_computes_what_the_weights_say() -> None:
    x = sample()
    np.testing.assert_allclose(load().run({"x": x})[0], right(x), rtol=1e-5)


def test_inputs_live_on_in_memory_of_ncnn() -> None:
    # Mat(array) keeps no reference: the arrays are overwritten and gone before the calls.
    arrays = [sample(seed) for seed in range(50)]
    wanted = [right(array) for array in arrays]
    bound = load().bind([{"x": array} for array in arrays])
    for array in arrays:
        array[:] = np.nan
    del arrays, array
    gc.collect()
    junk = [np.full((1, 4), 7, dtype=np.float32) for _ in range(200)]
    for i in (3, 49, 0, 3):
        bound.calls[i]()
        np.testing.assert_allclose(bound.outputs(i)[0], wanted[i], rtol=1e-5)
    assert junk


def test_a_layer_that_works_in_place_leaves_the_input_alone() -> None:
    # On a Mat made of an array ncnn ends the process here (no reference count to look at).
    relu = replace(
        FILE,
        param=b"7767517\n2 2\nInput in0 0 1 in0\nReLU relu 1 1 in0 out0 0=0.0\n",
        bin=b"",
        outputs=(NcnnTensor("y", "out0", (1, 4), True),),
    )
    x = np.array([[-1, 0, 1, 2]], dtype=np.float32)
    bound = load(relu).bind([{"x": x}])
    for _ in range(3):
        bound.calls[0]()
        assert bound.outputs(0)[0].tolist() == [[0, 0, 1, 2]]
    assert x.tolist() == [[-1, 0, 1, 2]]


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int64", "int32", "bool"])
def test_types_that_crash_or_abort_ncnn_are_refused(dtype: str) -> None:
    with pytest.raises(RuntimeRejected, match=f"takes float32; x is {dtype}"):
        load().run({"x": np.zeros((1, 4), dtype=dtype)})


def test_a_layout_that_is_not_contiguous_is_copied_into_order() -> None:
    wide = np.random.default_rng(1).normal(size=(1, 8)).astype(np.float32)
    strided = wide[:, ::2]
    assert not strided.flags.c_contiguous
    np.testing.assert_allclose(load().run({"x": strided})[0], right(strided), rtol=1e-5)


def test_a_wrong_shape_that_ncnn_would_compute_on_is_refused() -> None:
    # ncnn answers status 0 and reads beyond the weights.
    with pytest.raises(RuntimeRejected, match=r"checks none; this one is \(1, 5\)"):
        load().run({"x": np.zeros((1, 5), dtype=np.float32)})


def test_each_inference_has_an_extractor_of_its_own() -> None:
    # One extractor keeps the first outputs: the second input would change nothing.
    bound = load().bind([{"x": sample(1)}, {"x": sample(2)}])
    for i, seed in ((0, 1), (1, 2), (0, 1)):
        bound.calls[i]()
        np.testing.assert_allclose(bound.outputs(i)[0], right(sample(seed)), rtol=1e-5)


class _Options:
    """Records what is set before the load."""

    use_bf16_storage = True
    use_fp16_packed = use_fp16_storage = use_fp16_arithmetic = True


def test_options_are_set_before_the_load_and_float32_is_float32() -> None:
    from assay.agent.runtimes.ncnn import _set_options

    options = _Options()
    _set_options(options, RuntimeSpec("ncnn", threads=3, allow_spinning=False), half=False)
    assert vars(options) == {
        "num_threads": 3,
        "openmp_blocktime": 0,
        "use_vulkan_compute": False,
        "use_fp16_packed": False,
        "use_fp16_storage": False,
        "use_fp16_arithmetic": False,
        "use_bf16_storage": False,
    }


def test_half_arithmetic_is_asked_for_and_told() -> None:
    assert load().precision == "float32"
    half = load(options={"arithmetic": "fp16"})
    assert half.precision == "float16" and "fp16" in half.placement()[0]
    x = sample()
    np.testing.assert_allclose(half.run({"x": x})[0], right(x), rtol=2e-2, atol=2e-2)
    with pytest.raises(RuntimeRejected, match="fp32, fp16"):
        load(options={"arithmetic": "int4"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"bin": BIN[:-12]}, "bin does not load"),
        ({"bin": b""}, "bin does not load"),
        ({"param": PARAM.replace("ReLU", "NoSuch").encode()}, "param does not load"),
        ({"param": PARAM.replace("7767517", "7767518").encode()}, "first line"),
        ({"inputs": (NcnnTensor("x", "in7", (1, 4), True),)}, "its inputs are in0"),
        ({"outputs": (NcnnTensor("y", "out7", (1, 2), True),)}, "its outputs are out0"),
    ],
)
def test_statuses_are_looked_at(change: dict[str, Any], told: str) -> None:
    with pytest.raises(RuntimeRejected, match=told):
        load(replace(FILE, **change))


@pytest.mark.parametrize(
    ("put", "got", "told"),
    [(-1, 0, "did not take the input in0"), (0, -100, r"compute out0 \(status -100\)")],
)
def test_statuses_of_an_inference_are_looked_at(put: int, got: int, told: str) -> None:
    class Extractor:
        """Fails as ncnn's does: by a status, beside a Mat that is empty."""

        def input(self, _blob: str, _mat: object) -> int:
            return put

        def extract(self, _blob: str) -> tuple[int, object]:
            return got, np.zeros(2, dtype=np.float32)

    model = load()
    model._net = SimpleNamespace(create_extractor=Extractor)
    with pytest.raises(RuntimeRejected, match=told):
        model.run({"x": sample()})
    with pytest.raises(RuntimeRejected, match=told):
        model.bind([{"x": sample()}]).calls[0]()


def test_outputs_of_another_size_than_promised_are_refused() -> None:
    lying = replace(FILE, outputs=(NcnnTensor("y", "out0", (1, 3), True),))
    with pytest.raises(RuntimeRejected, match="not \\(3,\\)"):
        load(lying).run({"x": sample()})


def test_placement_names_every_layer() -> None:
    assert load().placement() == ("CPU fp32: 2 layers (InnerProduct x1, ReLU x1)",)


def test_a_file_is_the_same_bytes_twice_and_itself_again() -> None:
    assert pack(FILE) == pack(replace(FILE))
    assert unpack(pack(FILE)) == FILE
    assert layers(FILE.param) == ("InnerProduct", "ReLU")


def test_a_flipped_byte_is_noticed() -> None:
    content = bytearray(pack(FILE))
    content[content.index(WEIGHTS.tobytes()) + 3] ^= 1
    with pytest.raises(BadMessage, match="not an ncnn model"):
        unpack(bytes(content))


def test_another_zip_is_no_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=sample())
    with pytest.raises(BadMessage, match=r"model\.json"):
        unpack((tmp_path / "a.npz").read_bytes())


def test_a_batch_is_ncnns_to_ignore_not_to_see() -> None:
    assert FILE.inputs[0].inner_shape == (4,)
    with pytest.raises(BadMessage, match="shape"):
        unpack(pack(replace(FILE, inputs=(NcnnTensor("x", "in0", (2, 4), True),))))
