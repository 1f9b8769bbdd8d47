"""Models of many kinds that nobody here trained: what goes in and comes out differs in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import need
from tests.tinymodels import save_onnx


def weight(name: str, *shape: int) -> Any:
    """Seeded float32 weights."""
    from onnx import numpy_helper

    values = np.random.default_rng(len(name) + sum(shape)).normal(0, 0.3, shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def info(name: str, kind: str, *shape: int | str) -> Any:
    """An input or output: kind is TensorProto's name of the type."""
    need(module="onnx")
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, getattr(TensorProto, kind), list(shape))


def text(path: Path) -> Path:
    """ids and mask (batch, sequence) -> logits and their label."""
    need(module="onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "axis"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["masked"]),
        helper.make_node("ReduceMean", ["masked"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["pooled", "w"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    ins = [info(name, "INT64", "batch", "sequence") for name in ("ids", "mask")]
    outs = [info("logits", "FLOAT", "batch", 4), info("label", "INT64", "batch")]
    stored = [weight("table", 100, 16), weight("w", 16, 4)]
    stored.append(numpy_helper.from_array(np.array([2]), "axis"))
    return save_onnx(path, nodes, ins, outs, stored)


def narrow(path: Path) -> Path:
    """x (batch, sequence) -> y; no sequence but 32 runs, which the file does not say."""
    need(module="onnx")
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    ends = [info("x", "FLOAT", "batch", "sequence"), info("y", "FLOAT", "batch", 4)]
    return save_onnx(path, nodes, ends[:1], ends[1:], [weight("w", 32, 4)])


def recurrent(path: Path) -> Path:
    """frame and state h -> y and the next h."""
    need(module="onnx")
    from onnx import helper

    nodes = [
        helper.make_node("MatMul", ["frame", "wx"], ["a"]),
        helper.make_node("MatMul", ["h", "wh"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Tanh", ["c"], ["h_out"]),
        helper.make_node("MatMul", ["h_out", "wo"], ["y"]),
    ]
    ins = [info("frame", "FLOAT", 1, 40), info("h", "FLOAT", 1, 32)]
    outs = [info("y", "FLOAT", 1, 5), info("h_out", "FLOAT", 1, 32)]
    stored = [weight("wx", 40, 32), weight("wh", 32, 32), weight("wo", 32, 5)]
    return save_onnx(path, nodes, ins, outs, stored)


def cache(path: Path) -> Path:
    """A token and what came before -> y and one more of what came before, as decoders do it."""
    need(module="onnx")
    from onnx import helper

    nodes = [
        helper.make_node("Concat", ["past", "token"], ["present"], axis=1),
        helper.make_node("ReduceMean", ["present"], ["y"], axes=[1], keepdims=0),
    ]
    ins = [info("past", "FLOAT", 1, "past_length", 8), info("token", "FLOAT", 1, 1, 8)]
    outs = [info("y", "FLOAT", 1, 8), info("present", "FLOAT", 1, "total_length", 8)]
    return save_onnx(path, nodes, ins, outs)


def table(path: Path) -> Path:
    """A row of several types -> a number and the row's name."""
    need(module="onnx")
    from onnx import TensorProto, helper

    typed = {"flag": "BOOL", "wide": "DOUBLE", "half": "FLOAT16", "small": "INT8", "big": "UINT8"}
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT) for name in typed
    ]
    nodes.append(helper.make_node("Sum", [f"{name}_f" for name in typed], ["score"]))
    nodes.append(helper.make_node("Identity", ["name"], ["called"]))
    ins = [info(name, kind, "N", 3) for name, kind in typed.items()]
    ins.append(info("name", "STRING", "N", 1))
    outs = [info("score", "FLOAT", "N", 3), info("called", "STRING", "N", 1)]
    return save_onnx(path, nodes, ins, outs)


def outside(path: Path) -> Path:
    """A dense layer whose weights lie in deep/weights.bin beside it."""
    need(module="onnx")
    import onnx
    from onnx import helper

    x, y = info("x", "FLOAT", "N", 64), info("y", "FLOAT", "N", 64)
    save_onnx(
        path, [helper.make_node("MatMul", ["x", "w"], ["y"])], [x], [y], [weight("w", 64, 64)]
    )
    (path.parent / "deep").mkdir(exist_ok=True)
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="deep/weights.bin",
        size_threshold=0,
    )
    return path


def branching(path: Path) -> Path:
    """A Loop inside an If: x doubled three times where its sum is above zero, else negated."""
    need(module="onnx")
    from onnx import helper, numpy_helper

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["v", "v"], ["v_out"]),
        ],
        "body",
        [info("i", "INT64"), info("go", "BOOL"), info("v", "FLOAT", 1, 8)],
        [info("go_on", "BOOL"), info("v_out", "FLOAT", 1, 8)],
    )
    looped = helper.make_graph(
        [helper.make_node("Loop", ["three", "yes", "x"], ["l"], body=body)],
        "then",
        [],
        [info("l", "FLOAT", 1, 8)],
    )
    negated = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["n"])], "else", [], [info("n", "FLOAT", 1, 8)]
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["above"]),
        helper.make_node("If", ["above"], ["y"], then_branch=looped, else_branch=negated),
    ]
    stored = [
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.array(3), "three"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    return save_onnx(path, nodes, [info("x", "FLOAT", 1, 8)], [info("y", "FLOAT", 1, 8)], stored)


def logarithm(path: Path) -> Path:
    """Gives NaN for what is below zero."""
    need(module="onnx")
    from onnx import helper

    ends = [info(name, "FLOAT", "N", 16) for name in "xy"]
    return save_onnx(path, [helper.make_node("Log", ["x"], ["y"])], ends[:1], ends[1:])


def endless(path: Path) -> Path:
    """A Loop without an end."""
    need(module="onnx")
    from onnx import helper, numpy_helper

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["v", "v"], ["v_out"]),
        ],
        "body",
        [info("i", "INT64"), info("go", "BOOL"), info("v", "FLOAT", 1)],
        [info("go_on", "BOOL"), info("v_out", "FLOAT", 1)],
    )
    node = helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)
    yes = numpy_helper.from_array(np.array(True), "yes")
    return save_onnx(path, [node], [info("x", "FLOAT", 1)], [info("y", "FLOAT", 1)], [yes])


def greedy(path: Path) -> Path:
    """As many floats as n says, summed up."""
    need(module="onnx")
    from onnx import helper

    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["sum"], keepdims=0),
    ]
    return save_onnx(path, nodes, [info("n", "INT64", 1)], [info("sum", "FLOAT")])
