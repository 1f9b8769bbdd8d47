"""Bringing samples to a size, the same bytes on every machine.

Each output is a sum of products taken in a fixed order, one IEEE operation at a time: no library
that is free to reorder them has a hand in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def resized(x: NDArray[Any], sizes: Sequence[int | None]) -> NDArray[np.float32]:
    """``x`` (N, ...) with the sample's axes brought to ``sizes``, None leaving one as it is.

    Linear between the centres of elements; where an axis shrinks the triangle is as wide as the
    step, so that nothing is skipped (bilinear with antialiasing, as Pillow and torch have it).
    """
    import numpy as np

    _require_axes(x, sizes, "resize")
    out = x.astype(np.float32)
    for axis, size in enumerate(sizes, start=1):
        if size is not None and size != out.shape[axis]:
            out = _along(out, axis, size)
    return out


def cropped(x: NDArray[Any], sizes: Sequence[int | None]) -> NDArray[Any]:
    """The middle of ``x`` (N, ...), of ``sizes`` along the sample's axes; where what goes is odd,
    one more goes at the end."""
    _require_axes(x, sizes, "crop")
    cuts = [slice(None)]
    for found, size in zip(x.shape[1:], sizes, strict=True):
        if size is not None and size > found:
            raise BadInputs(f"crop: {size} is more than samples {x.shape[1:]} have")
        start = 0 if size is None else (found - size) // 2
        cuts.append(slice(None) if size is None else slice(start, start + size))
    return x[tuple(cuts)]


def _along(x: NDArray[np.float32], axis: int, size: int) -> NDArray[np.float32]:
    import numpy as np

    places, weights = _taps(x.shape[axis], size)
    moved = np.moveaxis(x, axis, -1)
    out = np.zeros((*moved.shape[:-1], size), dtype=np.float32)
    for place, weight in zip(places.T, weights.T, strict=True):
        out += moved[..., place] * weight
    return np.moveaxis(out, -1, axis)


def _taps(found: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """(size, taps) of which elements count for each output, and how much."""
    import numpy as np

    step = found / size
    reach = max(1.0, step)
    taps = math.ceil(2 * reach) + 1
    centres = (np.arange(size) + 0.5) * step - 0.5
    first = np.ceil(centres - reach).astype(np.intp)
    places = first[:, None] + np.arange(taps)
    weights = np.maximum(0.0, 1 - np.abs(places - centres[:, None]) / reach)
    weights[(places < 0) | (places >= found)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return places.clip(0, found - 1), weights.astype(np.float32)


def _require_axes(x: NDArray[Any], sizes: Sequence[int | None], key: str) -> None:
    if len(sizes) != x.ndim - 1:
        raise BadInputs(f"{key} {[*sizes]} does not fit samples {x.shape[1:]}: one entry per axis")
