"""Runs ONNX's own operator models through the agent's runtime; a process of its own per batch.

``python -m tests.system.onnx_models`` reads folders from stdin, one a line, and prints for each a
JSON line ``[name, outcome, detail]`` as it goes: whoever reads knows which one a crash was about.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from assay.agent.runtimes.onnxruntime import OnnxRuntime
from assay.agent.worker.checks import largest_error
from assay.agent.worker.feeds import fit
from assay.core.errors import AssayError
from assay.core.model import RuntimeSpec

SAME, OTHER, REFUSED, NO_TENSOR = "same", "other numbers", "refused", "no tensor"
RTOL, ATOL = 1e-3, 1e-3


def outcome_of(folder: Path) -> tuple[str, str]:
    """What came of one model, and why."""
    try:
        model = OnnxRuntime.load(folder / "model.onnx", RuntimeSpec("onnxruntime"))
        data = folder / "test_data_set_0"
        given = [_array(data / f"input_{i}.pb") for i in range(len(model.inputs))]
        feed = {
            spec.name: fit(value[None], spec, 1)
            for spec, value in zip(model.inputs, given, strict=True)
        }
        wanted = [_array(data / f"output_{i}.pb") for i in range(len(model.outputs))]
        found = model.run(feed)
        bound = model.bind([feed])
        bound.calls[0]()
        error, close = largest_error(found, wanted, RTOL, ATOL)
        if not close:
            return OTHER, f"off by {error:.3g}"
        error, close = largest_error(bound.outputs(0), found, RTOL, ATOL)
        return (SAME, "") if close else (OTHER, f"bound and plain differ by {error:.3g}")
    except AssayError as error:
        text = str(error)
        kind = NO_TENSOR if "only tensors of types" in text else REFUSED
        return kind, f"{error.code}: {text}"
    except _NoTensor as error:
        return NO_TENSOR, str(error)


class _NoTensor(Exception):
    pass


def _array(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        found = numpy_helper.to_array(tensor)
    except (DecodeError, FileNotFoundError, TypeError, ValueError) as error:
        raise _NoTensor(f"{path.name} holds no tensor: {error}") from error
    return found.astype(str) if found.dtype.kind == "O" else np.asarray(found)


def main() -> int:
    """The child; the results' descriptor is what was stdout, for libraries print there."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        folder = Path(line.strip())
        out.write(json.dumps([folder.name, *outcome_of(folder)]) + "\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
