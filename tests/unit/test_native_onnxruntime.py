"""The native loop over onnxruntime: right outputs, right order, errors instead of crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assay.agent.native import (
    GraphLevel,
    NativeLoop,
    NativeSession,
    OrtSettings,
    aligned_empty,
    prepare,
)
from assay.core.errors import BadInputs, RuntimeRejected, UsageError
from assay.core.model import Absent, RuntimeSpec
from tests.conftest import need
from tests.native_models import CASES, Case, damaged, save, tensor, write


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> NativeLoop:
    need(program="cc")
    need(module="onnxruntime")
    made = prepare(tmp_path_factory.mktemp("native"))
    assert isinstance(made, NativeLoop), made
    return made


@pytest.fixture
def opened(loop: NativeLoop, tmp_path: Path) -> Iterator[tuple[NativeSession, Case]]:
    """A session of the float32 model with its four samples bound."""
    case = write("float32", tmp_path)
    with _open(loop, case.path) as session:
        session.bind(case.samples)
        yield session, case


def _open(loop: NativeLoop, path: Path, **settings: Any) -> NativeSession:
    session = loop.onnxruntime(path, OrtSettings(**settings))
    assert isinstance(session, NativeSession), session
    return session


def _python_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _times(size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full(size, -1, dtype=np.int64)


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_pythons_bit_for_bit(loop: NativeLoop, tmp_path: Path, name: str) -> None:
    case = write(name, tmp_path)
    python = _python_session(case.path)
    with _open(loop, case.path) as session:
        session.bind(case.samples)
        for index, sample in enumerate(case.samples):
            made = session.outputs(index)
            names = [output.name for output in python.get_outputs()]
            for output, expected in zip(names, python.run(None, sample), strict=True):
                assert made[output].dtype == expected.dtype
                assert made[output].shape == expected.shape
                assert made[output].tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["float32", "data_dependent", "several_ends"])
def test_timed_calls_leave_the_same_outputs_as_untimed_ones(
    loop: NativeLoop, tmp_path: Path, name: str
) -> None:
    case = write(name, tmp_path)
    with _open(loop, case.path) as session:
        session.bind(case.samples)
        for index in range(len(case.samples)):
            session.seek(index)
            assert session.run_block(1, None, _times(1)) == 1
            left = session.peek(index)
            for output, value in session.outputs(index).items():
                assert left[output].tobytes() == value.tobytes()


def test_bfloat16_travels_as_raw_bits(loop: NativeLoop, tmp_path: Path) -> None:
    ends = [tensor(name, TensorProto.BFLOAT16, 4) for name in ("x", "y")]
    path = save(
        tmp_path / "bf16.onnx", [helper.make_node("Identity", ["x"], ["y"])], ends[:1], ends[1:]
    )
    bits = np.array([0x3F80, 0x4000, 0xC040, 0x7FC0], dtype=np.uint16)
    with _open(loop, path) as session:
        assert session.input_specs[0].element == "bfloat16"
        session.bind([{"x": bits}])
        assert session.outputs(0)["y"].tolist() == bits.tolist()


def test_specs_name_types_and_open_dimensions(loop: NativeLoop, tmp_path: Path) -> None:
    with _open(loop, write("batch", tmp_path).path) as session:
        (given,), (made,) = session.input_specs, session.output_specs
        assert (given.name, given.element, given.shape) == ("x", "float32", (None, 4))
        assert (made.name, made.dtype, made.shape) == ("y", np.dtype("float32"), (None, 2))
        assert given.dims[0] == made.dims[0] < -1, "one name, one number"


def test_named_dimensions_need_no_run_to_bind(loop: NativeLoop, tmp_path: Path) -> None:
    with _open(loop, write("batch", tmp_path).path) as session:
        session.bind(write("batch", tmp_path).samples)
        assert not session.ran_to_bind
    with _open(loop, write("data_dependent", tmp_path).path) as session:
        session.bind(write("data_dependent", tmp_path).samples)
        assert session.ran_to_bind


def test_origin_names_the_installed_library(loop: NativeLoop, tmp_path: Path) -> None:
    import onnxruntime

    with _open(loop, write("float32", tmp_path).path) as session:
        assert session.origin.runtime == "onnxruntime"
        assert session.origin.version == onnxruntime.__version__
        assert session.origin.library.parent == Path(onnxruntime.__file__).parent / "capi"


def test_settings_follow_the_runs_specification() -> None:
    assert OrtSettings.of(RuntimeSpec("onnxruntime")) == OrtSettings()
    asked = RuntimeSpec(
        "onnxruntime",
        threads=4,
        allow_spinning=False,
        options={"graph_optimization_level": "basic", "cpu_mem_arena": "0", "mem_pattern": "0"},
    )
    assert OrtSettings.of(asked) == OrtSettings(4, 1, False, GraphLevel.BASIC, False, False)
    for options in ({"mem_pattern": "yes"}, {"speed": "1"}):
        with pytest.raises(RuntimeRejected, match="is not known"):
            OrtSettings.of(RuntimeSpec("onnxruntime", options=options))


def test_threads_are_as_many_as_asked_for(loop: NativeLoop, tmp_path: Path) -> None:
    path = write("float32", tmp_path).path
    before = len(os.listdir("/proc/self/task"))
    for threads in (1, 3):
        with _open(loop, path, threads=threads):
            assert len(os.listdir("/proc/self/task")) - before == threads - 1


@pytest.mark.parametrize(
    "settings",
    [
        *({"graph_level": level} for level in GraphLevel),
        {"memory_arena": False},
        {"memory_pattern": False},
        {"spinning": False, "threads": 2},
    ],
)
def test_outputs_hold_under_every_setting(
    loop: NativeLoop, tmp_path: Path, settings: dict[str, Any]
) -> None:
    case = write("int8", tmp_path)
    (expected,) = _python_session(case.path).run(None, case.samples[0])
    with _open(loop, case.path, **settings) as session:
        session.bind(case.samples)
        assert session.outputs(0)["y"].tobytes() == expected.tobytes()


SMALLEST = """
import json, sys
from pathlib import Path
import numpy as np
from assay.agent.native import OrtSettings, prepare
cache, model, config = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
with prepare(cache).onnxruntime(model, OrtSettings(config=config)) as session:
    session.bind([{"x": np.full(64, 1e-20, dtype=np.float32)}])
    print(float(session.outputs(0)["y"].min()), float(np.float32(1e-20) * np.float32(1e-20)))
"""


def test_denormals_are_flushed_only_where_asked_for(tmp_path: Path) -> None:
    """Loading the loop must not change the processor's mode, as -ffast-math would.

    onnxruntime sets the mode with the first session of a process, so each has its own.
    """
    ends = [tensor(name, TensorProto.FLOAT, 64) for name in ("x", "y")]
    nodes = [helper.make_node("Mul", ["x", "x"], ["y"])]
    path = save(tmp_path / "mul.onnx", nodes, ends[:1], ends[1:])

    def products(config: dict[str, str]) -> list[float]:
        arguments = [str(tmp_path / "cache"), str(path), json.dumps(config)]
        command = [sys.executable, "-c", SMALLEST, *arguments]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [float(part) for part in shown.split()]

    in_model, in_numpy = products({})
    assert in_model > 0
    assert in_numpy > 0
    assert products({"session.set_denormal_as_zero": "1"})[0] == 0


def test_block_stops_at_the_number_of_queries(opened: tuple[NativeSession, Case]) -> None:
    session, _ = opened
    out_ns = _times(50)
    assert session.run_block(20, None, out_ns) == 20
    assert (out_ns[:20] > 0).all()
    assert (out_ns[20:] == -1).all()


def test_block_stops_after_the_query_that_passes_the_time(
    opened: tuple[NativeSession, Case],
) -> None:
    session, _ = opened
    assert session.run_block(1000, 0, _times(1000)) == 1
    out_ns = np.zeros(2_000_000, dtype=np.int64)
    taken = session.run_block(out_ns.size, 20_000_000, out_ns)
    assert 0 < taken < out_ns.size
    assert out_ns[: taken - 1].sum() < 20_000_000


def test_queries_walk_over_the_order_across_blocks(loop: NativeLoop, tmp_path: Path) -> None:
    case = write("batch", tmp_path)  # samples 1, 2, 3 differ in shape: each has its own outputs
    with _open(loop, case.path) as session:
        session.bind(case.samples, order=[1, 3, 1, 2])
        walked = []
        for _ in range(6):
            for row in session._outputs:
                row[0].fill(np.nan)
            session.run_block(1, None, _times(1))
            walked.append([i for i in (1, 2, 3) if not np.isnan(session.peek(i)["y"]).any()])
        assert walked == [[1], [3], [1], [2], [1], [3]]
        session.seek(3)
        for row in session._outputs:
            row[0].fill(np.nan)
        session.run_block(1, None, _times(1))
        assert not np.isnan(session.peek(2)["y"]).any()


def test_a_query_can_be_several_samples(loop: NativeLoop, tmp_path: Path) -> None:
    case = write("batch", tmp_path)
    with _open(loop, case.path) as session:
        session.bind(case.samples, order=[1, 2, 3])
        session.run_block(1, None, _times(1), samples_per_query=3)
        assert not any(np.isnan(session.peek(i)["y"]).any() for i in (1, 2, 3))
        with pytest.raises(UsageError, match="at least one sample"):
            session.run_block(1, None, _times(1), samples_per_query=0)


def test_schedule_starts_no_query_early_and_late_ones_at_once(
    opened: tuple[NativeSession, Case],
) -> None:
    session, _ = opened
    now_ns = time.monotonic_ns()
    intended = now_ns + np.array([-5_000_000, -1_000_000, 3_000_000, 6_000_000, 900_000_000])
    started, ended = _times(5), _times(5)
    taken = session.run_schedule(intended, now_ns + 500_000_000, started, ended)
    assert taken == 4, "the last is intended after the end"
    assert (started[:4] >= intended[:4]).all()
    assert (ended[:4] > started[:4]).all()
    assert started[0] < ended[0] <= started[1] < ended[1] <= started[2]


def test_schedule_runs_the_first_query_however_late_it_comes_to_it(
    opened: tuple[NativeSession, Case],
) -> None:
    session, _ = opened
    now_ns = time.monotonic_ns()
    intended = now_ns + np.array([-5_000_000, -4_000_000])
    assert session.run_schedule(intended, now_ns - 1, _times(2), _times(2)) == 1


def test_samples_that_lie_right_are_used_where_they_are(
    opened: tuple[NativeSession, Case],
) -> None:
    session, case = opened
    right = aligned_empty((1, 8, 6, 6), np.dtype(np.float32))
    right[...] = case.samples[0]["x"]
    expected = session.outputs(0)["y"]
    session.bind([{"x": right}])
    assert session.outputs(0)["y"].tobytes() == expected.tobytes()
    right[...] = case.samples[1]["x"]
    assert session.outputs(0)["y"].tobytes() != expected.tobytes()


def test_strided_and_misaligned_samples_are_copied(opened: tuple[NativeSession, Case]) -> None:
    session, case = opened
    expected = session.outputs(2)["y"]
    wanted = case.samples[2]["x"]
    transposed = np.ascontiguousarray(wanted.T).T
    raw = np.zeros(wanted.nbytes + 65, dtype=np.uint8)
    start = -raw.ctypes.data % 64 + 4
    misaligned = raw[start : start + wanted.nbytes].view(np.float32).reshape(wanted.shape)
    misaligned[...] = wanted
    assert not transposed.flags.c_contiguous
    session.bind([{"x": transposed}, {"x": misaligned}])
    assert session.outputs(0)["y"].tobytes() == expected.tobytes()
    assert session.outputs(1)["y"].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({}, "the model takes x"),
        ({"x": np.zeros((1, 8, 6, 6), np.float32), "z": np.zeros(1)}, "the model takes x"),
        ({"x": np.zeros((1, 8, 6, 6), np.float64)}, "is float32, the sample's is float64"),
        ({"x": np.zeros((1, 8, 6, 6), ">f4")}, "is float32"),
        ({"x": np.zeros((1, 8, 6), np.float32)}, r"shape \(1, 8, 6, 6\)"),
        ({"x": np.zeros((1, 8, 6, 7), np.float32)}, r"the sample's is \(1, 8, 6, 7\)"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    opened: tuple[NativeSession, Case], sample: dict[str, Any], message: str
) -> None:
    session, case = opened
    with pytest.raises(BadInputs, match=message):
        session.bind([sample])
    assert session.run_block(1, None, _times(1)) == 1, "what was bound stays bound"
    with pytest.raises(BadInputs, match="no sample"):
        session.bind([])
    for order in ([], [0, 4], [-1]):
        with pytest.raises(BadInputs, match="order"):
            session.bind(case.samples, order=order)


def test_names_that_mislead_are_not_relied_on(loop: NativeLoop, tmp_path: Path) -> None:
    """Exporters repeat a name where sizes differ, which onnxruntime lets pass."""
    inside = save(
        tmp_path / "inside.onnx",
        [helper.make_node("Concat", ["x", "x"], ["y"], axis=1)],
        [tensor("x", TensorProto.FLOAT, "n", "m")],
        [tensor("y", TensorProto.FLOAT, "n", "m")],
    )
    twice = save(
        tmp_path / "twice.onnx",
        [helper.make_node("Concat", ["a", "b"], ["y"], axis=0)],
        [tensor(name, TensorProto.FLOAT, "n") for name in ("a", "b")],
        [tensor("y", TensorProto.FLOAT, "n")],
    )
    ones = np.ones((3, 2), np.float32)
    for path, sample, shape in (
        (inside, {"x": ones}, (3, 4)),
        (twice, {"a": ones[:, 0], "b": ones[0]}, (5,)),
    ):
        with _open(loop, path) as session:
            session.bind([sample])
            assert session.ran_to_bind
            assert session.outputs(0)["y"].shape == shape


def test_an_error_inside_a_run_carries_the_librarys_message(
    loop: NativeLoop, tmp_path: Path
) -> None:
    case = write("several_ends", tmp_path)
    broken = {**case.samples[0], "index": np.array([0, 1, 99, 2])}
    with _open(loop, case.path) as session:
        session.bind([case.samples[0], broken])
        out_ns = _times(10)
        with pytest.raises(RuntimeRejected, match="indices element out of data bounds, idx=99"):
            session.run_block(10, None, out_ns)
        assert out_ns[0] > 0
        assert out_ns[1] == 0
        with pytest.raises(RuntimeRejected, match="idx=99"):
            session.outputs(1)
        intended = np.zeros(2, dtype=np.int64)
        with pytest.raises(RuntimeRejected, match="idx=99"):
            session.seek(1)
            session.run_schedule(intended, time.monotonic_ns() + 10**9, _times(2), _times(2))
        session.seek(0)
        assert session.run_block(1, None, _times(1)) == 1, "the session lives on"


def test_an_output_that_contradicts_the_model_is_an_error(loop: NativeLoop, tmp_path: Path) -> None:
    """The model says y has as many rows as x; it has twice as many."""
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)]
    ends = tensor("x", TensorProto.FLOAT, "n", 2), tensor("y", TensorProto.FLOAT, "n", 2)
    path = save(tmp_path / "lies.onnx", nodes, [ends[0]], [ends[1]])
    with _open(loop, path) as session:
        session.bind([{"x": np.ones((3, 2), np.float32)}])
        with pytest.raises(RuntimeRejected, match="shape"):
            session.run_block(1, None, _times(1))


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_what_is_no_model_is_refused(
    loop: NativeLoop, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RuntimeRejected, match=r"onnxruntime refused bad\.onnx: .+"):
        loop.onnxruntime(path)


def test_a_truncated_model_is_refused(loop: NativeLoop, tmp_path: Path) -> None:
    whole = write("float32", tmp_path).path.read_bytes()
    path = tmp_path / "short.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeRejected, match=r"short\.onnx"):
        loop.onnxruntime(path)


def test_damaged_models_are_refused_or_run(loop: NativeLoop, tmp_path: Path) -> None:
    """A crash here ends the test run."""
    whole = write("scalar", tmp_path).path.read_bytes()
    path = tmp_path / "damaged.onnx"
    refused = 0
    for content in damaged(whole, count=30):
        path.write_bytes(content)
        try:
            session = loop.onnxruntime(path)
        except RuntimeRejected:
            refused += 1
            continue
        if isinstance(session, NativeSession):
            session.close()
    assert refused > 5


def test_string_tensors_are_absent(loop: NativeLoop, tmp_path: Path) -> None:
    ends = [tensor(name, TensorProto.STRING, 2) for name in ("x", "y")]
    path = save(
        tmp_path / "text.onnx", [helper.make_node("Identity", ["x"], ["y"])], ends[:1], ends[1:]
    )
    refused = loop.onnxruntime(path)
    assert isinstance(refused, Absent)
    assert refused.reason == "text.onnx: string tensors (input x)"


def test_sequences_are_absent(loop: NativeLoop, tmp_path: Path) -> None:
    made = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    path = save(
        tmp_path / "sequence.onnx",
        [helper.make_node("SplitToSequence", ["x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, 2)],
        [made],
    )
    refused = loop.onnxruntime(path)
    assert isinstance(refused, Absent)
    assert "non-tensor tensors (output y)" in refused.reason


def test_other_providers_are_absent(loop: NativeLoop, tmp_path: Path) -> None:
    refused = loop.onnxruntime(tmp_path / "any.onnx", provider="CUDAExecutionProvider")
    assert isinstance(refused, Absent)
    assert "not CUDAExecutionProvider" in refused.reason


def test_a_bad_configuration_entry_is_refused(loop: NativeLoop, tmp_path: Path) -> None:
    case = write("float32", tmp_path)
    with pytest.raises(RuntimeRejected, match="onnxruntime refused"):
        loop.onnxruntime(case.path, OrtSettings(config={"": "x"}))


def test_a_session_is_bound_before_and_open_while_it_runs(loop: NativeLoop, tmp_path: Path) -> None:
    case = write("float32", tmp_path)
    session = _open(loop, case.path)
    with pytest.raises(UsageError, match="bind samples"):
        session.run_block(1, None, _times(1))
    session.bind(case.samples)
    with pytest.raises(UsageError, match="no sample 4: 4 are bound"):
        session.outputs(4)
    session.close()
    session.close()
    for use in (
        lambda: session.bind(case.samples),
        lambda: session.run_block(1, None, _times(1)),
        lambda: session.outputs(0),
        lambda: session.peek(0),
    ):
        with pytest.raises(UsageError, match="closed"):
            use()


@pytest.mark.parametrize(
    "out_ns",
    [
        np.zeros(3, np.int64),
        np.zeros(5, np.int32),
        np.zeros(5, np.float64),
        np.zeros((5, 1), np.int64),
        np.zeros(10, np.int64)[::2],
        np.frombuffer(bytes(40), np.int64),
    ],
    ids=["short", "int32", "float64", "two axes", "strided", "read-only"],
)
def test_times_need_room_of_the_right_kind(opened: tuple[NativeSession, Case], out_ns: Any) -> None:
    with pytest.raises(UsageError, match="room for 5"):
        opened[0].run_block(5, None, out_ns)
    with pytest.raises(UsageError, match="room for -1"):
        opened[0].run_block(-1, None, _times(5))


def test_other_threads_run_during_a_block(opened: tuple[NativeSession, Case]) -> None:
    session, _ = opened
    out_ns = np.zeros(1_000_000, dtype=np.int64)
    entered = threading.Event()

    def block() -> None:
        entered.set()
        session.run_block(out_ns.size, 100_000_000, out_ns)

    thread = threading.Thread(target=block)
    thread.start()
    entered.wait()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns >= 10


def test_floor_times_the_loop_around_nothing(opened: tuple[NativeSession, Case]) -> None:
    floor_ns = opened[0].floor(500)
    assert floor_ns.shape == (500,)
    assert (floor_ns >= 0).all()


def test_sessions_can_be_opened_again_and_side_by_side(loop: NativeLoop, tmp_path: Path) -> None:
    case = write("float32", tmp_path)
    for _ in range(3):
        with _open(loop, case.path) as first, _open(loop, case.path) as second:
            first.bind(case.samples)
            second.bind(case.samples[::-1])
            assert first.outputs(0)["y"].tobytes() == second.outputs(3)["y"].tobytes()


def test_weights_beside_the_model_are_found(loop: NativeLoop, tmp_path: Path) -> None:
    case = write("float32", tmp_path)
    path = tmp_path / "outside.onnx"
    onnx.save(
        onnx.load(case.path), path, save_as_external_data=True, size_threshold=0,
        location="weights.bin",
    )  # fmt: skip
    with _open(loop, path) as outside, _open(loop, case.path) as inside:
        outside.bind(case.samples)
        inside.bind(case.samples)
        assert outside.outputs(0)["y"].tobytes() == inside.outputs(0)["y"].tobytes()
