"""IDX files, the format of the MNIST family.

Two zero bytes, a type code, the number of dimensions, each dimension as a big-endian uint32, then
the elements, big-endian (Y. LeCun, "The MNIST database", file formats). Read as they are or
gzipped.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInputs, NotFound

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GZIP_MAGIC = b"\x1f\x8b"
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> NDArray[Any]:
    """The array in the file, in native byte order; :class:`BadInputs` if it is not one."""
    return parse_idx(raw_bytes(path), str(path))


def raw_bytes(path: Path) -> bytes:
    """The file's content, unzipped where it is gzipped."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path}: cannot be read: {error.strerror}") from error
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInputs(f"{path}: damaged gzip file: {error}") from error


def parse_idx(data: bytes, source: str) -> NDArray[Any]:
    """The array in ``data``; ``source`` names it in errors."""
    import numpy as np

    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or data[3] == 0:
        raise BadInputs(
            f"{source}: not an IDX file: it starts with {data[:4].hex(' ') or 'nothing'}"
        )
    dtype = np.dtype(_TYPES[data[2]])
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise BadInputs(f"{source}: ends inside its header")
    shape = struct.unpack(f">{data[3]}I", data[4:header])
    expected = header + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise BadInputs(f"{source}: {len(data)} bytes where shape {shape} needs {expected}")
    array = np.frombuffer(data, dtype, offset=header).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
