"""Golden outputs: what a file gave in the reference run on the controller.

The reference is the same artifact in the plain CPU build of its runtime, one thread, one sample at
a time. A device whose outputs lie outside the tolerance runs something else than what was built,
and never ranks. The tolerances say how far two right implementations of the same file may differ
(:func:`tolerance`).

The functions here load models into the calling process: call them in a process of their own for
files nobody has checked, since a damaged model can take its runtime down with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from assay.controller.inspection import ncnn_reference
from assay.controller.inspection.reference import Reference, open_reference
from assay.core.errors import BadInputs
from assay.core.model import MEDIA_NCNN
from assay.core.tensors import TensorSpec, convert, real_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLES = 16
_NO_STATE: Mapping[str, str] = MappingProxyType({})

Runner = Callable[["NDArray[np.float32]"], "list[NDArray[Any]]"]
"""Model inputs (N, ...) float32 → one float32 array (N, ...) per output."""

# (rtol, atol as a share of the largest golden output)
_TOLERANCES = {
    "fp32": (1e-3, 1e-4),
    "fp16": (1e-2, 1e-2),
    "int8-safe": (0.0, 0.05),
    "int8": (0.0, 0.25),
}


def tolerance(arithmetic: str, outputs: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """(rtol, atol) for ``|device - golden| <= atol + rtol * |golden|``; atol in output units.

    - ``fp32``: kernels add in another order, with or without fused multiply-add. Seen between
      LiteRT's three kernel sets on ResNet-8: 5e-7 of the largest output. 1e-4 leaves room for deep
      networks and is far below what a wrong weight does.
    - ``fp16``: CPUs without half kernels compute in float32, others round every sum to 11 bits.
    - ``int8-safe``: requantisation rounds in different places, and one step in an early layer
      spreads. Seen: 6e-3 between kernel sets and graph optimisation levels.
    - ``int8``: the same file can mean other arithmetic: u8 × s8 kernels without VNNI add pairs of
      products in 16 bits and saturate. Seen on one CPU between saturating and exact kernels: 0.18.
      A quarter of the range still tells a wrong file, layout or preprocessing from the right one;
      accuracy, measured on the device, tells the rest.
    """
    rtol, share = _TOLERANCES[arithmetic]
    largest = max((float(abs(output).max()) for output in outputs if output.size), default=0.0)
    return rtol, share * (largest or 1.0)


def tolerances(
    arithmetic: str, outputs: Sequence[NDArray[Any]], specs: Sequence[TensorSpec]
) -> list[tuple[float, float]]:
    """(rtol, atol) for each output, by its type: floats and quantised outputs as :func:`tolerance`
    says but quantised ones at least to a step, bytes that stand for themselves to one, all other
    whole numbers, truth values and text exactly."""
    found = []
    for output, spec in zip(outputs, specs, strict=True):
        if output.dtype.kind == "f":
            finite = output[_finite(output)]
            rtol, atol = tolerance(_no_finer(arithmetic, spec), [finite])
            # A value between two steps may go to either.
            found.append((rtol, max(atol, 1.01 * spec.scale)))
        else:
            small = output.dtype.kind in "iu" and output.dtype.itemsize == 1
            found.append((0.0, 1.0) if small else (0.0, 0.0))
    return found


def golden_arrays(
    reference: Reference,
    samples: Mapping[str, NDArray[Any]],
    arithmetic: str,
    state: Mapping[str, str] = _NO_STATE,
    on_sample: Callable[[int], None] = lambda _: None,
) -> dict[str, NDArray[Any]]:
    """The golden file of a model with inputs of its own: the first samples by input, ``output_0``,
    ... as the reference gave them (quantised ones as real values), ``tolerances``.

    ``state`` is passed on from sample to sample, and what was passed on stands in the file, so that
    a device's errors do not add up. NaN and infinities are golden too: a device must give them at
    the same places. Where outputs change their shape from sample to sample, the first sample alone
    is golden. :class:`BadInputs` where state does not fit the input it goes to.
    """
    import numpy as np

    kept = {name: column[:SAMPLES].copy() for name, column in samples.items()}
    rows: list[list[NDArray[Any]]] = []
    for i in range(min(len(column) for column in kept.values())):
        feed = {spec.name: sample(kept[spec.name], i, spec) for spec in reference.inputs}
        row = real_values(reference.run(feed), reference.outputs)
        if rows and [one.shape for one in row] != [one.shape for one in rows[0]]:
            rows = rows[:1]
            break
        rows.append([one.astype(str) if one.dtype.kind == "O" else one for one in row])
        _pass_on(reference, state, row, kept, feed, i + 1)
        on_sample(i + 1)
    outputs = [np.stack(column) for column in zip(*rows, strict=True)]
    limits = np.asarray(tolerances(arithmetic, outputs, reference.outputs), dtype=np.float64)
    return {
        **{name: column[: len(rows)] for name, column in kept.items()},
        **{f"output_{i}": output for i, output in enumerate(outputs)},
        "tolerances": limits.reshape(len(outputs), 2),
    }


def _pass_on(
    reference: Reference,
    state: Mapping[str, str],
    row: Sequence[NDArray[Any]],
    kept: Mapping[str, NDArray[Any]],
    feed: Mapping[str, NDArray[Any]],
    into: int,
) -> None:
    """Writes what the sample before gave into the next one's state."""
    names = [spec.name for spec in reference.outputs]
    for name, output in state.items():
        value = row[names.index(output)]
        if value.shape != feed[name].shape:
            raise BadInputs(
                f"state.{name}: output {output} has the shape {value.shape}, the input "
                f"{feed[name].shape}: state that grows or changes its shape cannot be passed on"
            )
        if into < len(kept[name]):
            spec = next(one for one in reference.inputs if one.name == name)
            kept[name][into] = convert(value, spec).reshape(kept[name].shape[1:])


def sample(column: NDArray[Any], row: int, spec: TensorSpec) -> NDArray[Any]:
    """One value of an input from its samples, which hold a batch of one or whole values."""
    value = column[row : row + 1] if column.ndim == len(spec.shape) else column[row, ...]
    return convert(value, spec)


def reference_runner(path: Path, media_type: str, operators: str = "") -> Runner:
    """The file loaded into its reference runtime, as a function of a dataset's samples.

    :class:`RuntimeAbsent` where that is not installed, :class:`RuntimeRejected` where it refuses
    the file. The runner raises :class:`BadInputs` where samples do not fit the model.
    """
    import numpy as np

    if media_type == MEDIA_NCNN:
        return ncnn_reference.reference_runner(path)
    reference = open_reference(path, media_type, operators)
    _require_one_input(path, [spec.name for spec in reference.inputs])
    (spec,) = reference.inputs

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        _require_fit(path, spec.shape, x)
        rows = [
            real_values(reference.run({spec.name: convert(x[i : i + 1], spec)}), reference.outputs)
            for i in range(len(x))
        ]
        return [np.concatenate(parts).astype(np.float32) for parts in zip(*rows, strict=True)]

    return run


def _finite(output: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    finite: NDArray[Any] = np.isfinite(output)
    return finite


def _no_finer(arithmetic: str, spec: TensorSpec) -> str:
    """A half is not held to what a float can tell."""
    return "fp16" if spec.dtype == "float16" and arithmetic == "fp32" else arithmetic


def _require_one_input(path: Path, names: Sequence[str]) -> None:
    if len(names) != 1:
        raise BadInputs(
            f"{path.name}: it has {len(names)} inputs ({', '.join(names)}), a dataset feeds one: "
            "add it with --inputs instead"
        )


def _require_fit(path: Path, shape: Sequence[int | None], x: NDArray[Any]) -> None:
    wanted = "×".join("?" if size is None else str(size) for size in shape)
    if shape and shape[0] not in (None, 1):
        raise BadInputs(
            f"{path.name}: its input is {wanted}: export it with a batch of 1 or a free one"
        )
    fits = len(shape) == x.ndim and all(
        size in (None, found) for size, found in zip(shape[1:], x.shape[1:], strict=False)
    )
    if not fits:
        given = "×".join(str(size) for size in x.shape[1:])
        raise BadInputs(
            f"{path.name}: its input is {wanted}, but samples of the dataset are {given} after "
            "preprocessing: change the dataset's preprocessing or export the model to fit"
        )
