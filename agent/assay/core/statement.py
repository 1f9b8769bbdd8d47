"""What a publisher signs: a list of files by content. ``application/vnd.assay.artifacts+json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.core.digest import is_digest
from assay.core.dsse import MAX_BYTES, read_json
from assay.core.errors import BadMessage
from assay.core.model import ArtifactRef

PAYLOAD_TYPE = "application/vnd.assay.artifacts+json"
TYPE = "assay.artifacts/1"
MAX_ARTIFACTS = 4000
_MAX_TEXT = 200
_KEYS = frozenset({"type", "created", "comment", "artifacts"})
_ARTIFACT_KEYS = frozenset({"digest", "size_bytes", "media_type", "name"})


@dataclass(frozen=True, slots=True)
class NamedArtifact:
    """A file and what its publisher calls it; the name is for people."""

    ref: ArtifactRef
    name: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """``created`` is ISO 8601 by the publisher's clock, for people; nothing expires by it."""

    artifacts: tuple[NamedArtifact, ...]
    created: str
    comment: str = ""


def encode(statement: Statement) -> bytes:
    """The exact bytes to sign; :class:`BadMessage` for what :func:`decode` would refuse."""
    value = {
        "type": TYPE,
        "created": statement.created,
        "comment": statement.comment,
        "artifacts": [as_entry(each) for each in statement.artifacts],
    }
    data = json.dumps(value, indent=1).encode()
    decode(data)
    return data


def decode(payload: bytes) -> Statement:
    """The statement in a payload. :class:`BadMessage` for anything else, also for a key that is not
    known: it might say when *not* to trust the rest."""
    raw = read_json(payload, MAX_BYTES, "a statement about artifacts")
    if raw.get("type") != TYPE:
        raise BadMessage(f"a statement of type {raw.get('type')!r} is not {TYPE}; upgrade Assay")
    _check_keys(raw, _KEYS)
    entries = raw["artifacts"]
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_ARTIFACTS:
        raise BadMessage(f"a statement names 1 to {MAX_ARTIFACTS} artifacts")
    return Statement(
        tuple(from_entry(entry) for entry in entries), _text(raw, "created"), _text(raw, "comment")
    )


def as_entry(artifact: NamedArtifact) -> dict[str, Any]:
    """One artifact as it stands in a statement, and in a list of what should be signed."""
    ref = artifact.ref
    return {
        "digest": ref.digest,
        "size_bytes": ref.size_bytes,
        "media_type": ref.media_type,
        "name": artifact.name,
    }


def from_entry(entry: Any) -> NamedArtifact:
    """The inverse of :func:`as_entry`; :class:`BadMessage` where something is missing or odd."""
    if not isinstance(entry, dict):
        raise BadMessage("an artifact of a statement is a JSON object")
    _check_keys(entry, _ARTIFACT_KEYS)
    size = entry["size_bytes"]
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
        raise BadMessage("an artifact's size_bytes is a whole number of bytes")
    if not isinstance(entry["digest"], str) or not is_digest(entry["digest"]):
        raise BadMessage("an artifact's digest is sha256:<64 hex digits>")
    ref = ArtifactRef(entry["digest"], size, _text(entry, "media_type"))
    return NamedArtifact(ref, _text(entry, "name"))


def _check_keys(raw: Mapping[str, Any], known: frozenset[str]) -> None:
    if raw.keys() != known:
        odd = ", ".join(sorted(map(repr, raw.keys() ^ known)))
        raise BadMessage(f"a statement has {', '.join(sorted(known))}; it differs in {odd}")


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw[key]
    # Printable: names go to terminals.
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise BadMessage(f"a statement's {key} is a text of at most {_MAX_TEXT} characters")
    return value
