"""From a torch network to files that devices run."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BuildFailed, RuntimeAbsent

if TYPE_CHECKING:
    from torch import Tensor, nn

# The exporter's own opset: asked for less it writes 18 all the same.
OPSET = 18
# What the oldest onnxruntime on a fleet reads (1.23, JetPack 6), less a margin in the opset.
MAX_OPSET = 20
MAX_IR = 11


def to_onnx(net: nn.Module, example: Tensor, path: Path) -> str:
    """Writes ``net`` with a free batch dimension, or for one sample where its code allows no other,
    and returns what was written, for people.

    ``example`` is (1, ...). Batch norms are folded by the exporter.
    """
    import onnx
    import onnxslim
    import torch

    with quiet():
        model = _exported(net, torch.cat([example, example]), {0: torch.export.Dim("n")})
        free = bool(model.graph.input[0].type.tensor_type.shape.dim[0].dim_param)
        if not free:
            model = _exported(net, example, None)
        model = onnxslim.slim(model)
    onnx.save(model, path)
    batch = "batch free" if free else "batch 1: its code depends on the number of samples"
    return f"{finish_onnx(path)}, {batch}"


def finish_onnx(path: Path) -> str:
    """Checks the file, puts its nodes in order and leaves out what tells of the building machine;
    returns its versions. :class:`BuildFailed` where devices could not read it."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(path)
    _strip(model)
    OnnxModel(model).topological_sort()
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset > MAX_OPSET or model.ir_version > MAX_IR:
        raise BuildFailed(
            f"{path.name} has opset {opset} and IR {model.ir_version}; devices read opset "
            f"{MAX_OPSET} and IR {MAX_IR} at most: the exporting tools are too new"
        )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return f"opset {opset}, IR {model.ir_version}"


def to_tflite(net: nn.Module, example: Tensor, path: Path) -> str:
    """Writes ``net`` for one sample at a time, inputs NCHW, and returns what was written."""
    with quiet():
        import litert_torch

        litert_torch.convert(net.eval(), (example,)).export(str(path))
    return "batch 1, NCHW"


def require_exporters() -> None:
    """:class:`RuntimeAbsent` where what builds variants is not installed."""
    import importlib.util

    missing = [
        module
        for module in ("torch", "onnx", "onnxscript", "onnxslim", "onnxruntime")
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise RuntimeAbsent(
            f"building variants needs {', '.join(missing)}: "
            "pip install -c constraints.txt 'assay-fleet[variants]'"
        )


def can_make_tflite() -> str:
    """Why .tflite files cannot be made here; "" where they can."""
    import importlib.util

    for module in ("litert_torch", "ai_edge_quantizer", "ai_edge_litert"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed (pip install 'assay-fleet[variants-litert]')"
    return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The converters talk on stdout, through warnings and through logging: into the build's log,
    which is shown where a build fails, goes only what is worth reading there."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(nowhere):
            yield


def _exported(net: nn.Module, inputs: Tensor, dims: dict[int, Any] | None) -> Any:
    """The ONNX model, with ``dims`` of the input open where the code allows it."""
    import torch

    try:
        program = torch.onnx.export(
            net.eval(),
            (inputs,),
            dynamo=True,
            input_names=["x"],
            output_names=["logits"],
            dynamic_shapes=None if dims is None else (dims,),
            opset_version=OPSET,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise BuildFailed(f"torch cannot export it to ONNX: {_reason(error)}") from error
    assert program is not None
    return program.model_proto


def _reason(error: BaseException) -> str:
    """What lies at the bottom of an exporter's error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _strip(model: Any) -> None:
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for part in (model.graph.node, model.graph.value_info, model.graph.input, model.graph.output):
        for entry in part:
            entry.doc_string = ""
            del entry.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
