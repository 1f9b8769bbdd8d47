"""A folder of WAV files, one folder per class."""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from assay.controller.datasets.base import OnProgress
from assay.controller.datasets.kinds.base import Found, Kind, Part, dataset_kind
from assay.controller.datasets.kinds.class_folders import Listing, has_class_files, list_folders
from assay.core.errors import BadInputs, UsageError
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".wav",)
_SAY_EVERY = 200
_WIDTHS = {1: "int16", 2: "int16", 3: "int32", 4: "int32"}
"""Bytes per PCM sample → what they are kept as, at full scale."""


@dataset_kind("wav", takes="a folder with a folder of WAV files for each class")
class Recordings(Kind):
    """PCM of one rate, kept as whole numbers (N, frames); nothing is resampled."""

    seconds: float | None = Field(
        default=None, gt=0, le=3600, description="Length to cut to, or to fill up to by silence."
    )
    channel: int | None = Field(
        default=None, ge=0, le=31, description="Which channel to take of files that have several."
    )

    @classmethod
    def claims(cls, what: Sequence[str]) -> bool:
        """A folder with WAV files in it."""
        return has_class_files(what, SUFFIXES)

    def read(self, what: Sequence[str], classes: Sequence[str], progress: OnProgress) -> Found:
        """Reads it."""
        if len(what) != 1:
            raise UsageError(f"{len(what)} things: kind wav takes {self.takes}")
        listings, names = list_folders(Path(what[0]), SUFFIXES, classes)
        first = next(one.files[0] for one in listings.values() if one.files)
        like = self._sound(first)
        parts = {
            part: Part(self._stack(one, like, progress, part), one.y(), _file_of(one))
            for part, one in listings.items()
        }
        full_scale = 2 ** (8 * like.frames.itemsize - 1)
        source = f"{what[0]}, {like.rate} Hz"
        return Found(source, parts, names, Preprocessing(scale=1 / full_scale))

    def _stack(
        self, listing: Listing, like: _Sound, progress: OnProgress, part: str
    ) -> NDArray[Any]:
        import numpy as np

        x = np.empty((len(listing.files), len(like.frames)), dtype=like.frames.dtype)
        for i, path in enumerate(listing.files):
            sound = self._sound(path)
            _require_alike(sound, like)
            x[i] = sound.frames
            if i % _SAY_EVERY == 0:
                progress("wav", i, len(listing.files), f"reading {part}")
        return x

    def _sound(self, path: Path) -> _Sound:
        import numpy as np

        try:
            with wave.open(str(path), "rb") as file:
                rate, channels, width = (
                    file.getframerate(),
                    file.getnchannels(),
                    file.getsampwidth(),
                )
                data = file.readframes(file.getnframes())
                declared = file.getnframes() * channels * width
        except (OSError, EOFError, wave.Error) as error:
            why = str(error) or "it ends early"
            raise BadInputs(f"{path}: cannot be read as a WAV file of PCM: {why}") from error
        if width not in _WIDTHS or len(data) != declared:
            raise BadInputs(
                f"{path}: {len(data)} bytes of sound where its header promises {declared}"
            )
        if not data:
            raise BadInputs(f"{path}: holds no sound")
        frames = _pcm(data, width).reshape(-1, channels)[:, self._channel(path, channels)]
        if self.seconds is not None:
            wanted = round(self.seconds * rate)
            frames = np.pad(frames[:wanted], (0, max(0, wanted - len(frames))))
        return _Sound(path, rate, frames)

    def _channel(self, path: Path, channels: int) -> int:
        if self.channel is None and channels > 1:
            raise BadInputs(f"{path}: {channels} channels: say which by --option channel=0")
        if (self.channel or 0) >= channels:
            raise BadInputs(f"{path}: {channels} channels, and {self.channel} counts from 0")
        return self.channel or 0


@dataclass(frozen=True, slots=True)
class _Sound:
    path: Path
    rate: int
    frames: NDArray[Any]


def _require_alike(sound: _Sound, like: _Sound) -> None:
    if sound.rate != like.rate:
        raise BadInputs(
            f"{sound.path}: {sound.rate} Hz, but {like.path} has {like.rate} Hz: resample first"
        )
    if sound.frames.dtype != like.frames.dtype:
        raise BadInputs(
            f"{sound.path}: {sound.frames.dtype} samples, but {like.path} has {like.frames.dtype}"
        )
    if len(sound.frames) != len(like.frames):
        seconds = len(like.frames) / like.rate
        raise BadInputs(
            f"{sound.path}: {len(sound.frames)} frames, but {like.path} has {len(like.frames)}: "
            f"give --option seconds={seconds:g} to bring all to one length"
        )


def _pcm(data: bytes, width: int) -> NDArray[Any]:
    """Little-endian PCM as whole numbers at full scale; 8-bit PCM is unsigned (Microsoft and IBM,
    "Multimedia Programming Interface and Data Specifications 1.0", 1991)."""
    import numpy as np

    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.reshape(-1).view("<i4").astype(np.int32, copy=False)
    return np.frombuffer(data, f"<i{width}").astype(_WIDTHS[width], copy=False)


def _file_of(listing: Listing) -> Callable[[int], str]:
    return lambda row: str(listing.files[row])
