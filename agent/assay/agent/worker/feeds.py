"""From stored samples to the arrays a model takes: choosing, arranging, converting; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInputs, BadMessage
from assay.core.npz import read_npz
from assay.core.preprocess import Preprocessing
from assay.core.tensors import STRING, TensorSpec, convert

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

MAX_QUERIES = 64
_MAX_BYTES = 64 << 20


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz; :class:`BadInputs` where it is none."""
    try:
        return read_npz(path)
    except BadMessage as error:
        raise BadInputs(str(error)) from error


class Dataset:
    """Samples as a model takes them.

    An array named like an input of the model is taken as it is; the model's only input may also
    come from ``x``, through ``preprocessing`` (whatever the model calls it, ``x`` included).
    """

    def __init__(
        self, arrays: Arrays, preprocessing: Preprocessing, inputs: Sequence[TensorSpec]
    ) -> None:
        self._inputs = tuple(inputs)
        self._preprocessing = preprocessing
        self._columns = _columns(arrays, self._inputs)
        # "x" is a dataset's own name for its samples, also where a model calls its input so.
        only = self._inputs[0].name if len(self._inputs) == 1 else ""
        self._raw_x = bool(only) and (only == "x" or only not in arrays)
        lengths = {len(column) for column in self._columns}
        if len(lengths) != 1 or lengths == {0}:
            raise BadInputs(f"the inputs hold {sorted(lengths)} samples: equal counts are needed")
        self._n = lengths.pop()
        # An input may be called "y" too; then the file has no labels.
        named = {spec.name for spec in self._inputs}
        self.labels = None if "y" in named else _labels(arrays, self._n)

    def __len__(self) -> int:
        return self._n

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample, as the model takes it at most."""
        return sum(column[0].size * 8 for column in self._columns)

    @property
    def batch(self) -> int:
        """How many samples one call takes: one where it may be, else what the model fixes."""
        first = self._inputs[0].shape[:1] if self._inputs else ()
        return 1 if self.takes(1) or not first or first[0] is None else first[0]

    def takes(self, batch: int) -> bool:
        """Whether the model takes ``batch`` samples in one call."""
        try:
            self.feed([0] * batch, batch)
        except BadInputs:
            return False
        return True

    def feed(self, rows: Sequence[int], batch: int) -> dict[str, NDArray[Any]]:
        """The samples at ``rows`` as one batch; ``batch`` is how many the model has to take."""
        found = {}
        for spec, column in zip(self._inputs, self._columns, strict=True):
            chosen = column[list(rows)]
            if self._raw_x:
                chosen = self._prepare(chosen, spec)
            found[spec.name] = fit(chosen, spec, batch)
        return found

    def _prepare(self, samples: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
        """Preprocessing gives float32; where there is nothing to do, integers stay integers."""
        plain = samples.dtype == spec.dtype or samples.dtype.kind == "U"
        if self._preprocessing == Preprocessing() and plain:
            return samples
        return self._preprocessing.apply(samples)


def choose_rows(n: int, batch: int, sample_bytes: int, seed: int) -> list[list[int]]:
    """Distinct rows for the queries that will be timed, in a seeded order: up to 64 queries of
    ``batch`` samples and 64 MiB; a dataset smaller than a batch repeats."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(n)
    queries = min(MAX_QUERIES, max(n // batch, 1), max(_MAX_BYTES // max(sample_bytes, 1), 1))
    rows = np.resize(order, queries * batch).reshape(queries, batch)
    return [[int(row) for row in group] for group in rows]


def fit(samples: NDArray[Any], spec: TensorSpec, batch: int) -> NDArray[Any]:
    """``samples`` (batch, ...) in the shape and type of ``spec``, contiguous;
    :class:`BadInputs` where they are something else."""
    import numpy as np

    if len(spec.shape) == samples.ndim - 1 and batch == 1:
        arranged = _arrange(samples, (None, *spec.shape), spec)[0]
    else:
        arranged = _arrange(samples, spec.shape, spec)
    # Not ascontiguousarray, which makes a scalar one-dimensional.
    return np.asarray(convert(np.asarray(arranged), spec), order="C")


def _columns(arrays: Arrays, inputs: Sequence[TensorSpec]) -> list[NDArray[Any]]:
    by_name = [arrays.get(spec.name) for spec in inputs]
    found = [column for column in by_name if column is not None]
    if len(found) != len(inputs) and len(inputs) == 1 and "x" in arrays:
        found = [arrays["x"]]
    if len(found) != len(inputs):
        raise BadInputs(
            f"the model takes {', '.join(str(spec) for spec in inputs)}; the inputs file has "
            f"{', '.join(sorted(arrays))}: name its arrays like the model's inputs"
        )
    for spec, column in zip(inputs, found, strict=True):
        wanted, kinds = ("text", "U") if spec.dtype == STRING else ("numbers", "buif")
        if column.ndim < 1 or column.dtype.kind not in kinds:
            kind = f"{column.dtype} of shape {column.shape}"
            raise BadInputs(f"input {spec.name} is given {kind}: {wanted} (N, ...) are needed")
    return found


def _labels(arrays: Arrays, n: int) -> NDArray[np.int64] | None:
    import numpy as np

    labels = arrays.get("y")
    if labels is None or labels.dtype.kind not in "ui":
        return None
    if labels.shape != (n,):
        raise BadInputs(f"y has shape {labels.shape} for {n} samples: one class each is needed")
    return labels.astype(np.int64)


def _arrange(
    samples: NDArray[Any], wanted: tuple[int | None, ...], spec: TensorSpec
) -> NDArray[Any]:
    """Moves no sample's values but to put channels last (or first) where only that fits."""
    import numpy as np

    given = samples.shape
    if _matches(given, wanted):
        return samples
    inner = wanted[1:]
    if (
        wanted
        and wanted[0] in (None, len(samples))
        and None not in inner
        and [size for size in given[1:] if size != 1] == [size for size in inner if size != 1]
    ):
        return samples.reshape(len(samples), *inner)
    if samples.ndim == 4:
        for axis, target in ((1, -1), (-1, 1)):
            moved = np.moveaxis(samples, axis, target)
            if _matches(moved.shape, wanted):
                return moved
    hint = ""
    if wanted and wanted[0] not in (None, len(samples)):
        hint = f": it takes {wanted[0]} samples a query, set samples_per_query = {wanted[0]}"
    raise BadInputs(f"samples of shape {given} do not fit input {spec}{hint}")


def _matches(given: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(given) == len(wanted) and all(
        size in (None, got) for size, got in zip(wanted, given, strict=True)
    )
