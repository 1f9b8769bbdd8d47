"""What goes into and out of a model: element types, shapes, and memory the C loop may point at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.core.errors import BadInputs

Array = npt.NDArray[np.generic]

#: The kernels' vector loads and LiteRT's host memory buffers want 64 bytes (LiteRT:
#: litert_tensor_buffer_types.h), and equal alignment keeps one process like the next.
ALIGNMENT_BYTES = 64

#: ONNXTensorElementDataType (onnxruntime_c_api.h). Types NumPy lacks travel as raw bits; what packs
#: several elements into a byte, and strings, the loop does not drive.
ONNXRUNTIME_TYPES: Mapping[int, tuple[str, str]] = {
    1: ("float32", "float32"),
    2: ("uint8", "uint8"),
    3: ("int8", "int8"),
    4: ("uint16", "uint16"),
    5: ("int16", "int16"),
    6: ("int32", "int32"),
    7: ("int64", "int64"),
    8: ("string", ""),
    9: ("bool", "bool"),
    10: ("float16", "float16"),
    11: ("float64", "float64"),
    12: ("uint32", "uint32"),
    13: ("uint64", "uint64"),
    14: ("complex64", "complex64"),
    15: ("complex128", "complex128"),
    16: ("bfloat16", "uint16"),
    17: ("float8_e4m3fn", "uint8"),
    18: ("float8_e4m3fnuz", "uint8"),
    19: ("float8_e5m2", "uint8"),
    20: ("float8_e5m2fnuz", "uint8"),
    21: ("uint4", ""),
    22: ("int4", ""),
    23: ("float4_e2m1", ""),
    24: ("uint2", ""),
    25: ("int2", ""),
    26: ("float8_e8m0fnu", "uint8"),
}

#: LiteRtElementType (litert/c/litert_model_types.h).
LITERT_TYPES: Mapping[int, tuple[str, str]] = {
    1: ("float32", "float32"),
    2: ("int32", "int32"),
    3: ("uint8", "uint8"),
    4: ("int64", "int64"),
    5: ("string", ""),
    6: ("bool", "bool"),
    7: ("int16", "int16"),
    8: ("complex64", "complex64"),
    9: ("int8", "int8"),
    10: ("float16", "float16"),
    11: ("float64", "float64"),
    12: ("complex128", "complex128"),
    13: ("uint64", "uint64"),
    16: ("uint32", "uint32"),
    17: ("uint16", "uint16"),
    18: ("int4", ""),
    19: ("bfloat16", "uint16"),
    20: ("int2", ""),
    21: ("uint4", ""),
    22: ("float8_e4m3fn", "uint8"),
    23: ("float8_e5m2", "uint8"),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. ``dtype`` is how it lies in memory, ``element`` the model's own type;
    they differ only where NumPy has no such type (bfloat16 as uint16, float8 as uint8).

    In ``dims`` a negative number is an unknown size; equal ones below -1 are the same symbol.
    """

    name: str
    element: str
    dtype: np.dtype[np.generic]
    dims: tuple[int, ...]
    code: int

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The dimensions, None where the model leaves one open."""
        return tuple(None if size < 0 else size for size in self.dims)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """An uninitialised C-contiguous array that begins on a 64-byte boundary."""
    size_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size_bytes + ALIGNMENT_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + size_bytes].view(dtype).reshape(shape)


def staged(spec: TensorSpec, value: Array, *, resizable: bool = False) -> Array:
    """``value`` as the loop can point at it: itself where it lies right, else an aligned copy.

    Raises BadInputs where its type or shape does not fit ``spec``: nothing is converted silently.
    Of a ``resizable`` input only the rank is looked at.
    """
    raw_bits = spec.element != spec.dtype.name and value.dtype.name == spec.element
    if value.dtype != spec.dtype and not raw_bits:
        raise BadInputs(f"input {spec.name} is {spec.element}, the sample's is {value.dtype}")
    fits = len(spec.dims) == value.ndim and all(
        resizable or want in (have, None)
        for want, have in zip(spec.shape, value.shape, strict=True)
    )
    if not fits:
        raise BadInputs(
            f"input {spec.name} has shape {_shown(spec.shape)}, the sample's is {value.shape}"
        )
    if value.flags.c_contiguous and value.ctypes.data % ALIGNMENT_BYTES == 0:
        return value.view(spec.dtype)
    copy = aligned_empty(value.shape, spec.dtype)
    copy.view(value.dtype)[...] = value
    return copy


def resolved(spec: TensorSpec, batches: Mapping[int, int]) -> tuple[int, ...] | None:
    """The output's shape with its first dimension filled in; None where one stays open.

    Names further inside are not relied on: exporters repeat them where sizes differ.
    """
    shape = (*(batches.get(size, size) for size in spec.dims[:1]), *spec.dims[1:])
    return None if any(size < 0 for size in shape) else shape


def batch_sizes(specs: tuple[TensorSpec, ...], sample: list[Array]) -> dict[int, int]:
    """The inputs' named first dimensions and their sizes; without names that have two."""
    seen: dict[int, set[int]] = {}
    for spec, value in zip(specs, sample, strict=True):
        if spec.dims and spec.dims[0] < -1:
            seen.setdefault(spec.dims[0], set()).add(value.shape[0])
    return {symbol: min(sizes) for symbol, sizes in seen.items() if len(sizes) == 1}


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"
