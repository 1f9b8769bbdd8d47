"""One model opened through a runtime's C API, with its samples bound, timed in C."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from assay.agent.native import abi
from assay.agent.native.tensors import (
    Array,
    TensorSpec,
    aligned_empty,
    batch_sizes,
    resolved,
    staged,
)
from assay.core.errors import BadInputs, RuntimeRejected, UsageError

Longs = npt.NDArray[np.int64]
Shapes = list[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Which library a session runs on: for the provenance of a result.

    ``types`` maps its element types to ours. ``resizable``: the runtime has one set of input shapes
    at a time, which need not be those it states of the model.
    """

    runtime: str
    version: str
    library: Path
    types: Mapping[int, tuple[str, str]]
    resizable: bool


class NativeSession:
    """Times a model in C. Close it, or use it in a ``with``; not for two threads at once."""

    def __init__(self, library: ctypes.CDLL, handle: int, origin: Origin) -> None:
        self.origin = origin
        self.ran_to_bind = False
        self._library = library
        self._handle = handle
        self._end = weakref.finalize(self, library.assay_close, handle)
        self._samples: list[list[Array]] = []
        self._outputs: list[list[Array]] = []
        self._order: Longs = np.zeros(0, dtype=np.int64)
        self._cursor = ctypes.c_int64(0)
        self.input_specs = self._describe(output=False)
        self.output_specs = self._describe(output=True)
        self._resized_to = self._stated_shapes()

    def undrivable(self) -> str:
        """Why the loop cannot drive this model; empty where it can."""
        for end, specs in (("input", self.input_specs), ("output", self.output_specs)):
            for spec in specs:
                if spec.dtype.itemsize == 0:
                    return f"{spec.element} tensors ({end} {spec.name})"
        return ""

    def bind(
        self, samples: Sequence[Mapping[str, Array]], order: npt.ArrayLike | None = None
    ) -> None:
        """Takes N distinct samples, each a value for every input, and makes room for the outputs.

        Queries walk over ``order`` (indices into ``samples``; each once where it is None), from its
        start again after its end. An array that is contiguous and 64-byte aligned is used where it
        lies, so leave it alone while bound; others are copied. Outputs of one shape share memory.

        Where a model leaves an output's shape open, other than a first dimension that an input
        names too, onnxruntime runs each sample once here, untimed, to learn it (``ran_to_bind``).
        LiteRT takes one shape for all samples. Raises BadInputs where a sample does not fit,
        RuntimeRejected where the runtime says so.
        """
        if not samples:
            raise BadInputs("no sample to bind")
        self._require_open()
        staged_samples = [self._stage(sample) for sample in samples]
        outputs = self._make_outputs(staged_samples)
        indices = np.arange(len(samples)) if order is None else np.asarray(order)
        self._order = np.ascontiguousarray(indices, dtype=np.int64).reshape(-1)
        if self._order.size == 0 or self._order.min() < 0 or self._order.max() >= len(samples):
            raise BadInputs(f"the order must name samples 0 to {len(samples) - 1}")
        inputs_c = self._tensors(self.input_specs, staged_samples)
        outputs_c = self._tensors(self.output_specs, outputs)
        self._check(self._library.assay_bind(self._handle, len(samples), inputs_c, outputs_c))
        self._samples, self._outputs = staged_samples, outputs
        self.seek(0)

    def seek(self, position: int) -> None:
        """The next query takes the sample at ``position`` of the order."""
        self._cursor = ctypes.c_int64(position % max(1, self._order.size))

    def run_block(
        self, queries: int, max_ns: int | None, out_ns: Longs, samples_per_query: int = 1
    ) -> int:
        """Times queries one after the other into ``out_ns``; returns how many were timed.

        Stops after ``queries``, or after the query that passes ``max_ns``; at most one query is
        longer than that. A query is ``samples_per_query`` calls. The GIL is free meanwhile, and
        Python's signal handlers wait for the end. Raises RuntimeRejected where a call fails.
        """
        _require_room(out_ns, queries)
        if samples_per_query < 1:
            raise UsageError("a query needs at least one sample")
        taken = ctypes.c_int64(0)
        status = self._library.assay_run_block(
            self._bound(), abi.longs(self._order), self._order.size, self._cursor,
            samples_per_query, queries, _limit(max_ns), abi.longs(out_ns), taken,
        )  # fmt: skip
        self._check(status)
        return taken.value

    def run_schedule(
        self, intended_ns: Longs, until_ns: int, started_ns: Longs, ended_ns: Longs
    ) -> int:
        """Runs one sample at each intended start (CLOCK_MONOTONIC, ascending): an open loop.

        A query whose start has passed begins at once; but for the first, none begins after
        ``until_ns``. Waits asleep until 0.2 ms before a start, then spins. Returns how many were
        run.
        """
        for array in (intended_ns, started_ns, ended_ns):
            _require_room(array, intended_ns.size)
        taken = ctypes.c_int64(0)
        status = self._library.assay_run_schedule(
            self._bound(), abi.longs(self._order), self._order.size, self._cursor,
            intended_ns.size, until_ns, abi.longs(intended_ns), abi.longs(started_ns),
            abi.longs(ended_ns), taken,
        )  # fmt: skip
        self._check(status)
        return taken.value

    def outputs(self, sample: int) -> dict[str, Array]:
        """What the model makes of one bound sample: runs it once, untimed, and copies."""
        self._require_sample(sample)
        self._check(self._library.assay_run(self._bound(), sample))
        return self.peek(sample)

    def peek(self, sample: int) -> dict[str, Array]:
        """What the last call left where this sample's outputs go; runs nothing, copies."""
        self._require_sample(sample)
        made = self._outputs[sample]
        return {
            spec.name: value.copy() for spec, value in zip(self.output_specs, made, strict=True)
        }

    def floor(self, queries: int = 10_000) -> Longs:
        """What the loop itself costs, in ns per query: the same block around a call of nothing."""
        out_ns = np.zeros(queries, dtype=np.int64)
        self._library.assay_floor(queries, abi.longs(out_ns))
        return out_ns

    def close(self) -> None:
        """Gives the model back; harmless when repeated."""
        self._end()
        self._samples, self._outputs = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _describe(self, *, output: bool) -> tuple[TensorSpec, ...]:
        name = ctypes.create_string_buffer(abi.NAME_BYTES)
        tensor = abi.Tensor()
        specs: list[TensorSpec] = []
        for index in range(self._library.assay_count(self._handle, int(output))):
            self._check(
                self._library.assay_describe(self._handle, int(output), index, name, tensor)
            )
            element, stored = self.origin.types.get(tensor.type, (_unknown(tensor.type), ""))
            dims = tuple(tensor.dims[axis] for axis in range(tensor.rank))
            dtype = np.dtype(stored) if stored else np.dtype("V0")
            specs.append(TensorSpec(name.value.decode(), element, dtype, dims, tensor.type))
        return tuple(specs)

    def _stated_shapes(self) -> tuple[Shapes, Shapes]:
        """Of inputs and outputs, as the model states them; empty where one is left open."""
        stated = (
            [spec.dims for spec in self.input_specs],
            [spec.dims for spec in self.output_specs],
        )
        is_open = any(size < 0 for shapes in stated for shape in shapes for size in shape)
        return ([], []) if is_open else stated

    def _stage(self, sample: Mapping[str, Array]) -> list[Array]:
        wanted = [spec.name for spec in self.input_specs]
        if set(sample) != set(wanted):
            raise BadInputs(f"the model takes {', '.join(wanted)}; the sample has {list(sample)}")
        resizable = self.origin.resizable
        return [
            staged(spec, np.asarray(sample[spec.name]), resizable=resizable)
            for spec in self.input_specs
        ]

    def _make_outputs(self, samples: list[list[Array]]) -> list[list[Array]]:
        """An array for each output of each sample; those of equal shape are one and the same."""
        known: dict[tuple[int, tuple[int, ...]], Array] = {}
        made: list[list[Array]] = []
        for shapes in self._output_shapes(samples):
            row: list[Array] = []
            for index, (spec, shape) in enumerate(zip(self.output_specs, shapes, strict=True)):
                if (index, shape) not in known:
                    known[index, shape] = aligned_empty(shape, spec.dtype)
                row.append(known[index, shape])
            made.append(row)
        return made

    def _output_shapes(self, samples: list[list[Array]]) -> list[Shapes]:
        self.ran_to_bind = False
        if not self.origin.resizable:
            return [self._shapes_for(sample) for sample in samples]
        wanted = [value.shape for value in samples[0]]
        if any([value.shape for value in sample] != wanted for sample in samples):
            raise BadInputs(f"{self.origin.runtime} needs samples of one shape")
        if wanted != self._resized_to[0]:
            self._resized_to = ([], [])
            self._resized_to = (wanted, self._asked_shapes(samples[0]))
        return [self._resized_to[1]] * len(samples)

    def _shapes_for(self, sample: list[Array]) -> Shapes:
        batches = batch_sizes(self.input_specs, sample)
        shapes = [resolved(spec, batches) for spec in self.output_specs]
        known = [shape for shape in shapes if shape is not None]
        if len(known) == len(shapes):
            return known
        self.ran_to_bind = True
        return self._asked_shapes(sample)

    def _asked_shapes(self, sample: list[Array]) -> Shapes:
        inputs = self._tensors(self.input_specs, [sample])
        outputs = (abi.Tensor * max(1, len(self.output_specs)))()
        self._check(self._library.assay_resize(self._handle, inputs, outputs))
        return [
            tuple(outputs[index].dims[axis] for axis in range(outputs[index].rank))
            for index in range(len(self.output_specs))
        ]

    def _tensors(
        self, specs: tuple[TensorSpec, ...], rows: list[list[Array]]
    ) -> ctypes.Array[abi.Tensor]:
        made = (abi.Tensor * max(1, len(rows) * len(specs)))()
        for at, row in enumerate(rows):
            for index, (spec, value) in enumerate(zip(specs, row, strict=True)):
                abi.fill(made[at * len(specs) + index], spec.code, value)
        return made

    def _check(self, status: int) -> None:
        if status != 0:
            reason = self._library.assay_message(self._handle).decode(errors="replace")
            raise RuntimeRejected(f"{self.origin.runtime} {self.origin.version}: {reason}")

    def _require_open(self) -> None:
        if not self._end.alive:
            raise UsageError("the native session is closed")

    def _require_sample(self, sample: int) -> None:
        self._bound()
        if not 0 <= sample < len(self._samples):
            raise UsageError(f"no sample {sample}: {len(self._samples)} are bound")

    def _bound(self) -> int:
        self._require_open()
        if not self._samples:
            raise UsageError("bind samples to the native session before running it")
        return self._handle


def _unknown(code: int) -> str:
    return f"element type {code}" if code else "non-tensor"


def _require_room(array: Longs, queries: int) -> None:
    usable = array.dtype == np.int64 and array.ndim == 1 and array.flags.c_contiguous
    if not usable or not array.flags.writeable or not 0 <= queries <= array.size:
        raise UsageError(f"times need a writable int64 array with room for {queries}")


def _limit(max_ns: int | None) -> int:
    return abi.FOREVER_NS if max_ns is None else max(0, min(max_ns, abi.FOREVER_NS))
