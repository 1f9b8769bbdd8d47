"""What an ncnn model of Assay says of itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from assay.controller.inspection import ncnn_graph
from assay.controller.inspection.facts import Facts
from assay.controller.inspection.ncnn_reference import read as read_file


def read(file: Path) -> Facts:
    """The facts; :class:`RuntimeRejected` if it is no such file."""
    model = read_file(file)
    cost = ncnn_graph.read(file.read_bytes())
    return Facts(
        inputs=tuple(f"{one.name} float32{list(one.shape)}" for one in model.inputs),
        outputs=tuple(f"{one.name} float32{list(one.shape)}" for one in model.outputs),
        versions={},
        operators=dict(sorted(Counter(cost.operators).items())),
        custom_operators=(),
        parameters=cost.parameters,
        macs=cost.macs,
        precision=cost.precision,
        stored={model.weights: f"{len(model.bin)} bytes"},
        metadata={"tool": model.tool} if model.tool else {},
    )
