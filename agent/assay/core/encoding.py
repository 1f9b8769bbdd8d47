"""How artifacts travel: as they are, compressed, or as a difference from one that is there already.

A patch is a zstd frame over a reference prefix, the base's content, found again by long-distance
matching; the window must span both, so both fit in memory on either side. A masked patch is two
frames: a :class:`Mask` of the words of the base that are nought now, and a patch over the base with
these cleared. What comes out is checked by its digest like everything else, so a wrong base is no
worse than a flipped bit.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from assay.core.errors import CorruptArtifact
from assay.core.mask import Mask, most_mask_bytes

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
    ZSTD_MASKED_PATCH = "zstd_masked_patch"

    @property
    def has_base(self) -> bool:
        """Whether it rests on another artifact."""
        return self in (Encoding.ZSTD_PATCH, Encoding.ZSTD_MASKED_PATCH)


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


def encode(source: Path, target: Path, base: Path | None = None, mask: Mask | None = None) -> None:
    """Writes ``source`` to ``target``: one zstd frame, against ``base`` where one is given; with a
    ``mask`` of the base its frame comes first."""
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
        prefix = _prefix(base, mask)
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=prefix)
    compressor.set_pledged_input_size(size_bytes)
    with source.open("rb") as read, target.open("wb") as write:
        if mask is not None:
            own = {parameter.compression_level: _LEVEL, parameter.window_log: _PLAIN_WINDOW_LOG}
            write.write(zstd.compress(mask.to_bytes(), options=own))
        while chunk := read.read(_CHUNK_BYTES):
            write.write(compressor.compress(chunk))
        write.write(compressor.flush())
        write.flush()
        os.fsync(write.fileno())


def decoded(
    chunks: Iterable[bytes],
    size_bytes: int,
    window: int,
    base: Path | None = None,
    *,
    masked: bool = False,
) -> Iterator[bytes]:
    """What ``chunks`` decode to, a piece of at most 1 MiB at a time; ``masked`` where the frame of
    a mask of ``base`` comes first.

    :class:`CorruptArtifact` as soon as more than ``size_bytes`` come out, where a frame asks for
    a larger window than 2 to the ``window`` bytes, is broken, ends early, or is not the end.
    """
    arriving = iter(chunks)
    prefix = None
    if base is not None:
        base_bytes = base.stat().st_size
        if base_bytes < _LEAST_BASE_BYTES:
            raise CorruptArtifact("its base is too short to be one")
        mask = None
        if masked:
            first = _decompressor(_PLAIN_WINDOW_LOG)
            mask_data = b"".join(_frame(first, arriving, most_mask_bytes(base_bytes)))
            mask = Mask.from_bytes(mask_data, base_bytes)
            arriving = chain([first.unused_data], arriving)
        prefix = _prefix(base, mask)
    decompressor = _decompressor(min(window, LARGEST_WINDOW_LOG), prefix)
    yield from _frame(decompressor, arriving, size_bytes)
    if decompressor.unused_data or any(arriving):
        raise CorruptArtifact("something follows its end")


def _prefix(base: Path, mask: Mask | None) -> Any:
    content = bytearray(base.stat().st_size)
    with base.open("rb") as file:
        del content[file.readinto(content) :]
    if mask is not None:
        mask.clear(content)
    return _zstd().ZstdDict(content, is_raw=True).as_prefix


def _decompressor(window: int, prefix: Any = None) -> Any:
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: window}
    return zstd.ZstdDecompressor(zstd_dict=prefix, options=options)


def _frame(decompressor: Any, chunks: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    """What one frame decodes to. The end of the chunk it ended in is the decompressor's
    ``unused_data``; later chunks are left where they are."""
    left = most_bytes
    for chunk in chunks:
        pending: bytes | None = chunk
        while pending is not None:
            piece = _piece(decompressor, pending)
            left -= len(piece)
            if left < 0:
                raise CorruptArtifact(f"it decodes to more than the promised {most_bytes} bytes")
            if piece:
                yield piece
            if decompressor.eof:
                return
            pending = None if decompressor.needs_input else b""
    raise CorruptArtifact("its encoded form ends early")


def _piece(decompressor: Any, data: bytes) -> bytes:
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
