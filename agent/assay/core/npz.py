"""Plain arrays in .npz files: read without running code, written so that equal arrays are equal
bytes on every machine.

``numpy.savez`` leaves details of the zip to the library versions at hand; here every field is
fixed. ``numpy.load`` reads them.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from assay.core.errors import BadMessage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNIX = 3
_REGULAR_FILE_0644 = 0o100644 << 16
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


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """What :func:`write_npz` would write."""
    buffer = io.BytesIO()
    write_npz(buffer, arrays)
    return buffer.getvalue()


def write_npz(target: Path | IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes plain arrays under any name, uncompressed, in the given order."""
    import numpy as np

    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = _UNIX, _REGULAR_FILE_0644
            # By the size it expects, zipfile chooses the form for more than 2 GB.
            info.file_size = array.nbytes
            with archive.open(info, "w") as member:
                # Not ascontiguousarray, which makes a scalar one-dimensional.
                whole = np.asarray(array, order="C")
                np.lib.format.write_array(member, whole, version=(1, 0), allow_pickle=False)
