"""What an ONNX file says of itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.controller.inspection import onnx_graph
from assay.controller.inspection.external import external_files, load_structure, tensors_of
from assay.controller.inspection.facts import Facts, elements_by_type, shown
from assay.core.dims import open_dims, propose, settle
from assay.core.errors import UsageError
from assay.core.tensors import STRING, TensorSpec, symbol

_OURS = {"float": "float32", "double": "float64", "string": STRING}
# Domains that onnxruntime brings with it.
_KNOWN = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "com.microsoft", "com.ms.internal.nhwc")


def read(file: Path) -> Facts:
    """The facts; :class:`BadInputs` if it is no ONNX file."""
    model = load_structure(file)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_spec(value) for value in graph.input if value.name not in weights]
    cost = onnx_graph.read(file.read_bytes(), _sizes(inputs))
    nodes = [node for one in onnx_graph.graphs_of(graph) for node in one.node]
    local = {(one.domain, one.name) for one in model.functions}
    custom = Counter(
        f"{node.domain}.{node.op_type}"
        for node in nodes
        if node.domain not in _KNOWN and (node.domain, node.op_type) not in local
    )
    versions = {f"opset {one.domain or 'ai.onnx'}": str(one.version) for one in model.opset_import}
    producer = f"{model.producer_name} {model.producer_version}".strip()
    told = {"producer": producer, "domain": model.domain, "doc": model.doc_string}
    told["functions"] = ", ".join(sorted(one.name for one in model.functions))
    return Facts(
        inputs=tuple(str(spec) for spec in inputs),
        outputs=tuple(str(_spec(value)) for value in graph.output),
        versions={"ir": str(model.ir_version), **versions},
        operators=dict(sorted(Counter(onnx_graph.name_of(node) for node in nodes).items())),
        custom_operators=tuple(sorted(custom)),
        parameters=cost.parameters,
        macs=cost.macs,
        precision=cost.precision,
        stored=elements_by_type([_stored(tensor) for tensor in tensors_of(graph)]),
        dims={name: propose(name, *where) for name, where in open_dims(inputs).items()},
        external_data={name: path.stat().st_size for name, path in external_files(file).items()},
        metadata={
            **{key: shown(text) for key, text in told.items() if text},
            **{entry.key: shown(entry.value) for entry in model.metadata_props},
        },
    )


def _sizes(inputs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """Those that are proposed; none where they would be too much to make."""
    try:
        return settle(inputs).whole
    except UsageError:
        return {}


def _spec(value: Any) -> TensorSpec:
    """A tensor's type and shape; anything else has its kind for a type."""
    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        return TensorSpec(value.name, kind.removesuffix("_type"), ())
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    return TensorSpec(
        value.name,
        _type(tensor.elem_type),
        tuple(_size(dim) for dim in dims),
        tuple(symbol(dim.dim_param) for dim in dims),
    )


def _size(dim: Any) -> int | None:
    """Some exporters write -1 for an open dimension."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def _stored(tensor: Any) -> tuple[str, int]:
    return _type(tensor.data_type), math.prod(tensor.dims)


def _type(number: int) -> str:
    import onnx

    name = str(onnx.TensorProto.DataType.Name(number)).lower()
    return _OURS.get(name, name)
