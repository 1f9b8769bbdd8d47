"""Results that wait to be acknowledged: an append-only file that may be cut at any byte.

One frame per event, little-endian; the CRC-32 is over what follows it, the sha256 over the body::

    magic "AsR1", crc32 u32, kind u8, attempt_id length u16, body length u32, seq i64, sha256 32 B,
    attempt_id, body

``RESULT`` frames carry a serialised Result; ``ACK`` frames have no body and take the entry of the
same key off again. A frame counts once it is flushed to disk. On opening, a torn tail is cut off; a
damaged frame in the middle is stepped over and a copy of the file is kept beside it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from assay.agent.home import fsync_directory
from assay.core import log
from assay.core.errors import AlreadyExists, DiskFull

_LOG = log.get(__name__)
_MAGIC = b"AsR1"
_HEADER = struct.Struct("<4sIBHIq32s")
_RESULT = 1
_ACK = 2
_MOST_BODY_BYTES = 16 << 20
_NEAR_FULL = 0.8
_COMPACT_BYTES = 1 << 20


class Key(NamedTuple):
    """What names a result; ``seq`` grows within an attempt."""

    attempt_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A result that waits, as it lies in the file; ``sha256`` (hex) is over its bytes."""

    key: Key
    sha256: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Frame:
    kind: int
    entry: Entry
    end: int


class Spool:
    """The file at ``path``; safe for several threads of one process. Close it when done.

    ``free_bytes`` tells how much room the disk has; tests own it.
    """

    def __init__(
        self, path: Path, quota_bytes: int, free_bytes: Callable[[], int] | None = None
    ) -> None:
        self._path = path
        self._quota_bytes = quota_bytes
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(path.parent).free)
        self._lock = threading.RLock()
        self._entries: dict[Key, Entry] = {}
        self._file = _open(path)
        self._end = self._load()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything that waits, oldest first."""
        with self._lock:
            return tuple(self._entries.values())

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return self._end

    @property
    def near_full(self) -> bool:
        """Whether new work should be refused so that what is going on still finds room."""
        return self._end >= _NEAR_FULL * self._quota_bytes or self._free_bytes() < self._quota_bytes

    def append(self, key: Key, body: bytes) -> None:
        """Adds a result; it is on disk when this returns. The same result again is no error.

        :class:`AlreadyExists` for other bytes under the same key, :class:`DiskFull` where there is
        no room; the file is as before then.
        """
        digest = hashlib.sha256(body)
        with self._lock:
            known = self._entries.get(key)
            if known is not None and known.sha256 != digest.hexdigest():
                raise AlreadyExists(f"another result of attempt {key.attempt_id} seq {key.seq}")
            if known is None:
                start = self._end
                self._write(_pack(_RESULT, key, digest.digest(), body))
                offset = start + _HEADER.size + len(key.attempt_id.encode())
                self._entries[key] = Entry(key, digest.hexdigest(), offset, len(body))

    def read(self, entry: Entry) -> bytes:
        """The bytes of a waiting result, exactly as they were appended."""
        with self._lock:
            current = self._entries[entry.key]
            return os.pread(self._file, current.length, current.offset)

    def batch(self, most: int, most_bytes: int) -> tuple[Entry, ...]:
        """The oldest entries, at most ``most`` and ``most_bytes`` together, but at least one."""
        chosen: list[Entry] = []
        total = 0
        for entry in self.entries:
            total += entry.length + len(entry.key.attempt_id)
            if chosen and (len(chosen) == most or total > most_bytes):
                break
            chosen.append(entry)
        return tuple(chosen)

    def remove(self, keys: Iterable[Key]) -> None:
        """Takes acknowledged entries off. Not flushed: a lost removal is a replay, counted once."""
        with self._lock:
            gone = [key for key in keys if self._entries.pop(key, None) is not None]
            if not self._entries:
                self._truncate(0)
            elif gone:
                acks = b"".join(_pack(_ACK, key, bytes(32), b"") for key in gone)
                with contextlib.suppress(DiskFull, OSError):
                    self._write(acks, flush=False)
                    self._compact_if_worth()

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _load(self) -> int:
        size = os.fstat(self._file).st_size
        position = 0
        damaged = False
        while position < size:
            frame = _frame_at(self._file, position, size)
            if frame is None:
                following = _resync(self._file, position + 1, size)
                if following is None:
                    break
                damaged = True
                position = following
                continue
            if frame.kind == _RESULT:
                self._entries[frame.entry.key] = frame.entry
            else:
                self._entries.pop(frame.entry.key, None)
            position = frame.end
        if damaged:
            copy = self._path.with_name(self._path.name + ".damaged")
            shutil.copyfile(self._path, copy)
            _LOG.error("spool was damaged", path=str(self._path), copy=str(copy))
        self._end = position
        if position < size:
            _LOG.warning("torn tail was cut off", path=str(self._path), bytes=size - position)
            self._truncate(position)
        return position

    def _write(self, data: bytes, *, flush: bool = True) -> None:
        try:
            _pwrite_all(self._file, data, self._end)
            if flush:
                os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"no room for {len(data)} bytes in {self._path}: free some space on that disk"
                ) from error
            raise
        self._end += len(data)

    def _truncate(self, size: int) -> None:
        os.ftruncate(self._file, size)
        os.fsync(self._file)
        self._end = size

    def _compact_if_worth(self) -> None:
        live = sum(entry.length for entry in self._entries.values())
        if self._end - live < max(_COMPACT_BYTES, live):
            return
        fresh = self._path.with_name(self._path.name + ".new")
        packed = (
            _pack(_RESULT, entry.key, bytes.fromhex(entry.sha256), self.read(entry))
            for entry in self.entries
        )
        with fresh.open("wb") as file:
            file.writelines(packed)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        fsync_directory(self._path.parent)
        os.close(self._file)
        self._file = _open(self._path)
        self._entries.clear()
        self._end = self._load()


def _open(path: Path) -> int:
    fresh = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if fresh:
        fsync_directory(path.parent)
    return file


def _pwrite_all(file: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        view, position = view[written:], position + written


def _pack(kind: int, key: Key, sha256: bytes, body: bytes) -> bytes:
    name = key.attempt_id.encode()
    fields = (kind, len(name), len(body), key.seq, sha256)
    behind = _HEADER.pack(_MAGIC, 0, *fields)[8:] + name + body
    return _HEADER.pack(_MAGIC, zlib.crc32(behind), *fields) + name + body


def _frame_at(file: int, position: int, size: int) -> _Frame | None:
    """The whole, sound frame at ``position``; None where there is none."""
    header = os.pread(file, _HEADER.size, position)
    if len(header) < _HEADER.size:
        return None
    magic, crc, kind, name_length, length, seq, sha256 = _HEADER.unpack(header)
    end = position + _HEADER.size + name_length + length
    if magic != _MAGIC or kind not in (_RESULT, _ACK) or length > _MOST_BODY_BYTES or end > size:
        return None
    rest = os.pread(file, name_length + length, position + _HEADER.size)
    if zlib.crc32(header[8:] + rest) != crc:
        return None
    if kind == _RESULT and hashlib.sha256(rest[name_length:]).digest() != sha256:
        return None
    try:
        key = Key(rest[:name_length].decode(), seq)
    except UnicodeDecodeError:
        return None
    return _Frame(kind, Entry(key, sha256.hex(), end - length, length), end)


def _resync(file: int, position: int, size: int) -> int | None:
    """Where the next sound frame begins, behind damage; None where nothing sound follows."""
    rest = os.pread(file, size - position, position)
    found = rest.find(_MAGIC)
    while found >= 0:
        if _frame_at(file, position + found, size) is not None:
            return position + found
        found = rest.find(_MAGIC, found + 1)
    return None
