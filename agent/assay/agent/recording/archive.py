"""A recording as one ``.tar.gz``, the same bytes for the same board state, safe to unpack."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from assay.agent.recording.collect import MAX_FILE_BYTES, Collected
from assay.core.errors import BadMessage
from assay.core.version import __version__

MANIFEST = "RECORDING.json"
_MAX_FILES = 20_000
_MAX_TOTAL_BYTES = 64 << 20
# The reader stops at the first chunk beyond its limit.
_READ_SLACK_BYTES = 65536


def pack(collected: Collected) -> bytes:
    """The archive: the files laid out like the board, and :data:`MANIFEST`, which says what did
    not answer. No times, owners or names of the machine are in it."""
    told = {"assay": __version__, "silent": dict(sorted(collected.silent.items()))}
    files = {**collected.files, MANIFEST: json.dumps(told, indent=1).encode() + b"\n"}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(files[name]), 0o644
            tar.addfile(info, io.BytesIO(files[name]))
    return gzip.compress(raw.getvalue(), compresslevel=6, mtime=0)


def unpack(archive: Path, to: Path) -> None:
    """Writes an archive's files under ``to``; :class:`BadMessage` for anything that is no
    recording or would write elsewhere. Links, devices and huge members are never made."""
    total = 0
    try:
        with tarfile.open(archive, mode="r:*") as tar:
            for count, member in enumerate(tar):
                total += member.size
                if count >= _MAX_FILES or total > _MAX_TOTAL_BYTES:
                    raise BadMessage(f"{archive.name}: larger than any recording")
                if not member.isdir():
                    _write(tar, member, to, archive.name)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadMessage(f"{archive.name}: not a recording: {error}") from error


@contextlib.contextmanager
def opened(sysroot: Path) -> Iterator[Path]:
    """``sysroot`` itself where it is a folder; the contents of the archive it is otherwise, in a
    temporary folder that goes away afterwards."""
    if sysroot.is_dir():
        yield sysroot
        return
    with tempfile.TemporaryDirectory(prefix="assay-recording-") as folder:
        unpack(sysroot, Path(folder))
        yield Path(folder)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, to: Path, archive: str) -> None:
    name = PurePosixPath(member.name)
    if not member.isreg() or name.is_absolute() or ".." in name.parts:
        raise BadMessage(f"{archive}: {member.name} is no plain file under the root")
    if member.size > MAX_FILE_BYTES + _READ_SLACK_BYTES:
        raise BadMessage(f"{archive}: {member.name} is larger than any recorded file")
    stream = tar.extractfile(member)
    assert stream is not None
    path = to / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.read())
    except OSError as error:
        raise BadMessage(f"{archive}: {member.name}: {error.strerror}") from error
