"""The timed loop in C, over the C API of the library the runtime's wheel ships.

A Python call costs a few microseconds; the loop in :mod:`loop.c` costs tens of nanoseconds, so a
model of 3 µs can be measured at all. Use::

    loop = prepare(cache_dir)                   # compiles on first use, else loads from the cache
    if isinstance(loop, Absent): ...            # no compiler: fall back to raw_binding
    session = loop.onnxruntime(model_path, OrtSettings(threads=1))
    if isinstance(session, Absent): ...         # no library, or a model the loop does not drive
    with session:
        session.bind(samples, order)
        taken = session.run_block(n, max_ns, out)   # out[:taken] are nanoseconds per query
        floor = session.floor(1000)

Neither onnxruntime's nor LiteRT's Python package is imported. Nothing here is thread-safe: one
thread uses a session at a time. docs/native-loop.md has the handshake and the settings.
"""

from __future__ import annotations

from assay.agent.native.loop import NativeLoop, prepare
from assay.agent.native.session import NativeSession
from assay.agent.native.settings import GraphLevel, LitertSettings, OrtSettings
from assay.agent.native.tensors import TensorSpec, aligned_empty

__all__ = [
    "GraphLevel",
    "LitertSettings",
    "NativeLoop",
    "NativeSession",
    "OrtSettings",
    "TensorSpec",
    "aligned_empty",
    "prepare",
]
