"""Names for content: sha256, written ``sha256:<64 hex>``."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

_PREFIX = "sha256:"
_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


def of_bytes(data: bytes) -> str:
    """The digest of ``data``."""
    return named(hashlib.sha256(data).hexdigest())


def of_file(path: Path) -> str:
    """The digest of the file at ``path``, read in chunks."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return named(hasher.hexdigest())


def named(hex_digits: str) -> str:
    """The digest with these 64 hex digits: the inverse of :func:`hex_of`."""
    return _PREFIX + hex_digits


def of_json(value: Any) -> str:
    """The digest of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return of_bytes(text.encode())


def is_digest(text: str) -> bool:
    """Whether ``text`` has the form of a digest (so that it is safe as a file name)."""
    return _PATTERN.fullmatch(text) is not None


def found_in(text: str) -> list[str]:
    """Every digest that ``text`` holds, wherever it stands."""
    return _PATTERN.findall(text)


def hex_of(digest: str) -> str:
    """The 64 hex digits of a digest."""
    return digest.removeprefix(_PREFIX)


def short(digest: str) -> str:
    """Twelve hex digits, for people."""
    return hex_of(digest)[:12]
