"""Where artifacts lie: one interface, one contract suite (tests/contract/test_blobs.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from assay.core.model import ArtifactRef


class Blobs(Protocol):
    """Files by digest. Safe for several threads and processes."""

    def has(self, digest: str) -> bool:
        """Whether the whole file is held."""
        ...

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """The file from ``offset``, in chunks of at most 1 MiB. :class:`NotFound`;
        :class:`OutOfRange` where the offset is negative or beyond the end (at the end is fine:
        nothing is left). Raises before the first chunk."""
        ...

    def write(self, ref: ArtifactRef, chunks: Iterable[bytes]) -> bool:
        """Stores a file; False where it was held already (then ``chunks`` is not read).

        :class:`CorruptArtifact` where size or digest do not match, :class:`DiskFull` where there
        is no room; in either case, and where ``chunks`` raises, nothing is left behind."""
        ...
