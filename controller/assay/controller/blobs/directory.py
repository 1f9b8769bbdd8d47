"""Artifacts in the controller's own content store."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from assay.core.cas import ContentStore
from assay.core.channel import BLOB_CHUNK_BYTES
from assay.core.errors import DiskFull, OutOfRange
from assay.core.model import ArtifactRef


class DirectoryBlobs:
    """:class:`assay.controller.blobs.base.Blobs` in a directory.

    ``reserve_bytes`` of the disk are never used up by what devices send: the store's database
    needs them to stay writable.
    """

    def __init__(self, root: Path, *, reserve_bytes: int = 256 << 20) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._content = ContentStore(root)
        self._reserve_bytes = reserve_bytes

    def has(self, digest: str) -> bool:
        """See :class:`Blobs`."""
        # A device that is told so sends a result that names it, and not the file.
        return self._content.touch(digest)

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """See :class:`Blobs`."""
        path = self._content.path(digest)
        size = path.stat().st_size
        if not 0 <= offset <= size:
            raise OutOfRange(f"artifact {digest} has {size} bytes; {offset} is beyond its end")
        return _chunks(path, offset)

    def write(self, ref: ArtifactRef, chunks: Iterable[bytes]) -> bool:
        """See :class:`Blobs`."""
        if self._content.touch(ref.digest):
            return False
        free = shutil.disk_usage(self._root).free
        if ref.size_bytes > free - self._reserve_bytes:
            raise DiskFull(
                f"the controller has no room for {ref.size_bytes} bytes (artifact {ref.digest}): "
                f"{free} bytes are free and {self._reserve_bytes} stay reserved; free some space"
            )
        # A directory of its own, so that two devices that send the same file at once do not write
        # into one partial file.
        staging = self._incoming / uuid.uuid4().hex
        try:
            self._content.adopt(ref, ContentStore(staging).receive(ref, chunks))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return True

    def sweep_incoming(self) -> None:
        """Drops what a process that was killed left half received; only while nobody writes."""
        shutil.rmtree(self._incoming, ignore_errors=True)


def _chunks(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while chunk := file.read(BLOB_CHUNK_BYTES):
            yield chunk
