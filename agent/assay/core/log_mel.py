"""Sound as small networks hear it: the logarithm of the energy in mel bands, over time.

Frames under a periodic Hann window, power by FFT, triangles of equal height on the mel scale (S.
Davis, P. Mermelstein, "Comparison of Parametric Representations for Monosyllabic Word Recognition",
1980; the scale as HTK has it: ``2595 · log10(1 + f / 700)``). Computed in float64 and rounded once
to float32, so that what libraries differ by is all but never seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LogMel:
    """``rate_hz`` is that of the sound; ``window`` and ``hop`` count its frames; bands lie from
    ``low_hz`` to ``high_hz``; energies below ``floor`` count as ``floor``."""

    rate_hz: float
    window: int
    hop: int
    bands: int
    low_hz: float
    high_hz: float
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError(
                f"bands from {self.low_hz:g} to {self.high_hz:g} Hz do not lie between 0 and half "
                f"of {self.rate_hz:g} Hz"
            )
        if self.floor <= 0:
            raise ValueError("floor has no logarithm")

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sounds (..., frames) to (..., steps, bands); a rest shorter than a window is left out."""
        import numpy as np

        if x.shape[-1] < self.window:
            raise BadInputs(
                f"log_mel: samples of shape {x.shape[1:]} end before a window of {self.window}"
            )
        windows = np.lib.stride_tricks.sliding_window_view(x, self.window, axis=-1)
        frames = windows[..., :: self.hop, :].astype(np.float64)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        spectrum = np.fft.rfft(frames * hann, axis=-1)
        power = spectrum.real**2 + spectrum.imag**2
        energies = power @ self._triangles().T
        return np.log(np.maximum(energies, self.floor)).astype(np.float32)

    def _triangles(self) -> NDArray[np.float64]:
        """(bands, bins) of the share of each bin in each band."""
        import numpy as np

        low, high = _mel(self.low_hz), _mel(self.high_hz)
        edges = np.array(
            [_hz(low + (high - low) * i / (self.bands + 1)) for i in range(self.bands + 2)]
        )
        bins = np.arange(self.window // 2 + 1) * (self.rate_hz / self.window)
        rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
        triangles: NDArray[Any] = np.maximum(0.0, np.minimum(rising, falling))
        return triangles


def _mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def _hz(mel: float) -> float:
    return float(700 * (10 ** (mel / 2595) - 1))
