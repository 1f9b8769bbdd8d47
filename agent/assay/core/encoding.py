"""How artifacts travel: as they are, compressed, or as a difference from one that is there already.

A patch is a zstd frame over a reference prefix, the base's content, found again by long-distance
matching; the window must span both, so both fit in memory on either side. What comes out is checked
by its digest like everything else, so a wrong base is no worse than a flipped bit.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from assay.core.errors import CorruptArtifact

_LEVEL = 3
_CHUNK_BYTES = 1 << 20
_LEAST_BASE_BYTES = 8  # the library takes no shorter prefix
_PLAIN_WINDOW_LOG = 21
_LEAST_WINDOW_LOG = 10
LARGEST_WINDOW_LOG = 27
"""128 MiB: no decoder is asked for more, and none takes more."""


class Encoding(enum.Enum):
    """Mirrors ``assay.v1.Encoding``."""

    IDENTITY = "identity"
    ZSTD = "zstd"
    ZSTD_PATCH = "zstd_patch"


def encodings_here() -> tuple[Encoding, ...]:
    """What this installation can decode: without the library for zstd, nothing but IDENTITY."""
    try:
        _zstd()
    except ImportError:
        return (Encoding.IDENTITY,)
    return tuple(Encoding)


def window_log(size_bytes: int, base_bytes: int = 0) -> int:
    """The window a frame of this size asks for; with a base it spans both."""
    needed = max(_LEAST_WINDOW_LOG, (size_bytes + base_bytes).bit_length())
    return needed if base_bytes else min(needed, _PLAIN_WINDOW_LOG)


def encode(source: Path, target: Path, base: Path | None = None) -> None:
    """Writes ``source`` as one zstd frame to ``target``, against ``base`` where one is given."""
    zstd = _zstd()
    size_bytes = source.stat().st_size
    parameter = zstd.CompressionParameter
    options: dict[Any, int] = {
        parameter.compression_level: _LEVEL,
        parameter.window_log: window_log(size_bytes, 0 if base is None else base.stat().st_size),
    }
    prefix = None
    if base is not None:
        options[parameter.enable_long_distance_matching] = 1
        prefix = zstd.ZstdDict(base.read_bytes(), is_raw=True).as_prefix
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=prefix)
    compressor.set_pledged_input_size(size_bytes)
    with source.open("rb") as read, target.open("wb") as write:
        while chunk := read.read(_CHUNK_BYTES):
            write.write(compressor.compress(chunk))
        write.write(compressor.flush())
        write.flush()
        os.fsync(write.fileno())


def decoded(
    chunks: Iterable[bytes], size_bytes: int, window: int, base: Path | None = None
) -> Iterator[bytes]:
    """What ``chunks`` decode to, a piece of at most 1 MiB at a time.

    :class:`CorruptArtifact` as soon as more than ``size_bytes`` come out, where the frame asks for
    a larger window than 2 to the ``window`` bytes, is broken, ends early, or is not the end.
    """
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: min(window, LARGEST_WINDOW_LOG)}
    prefix = None
    if base is not None:
        if base.stat().st_size < _LEAST_BASE_BYTES:
            raise CorruptArtifact("its base is too short to be one")
        prefix = zstd.ZstdDict(base.read_bytes(), is_raw=True).as_prefix
    decompressor = zstd.ZstdDecompressor(zstd_dict=prefix, options=options)
    left = size_bytes
    for chunk in chunks:
        pending: bytes | None = chunk
        while pending is not None:
            piece = _piece(decompressor, pending)
            left -= len(piece)
            if left < 0:
                raise CorruptArtifact(f"it decodes to more than the promised {size_bytes} bytes")
            if piece:
                yield piece
            done = decompressor.eof or decompressor.needs_input
            pending = None if done else b""
        if decompressor.eof and decompressor.unused_data:
            raise CorruptArtifact("something follows its end")
    if not decompressor.eof:
        raise CorruptArtifact("its encoded form ends early")


def _piece(decompressor: Any, data: bytes) -> bytes:
    if decompressor.eof:
        if data:
            raise CorruptArtifact("something follows its end")
        return b""
    try:
        piece: bytes = decompressor.decompress(data, max_length=_CHUNK_BYTES)
    except _zstd().ZstdError as error:
        raise CorruptArtifact(f"it cannot be decoded: {error}") from None
    return piece


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from backports import zstd
    return zstd
