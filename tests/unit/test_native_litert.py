"""The native loop over LiteRT's compiled models: the Interpreter's outputs, errors not crashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.agent.native import LitertSettings, NativeLoop, NativeSession, prepare
from assay.core.errors import BadInputs, RuntimeRejected, UsageError
from tests.conftest import SHARED_DATA, need
from tests.native_models import damaged, write_dense_tflite

PRETRAINED = SHARED_DATA / "mlperf-tiny"


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> NativeLoop:
    need(program="cc")
    need(module="ai_edge_litert")
    need(module="flatbuffers")
    made = prepare(tmp_path_factory.mktemp("native"))
    assert isinstance(made, NativeLoop), made
    return made


def _open(loop: NativeLoop, path: Path, threads: int = 1) -> NativeSession:
    session = loop.litert(path, LitertSettings(threads=threads))
    assert isinstance(session, NativeSession), session
    return session


def _interpreted(path: Path, value: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, value.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def _times(size: int) -> Any:
    return np.full(size, -1, dtype=np.int64)


def test_outputs_equal_the_interpreters_bit_for_bit(loop: NativeLoop, tmp_path: Path) -> None:
    path = write_dense_tflite(tmp_path / "dense.tflite", 24)
    rng = np.random.default_rng(1)
    samples = [{"x": rng.standard_normal((1, 24)).astype(np.float32)} for _ in range(3)]
    for threads in (1, 2):
        with _open(loop, path, threads) as session:
            session.bind(samples)
            assert session.run_block(10, None, _times(10)) == 10
            for index, sample in enumerate(samples):
                expected = _interpreted(path, sample["x"])
                assert session.outputs(index)["y"].tobytes() == expected.tobytes()
                session.seek(index)
                session.run_block(1, None, _times(1))
                assert session.peek(index)["y"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["pretrainedResnet.tflite", "pretrainedResnet_quant.tflite"])
def test_pretrained_networks_agree_too(loop: NativeLoop, name: str) -> None:
    need(path=PRETRAINED / name)
    rng = np.random.default_rng(1)
    with _open(loop, PRETRAINED / name) as session:
        (spec,) = session.input_specs
        value = rng.integers(-100, 100, spec.dims).astype(spec.dtype)
        session.bind([{spec.name: value}])
        (made,) = session.outputs(0).values()
        assert made.tobytes() == _interpreted(PRETRAINED / name, value).tobytes()


def test_an_open_batch_takes_the_samples_shape(loop: NativeLoop, tmp_path: Path) -> None:
    path = write_dense_tflite(tmp_path / "open.tflite", 8, open_batch=True)
    rng = np.random.default_rng(1)
    with _open(loop, path) as session:
        for batch in (1, 5, 1, 3):
            value = rng.standard_normal((batch, 8)).astype(np.float32)
            session.bind([{"x": value}, {"x": value + 1}])
            assert session.outputs(0)["y"].tobytes() == _interpreted(path, value).tobytes()
            assert session.outputs(1)["y"].tobytes() == _interpreted(path, value + 1).tobytes()
            assert not session.ran_to_bind
        with pytest.raises(BadInputs, match="samples of one shape"):
            session.bind([{"x": np.zeros((n, 8), np.float32)} for n in (1, 2)])


def test_a_fixed_shape_stays_fixed(loop: NativeLoop, tmp_path: Path) -> None:
    path = write_dense_tflite(tmp_path / "dense.tflite", 8)
    with _open(loop, path) as session:
        with pytest.raises(RuntimeRejected, match="ResizeInputTensor"):
            session.bind([{"x": np.zeros((2, 8), np.float32)}])
        with pytest.raises(BadInputs, match="shape"):
            session.bind([{"x": np.zeros(8, np.float32)}])
        session.bind([{"x": np.zeros((1, 8), np.float32)}])
        assert session.outputs(0)["y"].shape == (1, 8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a model", "not a valid flatbuffer"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_no_model_is_refused(
    loop: NativeLoop, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "bad.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RuntimeRejected, match=rf"litert refused bad\.tflite: .*{reason}"):
        loop.litert(path)


def test_damaged_models_are_refused_or_run(loop: NativeLoop, tmp_path: Path) -> None:
    """A crash here ends the test run: LiteRtCreateModelFromFile crashes on most of these."""
    whole = write_dense_tflite(tmp_path / "dense.tflite", 8).read_bytes()
    path = tmp_path / "damaged.tflite"
    refused = 0
    for content in damaged(whole, count=30):
        path.write_bytes(content)
        try:
            with _open(loop, path) as session:
                session.bind([{s.name: np.zeros(s.dims, s.dtype) for s in session.input_specs}])
                session.run_block(1, None, _times(1))
        except (RuntimeRejected, ValueError):
            refused += 1
    assert refused > 5


def test_a_truncated_model_is_refused(loop: NativeLoop, tmp_path: Path) -> None:
    whole = write_dense_tflite(tmp_path / "dense.tflite", 24).read_bytes()
    path = tmp_path / "short.tflite"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeRejected, match=r"short\.tflite"):
        loop.litert(path)


def test_origin_and_life_of_a_session(loop: NativeLoop, tmp_path: Path) -> None:
    session = _open(loop, write_dense_tflite(tmp_path / "dense.tflite", 8))
    assert session.origin.runtime == "litert"
    assert session.origin.library.name == "libLiteRt.so"
    with pytest.raises(UsageError, match="bind samples"):
        session.run_block(1, None, _times(1))
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.bind([{"x": np.zeros((1, 8), np.float32)}])
