"""Data from the public web, believed only by its sha256."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path

from assay.core.errors import AssayError, CorruptArtifact, DiskFull, Unreachable

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30.0
_GZIP_WINDOW = 16 + zlib.MAX_WBITS

OnBytes = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all; 0 where the server does not say)."""


def fetch_unzipped(addresses: Sequence[str], to: Path, sha256: str, on_bytes: OnBytes) -> None:
    """Fetches a gzipped file from the first address that works and keeps it unzipped as ``to``.

    ``to`` appears whole and with the given ``sha256`` (64 hex digits) or not at all.
    :class:`Unreachable` names every address and what went wrong there.
    """
    reasons = []
    for address in addresses:
        try:
            _fetch_one(address, to, sha256, on_bytes)
        except DiskFull:
            raise
        except AssayError as error:
            reasons.append(f"{address}: {error}")
        else:
            return
    raise Unreachable("; ".join(reasons))


def _fetch_one(address: str, to: Path, sha256: str, on_bytes: OnBytes) -> None:
    handle, name = -1, ""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.")
        hasher = hashlib.sha256()
        with os.fdopen(handle, "wb") as file:
            for chunk in _unzipped(_chunks(address, on_bytes)):
                hasher.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if hasher.hexdigest() != sha256:
            raise CorruptArtifact(f"arrived with sha256 {hasher.hexdigest()}, not {sha256}")
        os.replace(name, to)
    except OSError as error:
        raise DiskFull(f"cannot write {to}: {error.strerror}") from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


def _chunks(address: str, on_bytes: OnBytes) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            done = 0
            while chunk := answer.read(_CHUNK_BYTES):
                done += len(chunk)
                on_bytes(done, total)
                yield chunk
    except urllib.error.HTTPError as error:
        raise Unreachable(f"the server answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise Unreachable(str(getattr(error, "reason", error)) or type(error).__name__) from error


def _unzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        for chunk in chunks:
            yield inflater.decompress(chunk)
        yield inflater.flush()
    except zlib.error as error:
        raise CorruptArtifact(f"not a gzip file: {error}") from error
    if not inflater.eof:
        raise CorruptArtifact("the gzip file ended early")
