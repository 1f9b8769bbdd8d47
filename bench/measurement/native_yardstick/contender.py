"""One way to time a model from Python, in its own process; the counterpart of yardstick.c.

    python contender.py WAY MODEL WARMUP QUERIES [SETTINGS]

WAY is native_loop, raw_binding or session.run for onnxruntime, litert_loop or litert_invoke for
LiteRT. Writes every time as an 8-byte integer of nanoseconds to standard output and gives every
input the same ramp, as the C program does. SETTINGS is JSON: fields of OrtSettings, and
`denormal_inputs`.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.agent.native import (
    LitertSettings,
    NativeLoop,
    NativeSession,
    OrtSettings,
    aligned_empty,
    prepare,
)
from assay.core.model import Absent

Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Call = Callable[[], object]

#: A float32 denormal; the processor's slow path where it is not told to flush them.
DENORMAL = 1e-40


def main() -> None:
    """Times and writes."""
    way, model, warmup, queries = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5])
    settings: dict[str, Any] = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
    denormal = bool(settings.pop("denormal_inputs", False))
    timed = WAYS[way](model, OrtSettings(**settings), denormal, warmup, queries)
    sys.stdout.buffer.write(timed.tobytes())


def sample(shape: tuple[int, ...], denormal: bool) -> Floats:
    """The ramp the C program makes too."""
    made = aligned_empty(shape, np.dtype(np.float32)).view(np.float32)
    size = int(np.prod(shape))
    ramp = np.arange(size, dtype=np.float32) / np.float32(size)
    made[...] = np.float32(DENORMAL) if denormal else ramp.reshape(shape)
    return made


def native(model: Path, settings: OrtSettings, denormal: bool, warmup: int, queries: int) -> Longs:
    """The agent's loop."""
    return _native(lambda loop: loop.onnxruntime(model, settings), denormal, warmup, queries)


def litert_loop(
    model: Path, settings: OrtSettings, denormal: bool, warmup: int, queries: int
) -> Longs:
    """The agent's loop over LiteRT's compiled model."""
    chosen = LitertSettings(settings.threads)
    return _native(lambda loop: loop.litert(model, chosen), denormal, warmup, queries)


def litert_invoke(
    model: Path, settings: OrtSettings, denormal: bool, warmup: int, queries: int
) -> Longs:
    """The interpreter's C++ Invoke, below the public Python class; inputs set beforehand."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=settings.threads)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        value = sample(tuple(tensor["shape"]), denormal).astype(tensor["dtype"])
        interpreter.set_tensor(tensor["index"], value)
    return _timed(interpreter._interpreter.Invoke, warmup, queries)


def _native(
    open_session: Callable[[NativeLoop], NativeSession | Absent],
    denormal: bool,
    warmup: int,
    queries: int,
) -> Longs:
    loop = prepare(Path(tempfile.gettempdir()) / f"assay-native-bench-{os.getuid()}")
    session = loop if isinstance(loop, Absent) else open_session(loop)
    if isinstance(session, Absent):
        raise SystemExit(str(session))
    with session:
        specs = session.input_specs
        session.bind([{s.name: sample(s.dims, denormal).astype(s.dtype) for s in specs}])
        out_ns = np.zeros(max(warmup, queries), dtype=np.int64)
        session.run_block(warmup, None, out_ns)
        return out_ns[: session.run_block(queries, None, out_ns)]


def raw_binding(
    model: Path, settings: OrtSettings, denormal: bool, warmup: int, queries: int
) -> Longs:
    """IOBinding below the public Python class: inputs and outputs stay where they are."""
    session = _python_session(model, settings)
    binding = session.io_binding()
    for tensor in session.get_inputs():
        binding.bind_ortvalue_input(tensor.name, _ort_value(sample(tuple(tensor.shape), denormal)))
    for tensor in session.get_outputs():
        binding.bind_ortvalue_output(
            tensor.name, _ort_value(np.zeros(tuple(tensor.shape), dtype=np.float32))
        )
    run, bound = session._sess.run_with_iobinding, binding._iobinding
    return _timed(functools.partial(run, bound, None), warmup, queries)


def session_run(
    model: Path, settings: OrtSettings, denormal: bool, warmup: int, queries: int
) -> Longs:
    """What everyone writes."""
    session = _python_session(model, settings)
    feed = {t.name: sample(tuple(t.shape), denormal) for t in session.get_inputs()}
    return _timed(functools.partial(session.run, None, feed), warmup, queries)


def _timed(run: Call, warmup: int, queries: int) -> Longs:
    """``run`` takes no arguments: a ``functools.partial``, as the agent's runtimes have it."""
    clock = time.perf_counter_ns
    out_ns = [0] * queries
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(warmup):
        run()
    for query in range(queries):
        start = clock()
        run()
        out_ns[query] = clock() - start
    return np.array(out_ns, dtype=np.int64)


def _python_session(model: Path, settings: OrtSettings) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = settings.inter_op_threads
    options.enable_cpu_mem_arena = settings.memory_arena
    options.enable_mem_pattern = settings.memory_pattern
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(settings.graph_level)
    spinning = str(int(settings.spinning))
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    for key, value in settings.config.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _ort_value(array: Floats) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


WAYS: dict[str, Callable[[Path, OrtSettings, bool, int, int], Longs]] = {
    "native_loop": native,
    "raw_binding": raw_binding,
    "session.run": session_run,
    "litert_loop": litert_loop,
    "litert_invoke": litert_invoke,
}

if __name__ == "__main__":
    main()
