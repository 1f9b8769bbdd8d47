"""Inputs of a model's own, where no dataset feeds it: made, read from files, and run for golden
outputs. Runs in the build process, beside the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.controller.datasets.npz import read_npz
from assay.core.dims import Sizes, settle
from assay.core.errors import UsageError
from assay.core.synthetic import SAMPLES, SYNTHETIC, Rule, check_rules, describe, make_inputs
from assay.core.tensors import STRING, TensorSpec, convert

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FromFile:
    """Values of one input in an .npz."""

    path: str
    array: str
    digest: str


@dataclass(frozen=True, slots=True)
class Declared:
    """What is said of a model's inputs: see :mod:`assay.controller.variants.inputs_file`."""

    seed: int = 0
    samples: int = SAMPLES
    dims: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    files: Mapping[str, FromFile] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """What :meth:`from_json` reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Declared:
        """The inverse of :meth:`to_json`."""
        raw = json.loads(text)
        rules = {
            name: Rule(**{**rule, "lengths": tuple(rule["lengths"]) if rule["lengths"] else None})
            for name, rule in raw.pop("rules").items()
        }
        files = {name: FromFile(**one) for name, one in raw.pop("files").items()}
        return cls(**raw, rules=rules, files=files)

    def identity(self) -> dict[str, Any]:
        """What the values depend on; not where files lie."""
        told = json.loads(self.to_json())
        for one in told["files"].values():
            del one["path"]
        return dict(told)


@dataclass(frozen=True, slots=True)
class OwnInputs:
    """Samples of every input along axis 0; ``dataset`` names where they are from, ``made_json``
    says how they were made."""

    arrays: Mapping[str, NDArray[Any]]
    sizes: Sizes
    dataset: str
    made_json: str


def make(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], declared: Declared
) -> OwnInputs:
    """The samples for a model; :class:`UsageError` lists everything declared that does not fit
    it."""
    _check(inputs, outputs, declared)
    read = {name: _read(name, one) for name, one in declared.files.items()}
    sizes = settle(inputs, {**_dims_of(inputs, read), **declared.dims})
    rules = {**{name: Rule(constant=0.0) for name in declared.state}, **declared.rules}
    made = make_inputs(inputs, sizes, declared.seed, rules, declared.samples)
    for spec in inputs:
        if spec.name in read:
            made[spec.name] = _fitted(read[spec.name], spec, sizes)
    count = min(len(column) for column in made.values())
    arrays = {spec.name: made[spec.name][:count] for spec in inputs}
    invented = [s for s in inputs if s.name not in read and s.name not in declared.state]
    told = json.loads(describe(inputs, sizes, declared.seed, rules))
    for name, one in declared.files.items():
        told["inputs"][name]["values"] = f"{Path(one.path).name}: {one.array} ({one.digest})"
    stem = next((Path(one.path).stem for one in declared.files.values()), SYNTHETIC)
    return OwnInputs(
        arrays,
        sizes,
        SYNTHETIC if invented or not read else stem,
        json.dumps(told, sort_keys=True, separators=(",", ":")),
    )


def _check(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], declared: Declared) -> None:
    there = {spec.name for spec in inputs}
    listed = ", ".join(str(spec) for spec in inputs)
    problems = check_rules(inputs, declared.rules)
    problems += [
        f"inputs.{name}: the model has no such input; it takes {listed}"
        for name in declared.files
        if name not in there
    ]
    results = [spec.name for spec in outputs]
    for name, output in declared.state.items():
        if name not in there:
            problems.append(f"state.{name}: the model has no such input; it takes {listed}")
        if output not in results:
            problems.append(
                f"state.{name}: the model has no output {output!r}; it gives {', '.join(results)}"
            )
    reserved = sorted(n for n in there if n.startswith("output_") or n == "tolerances")
    if reserved:
        problems.append(f"input {reserved[0]}: golden files use this name; rename the input")
    if problems:
        raise UsageError("\n".join(problems))


def _read(name: str, source: FromFile) -> NDArray[Any]:
    arrays = read_npz(Path(source.path))
    if source.array not in arrays:
        raise UsageError(
            f"inputs.{name}.array: {source.path} has no {source.array!r}; it has "
            f"{', '.join(sorted(arrays))}"
        )
    found = arrays[source.array]
    if found.ndim < 1 or not len(found):
        raise UsageError(f"inputs.{name}.values: {source.array} holds no samples")
    return found


def _dims_of(inputs: Sequence[TensorSpec], read: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """The open dimensions that values from files settle: all but a batch of their first axis."""
    found: dict[str, int] = {}
    for spec in inputs:
        values = read.get(spec.name)
        if values is None:
            continue
        shape = values.shape if values.ndim == len(spec.shape) else values.shape[1:]
        for axis, size in enumerate(shape[: len(spec.shape)]):
            if spec.shape[axis] is None and (axis or (values.ndim > len(spec.shape) and size > 1)):
                found[spec.dimension(axis)] = size
    return found


def _fitted(values: NDArray[Any], spec: TensorSpec, sizes: Sizes) -> NDArray[Any]:
    """Values from a file in the layout that all of the model's samples have."""
    wanted = sizes.shapes[spec.name]
    if values.shape[1:] != wanted:
        # A batch of one is there on one side only.
        inner = [size for size in wanted if size != 1]
        if [size for size in values.shape[1:] if size != 1] != inner:
            raise UsageError(
                f"inputs.{spec.name}.values: samples are {values.shape[1:]}, the model's input "
                f"{spec} takes {wanted}"
            )
        values = values.reshape(len(values), *wanted)
    if spec.dtype == STRING:
        return values.astype(str)
    return convert(values, spec)
