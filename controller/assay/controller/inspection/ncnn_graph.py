"""What an ncnn file costs: its parameters by the layers' own counts.

A param file holds no shapes, so MACs are None rather than too small; the same network's .onnx file
tells them. Layer parameters: https://github.com/Tencent/ncnn/wiki/operation-param-weight-table.
"""

from __future__ import annotations

from assay.controller.inspection.graph_cost import GraphCost
from assay.core.errors import BadInputs, BadMessage
from assay.core.ncnn_file import layers, unpack

# By layer type, the keys of its weight count and of its number of biases (with the key of the
# switch that says whether there are any).
_WEIGHTS = {
    "Convolution": ("6", "0", "5"),
    "ConvolutionDepthWise": ("6", "0", "5"),
    "Convolution1D": ("6", "0", "5"),
    "Deconvolution": ("6", "0", "5"),
    "DeconvolutionDepthWise": ("6", "0", "5"),
    "InnerProduct": ("2", "0", "1"),
}
_PER_CHANNEL = {"BatchNorm": 4, "PReLU": 1}


def read(data: bytes) -> GraphCost:
    """The cost of the file; :class:`BadInputs` if it is none."""
    try:
        file = unpack(data)
        kinds = layers(file.param)
    except BadMessage as error:
        raise BadInputs(str(error)) from error
    lines = file.param.decode("utf-8", "replace").split("\n")[2:]
    parameters = sum(_parameters(line.split()) for line in lines if line.strip())
    narrow = "fp16" if file.weights == "float16" else "fp32"
    return GraphCost(parameters=parameters, macs=None, operators=kinds, precision=narrow)


def _parameters(words: list[str]) -> int:
    kind, told = words[0], dict(word.split("=", 1) for word in words[4:] if "=" in word)
    if kind in _PER_CHANNEL:
        return _PER_CHANNEL[kind] * int(told.get("0", "0"))
    if kind == "MemoryData":
        sizes = [int(told[key]) for key in ("0", "1", "2", "11") if int(told.get(key, "0")) > 0]
        product = 1 if sizes else 0
        for size in sizes:
            product *= size
        return product
    if kind not in _WEIGHTS:
        return 0
    weights, biases, switch = _WEIGHTS[kind]
    has_bias = int(told.get(switch, "0"))
    return int(told.get(weights, "0")) + (int(told.get(biases, "0")) if has_bias else 0)
