"""Encoded forms of artifacts: made when first asked for, kept while there is room."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from assay.core.cas import ContentStore
from assay.core.channel import BLOB_CHUNK_BYTES
from assay.core.digest import hex_of
from assay.core.encoding import LARGEST_WINDOW_LOG, Encoding, encode, window_log
from assay.core.errors import CheckFailed, OutOfRange

_LEAST_BYTES = 4 << 10
_MOST_BYTES = 512 << 20
_MOST_BASES_TRIED = 3
_WORTHWHILE = 0.98
_SMALL_PATCH = 1 / 64  # no mask makes much of it
_ENDINGS = {
    Encoding.ZSTD: "zst",
    Encoding.ZSTD_PATCH: "patch",
    Encoding.ZSTD_MASKED_PATCH: "masked",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """How to send a file: ``wire_bytes`` from offset 0 on; ``base`` is the digest a patch rests on,
    ``window_log`` the decoder's cap."""

    encoding: Encoding
    wire_bytes: int
    base: str = ""
    window_log: int = 0


class Encodings:
    """The encoded forms below ``root/encoded``; thread-safe. One is made at a time: it takes a
    core and the memory of both files."""

    def __init__(self, root: Path, *, quota_bytes: int = 4 << 30) -> None:
        self._content = ContentStore(root)
        self._directory = root / "encoded"
        self._directory.mkdir(exist_ok=True)
        self._quota_bytes = quota_bytes
        self._making = threading.Lock()

    def offer(
        self, digest: str, accepted: Collection[Encoding], bases: Sequence[str], memory_bytes: int
    ) -> Offer:
        """The form with the fewest bytes among those the device accepts; :class:`NotFound`.

        ``bases`` are digests the device holds and may know of; ``memory_bytes`` is what it can
        spare: a patch needs base and target in memory.
        """
        source = self._content.path(digest)
        size_bytes = source.stat().st_size
        offers = [Offer(Encoding.IDENTITY, size_bytes)]
        if _LEAST_BYTES <= size_bytes <= _MOST_BYTES:
            if Encoding.ZSTD in accepted:
                wire_bytes = self._made(source, Encoding.ZSTD).stat().st_size
                offers.append(Offer(Encoding.ZSTD, wire_bytes, window_log=window_log(size_bytes)))
            for base, window in self._fitting(source, digest, bases, memory_bytes):
                offers += self._patches(source, accepted, base, window)
        best = min(offers, key=lambda offer: offer.wire_bytes)
        return best if best.wire_bytes <= _WORTHWHILE * size_bytes else offers[0]

    def read(self, digest: str, encoding: Encoding, base: str, offset: int) -> Iterator[bytes]:
        """An encoded form from an offset; :class:`CheckFailed` where it is not there (any more),
        :class:`OutOfRange` beyond its end. Raises before the first chunk."""
        path = self._path(hex_of(digest), encoding, hex_of(base) if encoding.has_base else "")
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise CheckFailed(
                f"artifact {digest} is not at hand as {encoding.value}; ask for an offer again"
            ) from None
        size_bytes = os.fstat(file.fileno()).st_size
        if not 0 <= offset <= size_bytes:
            file.close()
            raise OutOfRange(
                f"artifact {digest} has {size_bytes} bytes as {encoding.value}; {offset} is beyond "
                "its end"
            )
        return _chunks(file, offset)

    def _patches(
        self, source: Path, accepted: Collection[Encoding], base: str, window: int
    ) -> Iterable[Offer]:
        for encoding in (Encoding.ZSTD_PATCH, Encoding.ZSTD_MASKED_PATCH):
            if encoding not in accepted:
                continue
            made = self._made(source, encoding, self._content.path(base))
            wire_bytes = made.stat().st_size
            if wire_bytes:
                yield Offer(encoding, wire_bytes, base, window)
            if wire_bytes <= _SMALL_PATCH * source.stat().st_size:
                return

    def _fitting(
        self, source: Path, digest: str, bases: Sequence[str], memory_bytes: int
    ) -> Iterable[tuple[str, int]]:
        """The bases worth a try, each with the window it takes."""
        size_bytes = source.stat().st_size
        held = [
            (base, self._content.path(base).stat().st_size)
            for base in dict.fromkeys(bases)
            if base != digest and self._content.has(base)
        ]
        fitting = [
            (abs(base_bytes - size_bytes), base, window_log(size_bytes, base_bytes))
            for base, base_bytes in held
            if base_bytes >= _LEAST_BYTES and size_bytes + base_bytes <= memory_bytes
        ]
        # What a recipe leaves of a model is mostly of its size; others are tried after it.
        for _, base, window in sorted(fitting)[:_MOST_BASES_TRIED]:
            if window <= LARGEST_WINDOW_LOG:
                yield base, window

    def _made(self, source: Path, encoding: Encoding, base: Path | None = None) -> Path:
        path = self._path(source.name, encoding, base.name if base is not None else "")
        with self._making:
            if path.exists():
                os.utime(path)
                return path
            partial = self._directory / f"{uuid.uuid4().hex}.new"
            try:
                _make(source, partial, encoding, base)
                self._make_room(partial.stat().st_size)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        return path

    def _make_room(self, wanted_bytes: int) -> None:
        """Least recently used out first; what is being read stays readable until it is closed."""
        files = [path for path in self._directory.iterdir() if path.suffix != ".new"]
        used = sum(path.stat().st_size for path in files)
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
            if used + wanted_bytes <= self._quota_bytes:
                return
            used -= path.stat().st_size
            path.unlink()

    def _path(self, name: str, encoding: Encoding, base_name: str) -> Path:
        names = [name, base_name] if base_name else [name]
        return self._directory / ".".join([*names, _ENDINGS[encoding]])


def _make(source: Path, target: Path, encoding: Encoding, base: Path | None) -> None:
    """An empty file where a mask would make nothing of it, so that it is not looked for again."""
    if base is None or encoding is not Encoding.ZSTD_MASKED_PATCH:
        encode(source, target, base)
        return
    # numpy is 20 MB that a controller without pruned models does without.
    from assay.controller.blobs.zeros import mask_of

    mask = mask_of(base, source)
    if mask is None:
        target.touch()
    else:
        encode(source, target, base, mask)


def _chunks(file: BinaryIO, offset: int) -> Iterator[bytes]:
    with file:
        file.seek(offset)
        while chunk := file.read(BLOB_CHUNK_BYTES):
            yield chunk
