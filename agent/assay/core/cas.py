"""A content store: files named by their sha256 in one directory, on either side of the wire.

A file appears under its final name only whole, verified and flushed to disk: bytes go to
``partial/<hex>``, are checked against the promised size and digest, fsynced and renamed. A
partial file stays for the next attempt to resume from. Safe for several threads and processes: a
second writer of the same content waits for the first and finds what it has published.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from assay.core import digest as digests
from assay.core.errors import BadMessage, CorruptArtifact, DiskFull, NotFound
from assay.core.framing import Chunk
from assay.core.model import ArtifactRef

_CHUNK_BYTES = 1 << 20


class ContentStore:
    """Artifacts under ``root``; creates the directory, needs no closing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._whole = root / "sha256"
        self._partial = root / "partial"
        for directory in (self._whole, self._partial):
            directory.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the file of ``digest`` lies; :class:`NotFound` if it is not held."""
        path = self._path(digest)
        if not path.is_file():
            raise NotFound(f"artifact {digest} is not held here")
        return path

    def has(self, digest: str) -> bool:
        """Whether the whole file is held."""
        return self._path(digest).is_file()

    def touch(self, digest: str) -> bool:
        """:meth:`has`, for whoever is about to name the file: it counts as written just now, so
        that no garbage collection takes it before it is named."""
        with self._locked(fcntl.LOCK_SH):
            try:
                os.utime(self._path(digest))
            except FileNotFoundError:
                return False
            return True

    def remove_untouched(self, digest: str, before_ns: int) -> bool:
        """Drops the file of ``digest`` unless it was written or touched since; whether it did."""
        path = self._path(digest)
        with self._locked(fcntl.LOCK_EX):
            if not path.is_file() or path.stat().st_mtime_ns >= before_ns:
                return False
            path.unlink()
            return True

    def held(self) -> Iterator[tuple[str, int]]:
        """Every digest held, with its size in bytes."""
        for path in self._whole.glob("??/*"):
            yield digests.named(path.name), path.stat().st_size

    def add_bytes(self, data: bytes, media_type: str) -> ArtifactRef:
        """Stores ``data`` and names it."""
        ref = ArtifactRef(digests.of_bytes(data), len(data), media_type)
        self.receive(ref, [data])
        return ref

    def add_file(self, source: Path, media_type: str) -> ArtifactRef:
        """Stores a copy of ``source`` and names it."""
        ref = ArtifactRef(digests.of_file(source), source.stat().st_size, media_type)
        with source.open("rb") as file:
            self.receive(ref, iter(lambda: file.read(_CHUNK_BYTES), b""))
        return ref

    def partial_path(self, ref: ArtifactRef, suffix: str) -> Path:
        """Where another form of ``ref`` gathers until it is decoded."""
        return self._partial / f"{self._name(ref.digest)}.{suffix}"

    def partial_bytes(self, ref: ArtifactRef) -> int:
        """How many bytes of ``ref`` an earlier attempt left: where to resume."""
        try:
            return self._partial_path(ref.digest).stat().st_size
        except FileNotFoundError:
            return 0

    def discard_partial(self, ref: ArtifactRef) -> None:
        """Forgets what an earlier attempt left of ``ref``."""
        self._partial_path(ref.digest).unlink(missing_ok=True)

    def receive(self, ref: ArtifactRef, chunks: Iterable[Chunk], *, resume: bool = False) -> Path:
        """Writes ``chunks`` (from the partial file's end on, if ``resume``), verifies, publishes.

        Raises :class:`CorruptArtifact` where size or digest are not the promised ones (the partial
        file is dropped then) and :class:`DiskFull` where there is no room. If ``chunks`` raises,
        what arrived stays for the next attempt.
        """
        final = self._path(ref.digest)
        if self.touch(ref.digest):
            return final
        partial = self._partial_path(ref.digest)
        try:
            with _sole_writer(partial) as file:
                if self.touch(ref.digest):  # by who wrote here before
                    partial.unlink()
                    return final
                _gather(file, partial, ref, chunks, resume=resume)
                os.fsync(file.fileno())
                final.parent.mkdir(exist_ok=True)
                os.replace(partial, final)
            _fsync_directory(final.parent)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"no room for artifact {ref.digest} ({ref.size_bytes} bytes) in "
                    f"{self._whole.parent}: free some space there"
                ) from error
            raise
        return final

    def adopt(self, ref: ArtifactRef, file: Path) -> Path:
        """Takes over ``file``, which holds the verified and flushed content of ``ref`` on the same
        file system, by renaming it."""
        final = self._path(ref.digest)
        final.parent.mkdir(exist_ok=True)
        os.replace(file, final)
        _fsync_directory(final.parent)
        return final

    def remove(self, digest: str) -> None:
        """Drops the file of ``digest`` if it is held."""
        self._path(digest).unlink(missing_ok=True)

    def quarantine(self, digest: str) -> None:
        """Moves a file that failed a later check aside, so that it is fetched anew."""
        path = self._path(digest)
        if path.is_file():
            shutil.move(path, self._partial / f"{path.name}.corrupt")

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        handle = os.open(self._whole, os.O_RDONLY)
        try:
            fcntl.flock(handle, kind)
            yield
        finally:
            os.close(handle)

    def _path(self, digest: str) -> Path:
        name = self._name(digest)
        return self._whole / name[:2] / name

    def _partial_path(self, digest: str) -> Path:
        return self._partial / self._name(digest)

    def _name(self, digest: str) -> str:
        if not digests.is_digest(digest):
            raise BadMessage(f"{digest!r} is not of the form sha256:<64 hex digits>")
        return digests.hex_of(digest)


@contextmanager
def _sole_writer(partial: Path) -> Iterator[FileIO]:
    """``partial``, made where it is not there, once nobody else writes it."""
    while True:
        with partial.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(partial, file):  # who had it before may have renamed it
                yield file
                return


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _gather(
    file: FileIO, partial: Path, ref: ArtifactRef, chunks: Iterable[Chunk], *, resume: bool
) -> None:
    """Hashed as it is written: what one has alone is not read again."""
    hasher = hashlib.sha256()
    if resume:
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    else:
        file.truncate(0)
    size = os.fstat(file.fileno()).st_size
    for chunk in chunks:
        size += len(chunk)
        if size > ref.size_bytes:
            break
        _write(file, chunk)
        hasher.update(chunk)
    if size > ref.size_bytes:
        partial.unlink()
        raise CorruptArtifact(f"artifact {ref.digest} is longer than {ref.size_bytes} bytes")
    if size != ref.size_bytes:
        raise CorruptArtifact(f"artifact {ref.digest} ended after {size} of {ref.size_bytes} bytes")
    found = digests.named(hasher.hexdigest())
    if found != ref.digest:
        partial.unlink()
        raise CorruptArtifact(f"artifact {ref.digest} arrived as {found}")


def _write(file: FileIO, chunk: Chunk) -> None:
    # A disk that fills up takes a part of it first.
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _fsync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
