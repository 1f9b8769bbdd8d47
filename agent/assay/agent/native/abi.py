"""The C side as ctypes sees it; mirrors native.h, loop.c, ort.c and litert.c."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from assay.agent.native.settings import OrtSettings
from assay.agent.native.tensors import Array

MAX_RANK = 32
MESSAGE_BYTES = 1024
NAME_BYTES = 1024
#: What an open function returns for a library it cannot speak to.
ABSENT = 1
#: "No limit" that can still be added to a clock reading without overflow (146 years).
FOREVER_NS = 2**62

_LONGS = ctypes.POINTER(ctypes.c_int64)


class Tensor(ctypes.Structure):
    """struct assay_tensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("type", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.c_int64 * MAX_RANK),
    )


class OrtSettingsStruct(ctypes.Structure):
    """struct assay_ort_settings."""

    _fields_ = (
        ("threads", ctypes.c_int32),
        ("inter_op_threads", ctypes.c_int32),
        ("graph_level", ctypes.c_int32),
        ("memory_arena", ctypes.c_int32),
        ("memory_pattern", ctypes.c_int32),
        ("config", ctypes.POINTER(ctypes.c_char_p)),
    )


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Gives every exported function its types, so that a wrong argument raises, not crashes."""
    session, text, tensors = ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(Tensor)
    opened = ctypes.POINTER(ctypes.c_void_p)
    number, long = ctypes.c_int, ctypes.c_int64
    signatures: Mapping[str, tuple[type[Any] | None, tuple[type[Any], ...]]] = {
        "assay_message": (text, (session,)),
        "assay_count": (long, (session, number)),
        "assay_describe": (number, (session, number, long, text, tensors)),
        "assay_resize": (number, (session, tensors, tensors)),
        "assay_bind": (number, (session, long, tensors, tensors)),
        "assay_run": (number, (session, long)),
        "assay_run_block": (
            number,
            (session, _LONGS, long, _LONGS, long, long, long, _LONGS, _LONGS),
        ),
        "assay_run_schedule": (
            number,
            (session, _LONGS, long, _LONGS, long, long, _LONGS, _LONGS, _LONGS, _LONGS),
        ),
        "assay_floor": (number, (long, _LONGS)),
        "assay_close": (None, (session,)),
        "assay_ort_version": (number, (text, text, ctypes.c_size_t, text)),
        "assay_ort_open": (
            number,
            (text, text, ctypes.POINTER(OrtSettingsStruct), opened, text),
        ),
        "assay_litert_open": (number, (text, text, ctypes.c_int32, opened, text)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def fill(tensor: Tensor, code: int, value: Array) -> None:
    """Points ``tensor`` at ``value``, which must outlive it."""
    tensor.data = value.ctypes.data
    tensor.bytes = value.nbytes
    tensor.type = code
    tensor.rank = value.ndim
    for axis, size in enumerate(value.shape):
        tensor.dims[axis] = size


def longs(values: Array) -> ctypes._Pointer[ctypes.c_int64]:
    """A C pointer into an int64 array; the caller keeps the array alive."""
    return values.ctypes.data_as(_LONGS)


def ort_settings(settings: OrtSettings) -> OrtSettingsStruct:
    """The settings as C reads them; the structure keeps its strings alive."""
    entries = {
        "session.intra_op.allow_spinning": str(int(settings.spinning)),
        "session.inter_op.allow_spinning": str(int(settings.spinning)),
        **settings.config,
    }
    flat = [text.encode() for entry in entries.items() for text in entry]
    config = (ctypes.c_char_p * (len(flat) + 1))(*flat, None)
    return OrtSettingsStruct(
        threads=settings.threads,
        inter_op_threads=settings.inter_op_threads,
        graph_level=int(settings.graph_level),
        memory_arena=settings.memory_arena,
        memory_pattern=settings.memory_pattern,
        config=ctypes.cast(config, ctypes.POINTER(ctypes.c_char_p)),
    )
