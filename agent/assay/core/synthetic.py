"""Inputs made up from what is declared of a model, seeded: for speed and memory, not for accuracy.

Results over them are labelled ``synthetic_input`` and record how the values were made. Controller
and device make the same values from the same declaration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from assay.core.dims import Sizes, open_dims
from assay.core.errors import UsageError
from assay.core.tensors import STRING, TensorSpec, convert

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SYNTHETIC = "synthetic"
"""The name of a dataset that was made up."""
SAMPLES = 32

_MAX_BYTES = 64 << 20
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Rule:
    """How the values of one input are made; nothing set means by its type.

    ``low`` and ``high`` bound uniform values (whole numbers include both); real values of a
    quantised input. ``constant`` is one value everywhere. ``lengths`` draws how much of axis 0 of a
    sample is in use, the rest being ``padding``; ``mask_of`` and ``length_of`` name the input whose
    length this one tells, as ones and zeros or as a number.
    """

    low: float | None = None
    high: float | None = None
    constant: float | None = None
    lengths: tuple[int, int] | None = None
    padding: float = 0.0
    mask_of: str = ""
    length_of: str = ""


_NO_RULES: Mapping[str, Rule] = MappingProxyType({})


def make_inputs(
    inputs: Sequence[TensorSpec],
    sizes: Sizes,
    seed: int,
    rules: Mapping[str, Rule] = _NO_RULES,
    samples: int = SAMPLES,
) -> dict[str, NDArray[Any]]:
    """``samples`` of every input along axis 0, fewer where they would not fit 64 MiB.

    By type: floats are standard normal; bytes and quantised integers span their range; other whole
    numbers are 0 or 1, which any index takes; texts are short words. Each input has a stream of its
    own, so that one more rule changes no other input. :class:`UsageError` where a rule does not fit
    its input.
    """
    import numpy as np

    one = sum(int(np.prod(sizes.shapes[spec.name], dtype=np.int64)) * 8 for spec in inputs)
    samples = max(min(samples, _MAX_BYTES // max(one, 1)), 1)
    lengths = {
        spec.name: _lengths(np.random.default_rng([seed, 1, i]), spec, sizes, rules, samples)
        for i, spec in enumerate(inputs)
    }
    made: dict[str, NDArray[Any]] = {}
    for i, spec in enumerate(inputs):
        rule = rules.get(spec.name, Rule())
        shape = (samples, *sizes.shapes[spec.name])
        told = rule.mask_of or rule.length_of
        if told:
            values = _told(rule, lengths[told], shape, spec)
        else:
            values = _values(np.random.default_rng([seed, 0, i]), spec, rule, shape)
            if rule.lengths is not None:
                values = _padded(values, lengths[spec.name], rule, sizes.batched)
        made[spec.name] = convert(values, spec) if spec.dtype != STRING else values
    return made


def describe(
    inputs: Sequence[TensorSpec],
    sizes: Sizes,
    seed: int,
    rules: Mapping[str, Rule] = _NO_RULES,
) -> str:
    """How the values were made, as the JSON that a result records."""
    told = {
        "seed": seed,
        "dims": dict(sizes.dims),
        "open": list(open_dims(inputs)),
        "proposed": sorted(sizes.proposed),
        "inputs": {
            spec.name: {
                "dtype": spec.dtype,
                "shape": list(sizes.shapes[spec.name]),
                "values": _words(spec, rules.get(spec.name, Rule())),
            }
            for spec in inputs
        },
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def check_rules(inputs: Sequence[TensorSpec], rules: Mapping[str, Rule]) -> list[str]:
    """What is wrong with rules for this model, each with its path; empty if nothing is."""
    there = {spec.name: spec for spec in inputs}
    listed = ", ".join(str(spec) for spec in inputs)
    problems = []
    for name, rule in rules.items():
        path = f"inputs.{name}"
        spec = there.get(name)
        if spec is None:
            problems.append(f"{path}: the model has no such input; it takes {listed}")
            continue
        for key in ("mask_of", "length_of"):
            told = getattr(rule, key)
            if told and told not in there:
                problems.append(f"{path}.{key}: the model has no input {told!r}; it takes {listed}")
        if spec.dtype == STRING and rule != Rule():
            problems.append(f"{path}: {spec.dtype} has no range: give values from a file")
    return problems


def _values(
    rng: np.random.Generator, spec: TensorSpec, rule: Rule, shape: tuple[int, ...]
) -> NDArray[Any]:
    import numpy as np

    if rule.constant is not None:
        return np.full(shape, rule.constant)
    if rule.low is not None and rule.high is not None:
        return _between(rng, spec, rule.low, rule.high, shape)
    if spec.dtype == STRING:
        words = ["".join(rng.choice(list(_LETTERS), 6)) for _ in range(int(np.prod(shape)))]
        return np.array(words, dtype="U6").reshape(shape)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind in "ui" and (spec.scale or dtype.itemsize == 1):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)


def _between(
    rng: np.random.Generator, spec: TensorSpec, low: float, high: float, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Whole numbers for whole types, unless they stand for real values."""
    import numpy as np

    if np.dtype(spec.dtype).kind in "uib" and not spec.scale:
        return rng.integers(int(low), int(high), shape, endpoint=True)
    return rng.uniform(low, high, shape).astype(np.float32)


def _lengths(
    rng: np.random.Generator,
    spec: TensorSpec,
    sizes: Sizes,
    rules: Mapping[str, Rule],
    samples: int,
) -> NDArray[Any]:
    """How much of its longest axis, the sequence, each sample uses."""
    import numpy as np

    rule = rules.get(spec.name, Rule())
    longest = _sequence(sizes.shapes[spec.name], sizes.batched)[1]
    low, high = rule.lengths or (longest, longest)
    if high > longest:
        raise UsageError(
            f"inputs.{spec.name}.lengths: up to {high}, but input {spec} holds {longest}"
        )
    return np.asarray(rng.integers(low, high, samples, endpoint=True))


def _sequence(shape: tuple[int, ...], batched: bool) -> tuple[int, int]:
    """Which axis of a sample is the sequence, and its size: the first that is no batch of one."""
    for axis, size in enumerate(shape):
        if batched or axis or size != 1 or len(shape) == 1:
            return axis, size
    return 0, 1


def _padded(values: NDArray[Any], lengths: NDArray[Any], rule: Rule, batched: bool) -> NDArray[Any]:
    import numpy as np

    axis, size = _sequence(values.shape[1:], batched)
    used = np.arange(size) < lengths[:, None]
    shape = [len(values)] + [size if i == axis else 1 for i in range(values.ndim - 1)]
    return np.where(used.reshape(shape), values, np.asarray(rule.padding, dtype=values.dtype))


def _told(
    rule: Rule, lengths: NDArray[Any], shape: tuple[int, ...], spec: TensorSpec
) -> NDArray[Any]:
    import numpy as np

    if rule.length_of:
        column = lengths.reshape(-1, *(1 for _ in shape[1:]))
        return np.broadcast_to(column, shape).copy()
    if len(shape) < 2 or shape[-1] < int(lengths.max(initial=0)):
        raise UsageError(f"inputs.{spec.name}.mask_of: {spec} is shorter than {rule.mask_of}")
    used = np.arange(shape[-1]) < lengths[:, None]
    column = used.reshape(len(lengths), *(1 for _ in shape[1:-1]), shape[-1])
    return np.broadcast_to(column, shape).astype(np.int64)


def _words(spec: TensorSpec, rule: Rule) -> str:
    """The rule, for people and for whoever has to make the values again."""
    if rule != Rule():
        plain = asdict(Rule())
        given = {key: value for key, value in asdict(rule).items() if value != plain[key]}
        return ", ".join(f"{key} {value}" for key, value in given.items())
    if spec.dtype == STRING:
        return "words"
    if spec.dtype.startswith("float"):
        return "normal"
    quantised = spec.scale or spec.dtype in ("int8", "uint8")
    return "whole range" if quantised else "0 or 1"
