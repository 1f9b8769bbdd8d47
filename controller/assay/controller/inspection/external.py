"""The files an ONNX model keeps its weights in, beside itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.controller.inspection.onnx_graph import graphs_of
from assay.core.bundle import MAX_BYTES, MODEL, why_unsafe
from assay.core.errors import BadInputs, RuntimeAbsent

_WHERE = "a model's external data lies in plain files in or below its folder"


def external_files(model: Path) -> dict[str, Path]:
    """The files that a model asks for, by the name it has for them; empty where it is whole.

    :class:`BadInputs` where a name leads out of the model's folder, where a file is missing, is no
    plain file, or shorter than the model says, and where all are more than a device could take.
    """
    found: dict[str, Path] = {}
    for name, end in _wanted(load_structure(model)):
        unsafe = why_unsafe(name) or ("is the model's own" if name == MODEL else "")
        if unsafe:
            raise BadInputs(f"{model.name}: external data {name!r} {unsafe}: {_WHERE}")
        path = model.parent / name
        inside = Path(os.path.realpath(path)).is_relative_to(model.parent.resolve())
        if not path.is_file() or not inside:
            why = "is not there" if not path.exists() else "is a link to elsewhere, or no file"
            raise BadInputs(f"{model.name}: external data {path} {why}: {_WHERE}")
        if path.stat().st_size < end:
            raise BadInputs(
                f"{model.name}: external data {path} has {path.stat().st_size} bytes; the model "
                f"reads up to byte {end}"
            )
        found[name] = path
    total = sum(path.stat().st_size for path in found.values())
    if total > MAX_BYTES:
        raise BadInputs(
            f"{model.name}: {total} bytes of external data, more than {MAX_BYTES} are not sent"
        )
    return found


def load_structure(path: Path) -> Any:
    """The model without the content of other files; :class:`BadInputs` if it is no ONNX file."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise RuntimeAbsent(
            f"reading ONNX files needs the package onnx ({error}): pip install "
            "'assay-fleet[models]'"
        ) from error
    try:
        return onnx.load_model(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise BadInputs(f"{path.name} is no ONNX file: {error}") from error


def tensors_of(graph: Any) -> Iterator[Any]:
    """Every stored tensor of a graph and of those inside it."""
    for one in graphs_of(graph):
        yield from one.initializer
        for sparse in one.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _wanted(model: Any) -> Iterator[tuple[str, int]]:
    import onnx

    for tensor in tensors_of(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            told = {entry.key: entry.value for entry in tensor.external_data}
            offset, length = (_number(told.get(key, "0")) for key in ("offset", "length"))
            yield told.get("location", ""), offset + length


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
