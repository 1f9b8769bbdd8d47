"""Reads .npz files that came from somewhere else: plain arrays or an error, never code."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadMessage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What numpy, zipfile and zlib raise over bytes that are not what they claim to be.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def read_npz(path: Path, limit_bytes: int | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name; :class:`BadMessage` where it is none, holds pickled objects,
    or would unpack to more than ``limit_bytes``."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if limit_bytes is not None and unpacked > limit_bytes:
            raise BadMessage(f"{path.name} would unpack to {unpacked} bytes: refused")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _UNREADABLE as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadMessage(f"{path.name} is not an .npz of plain arrays: {text}") from error
