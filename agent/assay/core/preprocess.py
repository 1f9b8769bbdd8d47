"""From stored samples to model inputs, by the same few lines on controller and device.

A dataset keeps raw samples (``uint8`` images); what a model eats is described by a small JSON
object that travels with the dataset. All keys are optional and are applied in this order:

``shape``      list of ints: every sample is reshaped to it, e.g. ``[1, 28, 28]`` adds a channel
``transpose``  list of ints: order of the sample's axes, e.g. ``[2, 0, 1]`` for HWC to CHW
``resize``     list of a size or null per sample axis: brought to it, e.g. ``[null, 64, 64]``
``crop``       list of a size or null per sample axis: the middle is kept
``pad``        list of ``[before, after]`` per sample axis, filled with raw zeros
``scale``      number: multiplies, e.g. ``0.00392156862745098`` for bytes to 0..1
``log_mel``    object of ``rate_hz``, ``window``, ``hop``, ``bands``, ``low_hz``, ``high_hz`` and
               perhaps ``floor``: sounds (..., frames) become log mel energies (..., steps, bands)
``mean``       number, or a list along ``channel_axis``: subtracted
``std``        number, or a list along ``channel_axis``: divides
``channel_axis``  int, default 0: the sample's axis the lists run along

The result is always ``float32``. Every step but ``log_mel`` is a fixed order of IEEE operations per
element, so that two machines compute identical bytes; :mod:`assay.core.log_mel` rounds once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from assay.core import resample
from assay.core.errors import BadInputs, SpecError
from assay.core.log_mel import LogMel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SOURCE = "preprocessing"
_KEYS = (
    *("shape", "transpose", "resize", "crop", "pad"),
    *("scale", "log_mel", "mean", "std", "channel_axis"),
)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The steps of one dataset; see the module for their meaning and order."""

    shape: tuple[int, ...] | None = None
    transpose: tuple[int, ...] | None = None
    resize: tuple[int | None, ...] | None = None
    crop: tuple[int | None, ...] | None = None
    pad: tuple[tuple[int, int], ...] | None = None
    scale: float | None = None
    log_mel: LogMel | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_axis: int = 0

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Reads the JSON object; :class:`SpecError` names every mistake in it."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise SpecError(SOURCE, [f"not JSON: {error}"]) from error
        if not isinstance(raw, dict):
            raise SpecError(SOURCE, [f"expected a JSON object, found {type(raw).__name__}"])
        problems = [
            f"{key}: unknown key; known ones are {', '.join(_KEYS)}"
            for key in raw.keys() - {*_KEYS}
        ]
        values: dict[str, Any] = {}
        for key in _KEYS:
            if key in raw:
                try:
                    values[key] = _READERS[key](raw[key])
                except ValueError as error:
                    problems.append(f"{key}: {error}")
        if problems:
            raise SpecError(SOURCE, sorted(problems))
        return cls(**values)

    def to_json(self) -> str:
        """The object :meth:`from_json` reads back to the same value; keys that do nothing are
        left out."""
        given: dict[str, Any] = {}
        for key in _KEYS:
            value = getattr(self, key)
            if value is None or (key == "channel_axis" and value == 0):
                continue
            single = key in ("mean", "std") and len(value) == 1
            given[key] = value[0] if single else value
            if key == "log_mel":
                given[key] = asdict(value)
        return json.dumps(given)

    def apply(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Model inputs for samples ``x`` of shape (N, ...); :class:`BadInputs` if they do not fit.

        The result is a fresh C-contiguous array.
        """
        import numpy as np

        if x.ndim < 1 or x.dtype.kind not in "buif":
            raise BadInputs(
                f"samples are {x.dtype} of shape {x.shape}: numbers (N, ...) are needed"
            )
        arranged = self._arrange(x)
        out: NDArray[np.float32] = np.array(arranged, dtype=np.float32, order="C")
        if self.scale is not None:
            out *= np.float32(self.scale)
        if self.log_mel is not None:
            out = self.log_mel.apply(out)
        if self.mean is not None:
            out -= self._along_channels(self.mean, "mean", out)
        if self.std is not None:
            out /= self._along_channels(self.std, "std", out)
        return out

    def _arrange(self, x: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        if self.shape is not None:
            if math.prod(x.shape[1:]) != math.prod(self.shape):
                raise BadInputs(
                    f"samples of shape {x.shape[1:]} cannot be reshaped to {self.shape}"
                )
            x = x.reshape(len(x), *self.shape)
        if self.transpose is not None:
            if len(self.transpose) != x.ndim - 1:
                raise BadInputs(f"transpose {self.transpose} does not fit samples {x.shape[1:]}")
            x = x.transpose(0, *(axis + 1 for axis in self.transpose))
        if self.resize is not None:
            x = resample.resized(x, self.resize)
        if self.crop is not None:
            x = resample.cropped(x, self.crop)
        if self.pad is not None:
            if len(self.pad) != x.ndim - 1:
                raise BadInputs(f"pad {self.pad} does not fit samples {x.shape[1:]}")
            x = np.pad(x, ((0, 0), *self.pad))
        return x

    def _along_channels(
        self, values: tuple[float, ...], name: str, out: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        import numpy as np

        if len(values) == 1:
            return np.asarray(values[0], dtype=np.float32)
        if self.channel_axis >= out.ndim - 1 or out.shape[self.channel_axis + 1] != len(values):
            raise BadInputs(
                f"{name} has {len(values)} values, which do not fit axis {self.channel_axis} "
                f"of samples {out.shape[1:]}"
            )
        shape = [1] * out.ndim
        shape[self.channel_axis + 1] = len(values)
        return np.asarray(values, dtype=np.float32).reshape(shape)


def _int(value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{value!r} is not an integer from {low} up")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{value!r} is not a list with entries")
    return value


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(_int(size, 1) for size in _list(value))


def _axes(value: Any) -> tuple[int, ...]:
    axes = tuple(_int(axis, 0) for axis in _list(value))
    if sorted(axes) != list(range(len(axes))):
        raise ValueError(f"{value!r} is not an order of the axes 0 to {len(axes) - 1}")
    return axes


def _pad(value: Any) -> tuple[tuple[int, int], ...]:
    pairs = [_list(pair) for pair in _list(value)]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{value!r} is not a list of [before, after] pairs")
    return tuple((_int(before, 0), _int(after, 0)) for before, after in pairs)


def _sizes(value: Any) -> tuple[int | None, ...]:
    return tuple(None if size is None else _int(size, 1) for size in _list(value))


def _log_mel(value: Any) -> LogMel:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not an object")
    counts, numbers = ("window", "hop", "bands"), ("rate_hz", "low_hz", "high_hz", "floor")
    strangers = [key for key in value if key not in (*counts, *numbers)]
    missing = [key for key in (*counts, *numbers[:3]) if key not in value]
    if strangers or missing:
        raise ValueError(f"{(strangers or missing)[0]}: {'unknown' if strangers else 'missing'}")
    given: dict[str, Any] = {key: _int(value[key], 1) for key in counts}
    given |= {key: _number(value[key]) for key in numbers if key in value}
    return LogMel(**given)


def _numbers(value: Any) -> tuple[float, ...]:
    if isinstance(value, list):
        return tuple(_number(item) for item in _list(value))
    return (_number(value),)


def _divisors(value: Any) -> tuple[float, ...]:
    numbers = _numbers(value)
    if 0 in numbers:
        raise ValueError("zero cannot divide")
    return numbers


def _axis(value: Any) -> int:
    return _int(value, 0)


_READERS: dict[str, Callable[[Any], Any]] = {
    "shape": _shape,
    "transpose": _axes,
    "resize": _sizes,
    "crop": _sizes,
    "pad": _pad,
    "scale": _number,
    "log_mel": _log_mel,
    "mean": _numbers,
    "std": _divisors,
    "channel_axis": _axis,
}
