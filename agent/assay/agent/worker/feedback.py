"""State passed in and out: what a query gave becomes, untimed, an input of the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.agent.runtimes.base import Bound, Call
from assay.core.errors import BadInputs
from assay.core.tensors import TensorSpec, convert, real_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.agent.runtimes.base import Feed


def fed_back(
    bound: Bound,
    feeds: Sequence[Feed],
    state: Mapping[str, str],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> Bound:
    """``bound`` with stages that copy the outputs named in ``state`` (input to output) of the last
    call into the inputs of the next. Each pass over the queries is a sequence of its own and begins
    with the state of its first sample.

    :class:`BadInputs` where the model has no such input or output, where their shapes differ, or
    where the runtime keeps inputs to itself once they are bound.
    """
    if not bound.rewritable:
        raise BadInputs("this runtime copies its inputs when they are bound: it takes no state")
    ends = {name: _ends(name, output, inputs, outputs) for name, output in state.items()}
    first = {name: feeds[0][name].copy() for name in state}
    stages = [
        _stage(bound, i, feed, ends, first if i == 0 else None) for i, feed in enumerate(feeds)
    ]
    return dataclasses.replace(bound, stages=tuple(stages))


def _ends(
    name: str, output: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[TensorSpec, int, TensorSpec]:
    into = next((spec for spec in inputs if spec.name == name), None)
    index = next((i for i, spec in enumerate(outputs) if spec.name == output), None)
    if into is None or index is None:
        what = f"input {name}" if into is None else f"output {output}"
        raise BadInputs(f"state {name} = {output}: the model has no {what}")
    return into, index, outputs[index]


def _stage(
    bound: Bound,
    i: int,
    feed: Feed,
    ends: Mapping[str, tuple[TensorSpec, int, TensorSpec]],
    first: Feed | None,
) -> Call:
    before = bound.stages[i] if bound.stages is not None else None

    def stage() -> None:
        if first is not None:
            for name, value in first.items():
                feed[name][...] = value
        else:
            gave = bound.outputs(i - 1)
            for name, (into, index, out) in ends.items():
                _put(feed[name], gave[index], into, out)
        if before is not None:
            before()

    return stage


def _put(target: NDArray[Any], value: NDArray[Any], into: TensorSpec, out: TensorSpec) -> None:
    if value.shape != target.shape:
        raise BadInputs(
            f"state: output {out.name} is {value.shape}, input {into.name} {target.shape}: state "
            "that grows or changes its shape cannot be passed on"
        )
    alike = (into.dtype, into.scale, into.zero_point) == (out.dtype, out.scale, out.zero_point)
    target[...] = value if alike else convert(real_values([value], [out])[0], into)
