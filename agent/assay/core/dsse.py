"""A signature around bytes: the exact bytes and their type are signed, whatever they mean.

The format is the JSON envelope of DSSE 1.0 (https://github.com/secure-systems-lab/dsse), so that
other tools can sign and check. Here is only what is text; :mod:`assay.core.publishers` knows keys.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from assay.core.errors import BadMessage

MAX_BYTES = 1 << 20
MAX_SIGNATURES = 16
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class Signature:
    """``value`` is as the key's kind has it; ``keyid`` is a hint that nobody signed."""

    value: bytes
    keyid: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """``payload`` means nothing before one of the ``signatures`` has been checked."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


def signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """What a signature is over: the type and the payload, each after its length (DSSE's PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def encode(envelope: Envelope) -> bytes:
    """The envelope as JSON."""
    signatures = [
        {"keyid": signature.keyid, "sig": base64.b64encode(signature.value).decode()}
        for signature in envelope.signatures
    ]
    value = {
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": envelope.payload_type,
        "signatures": signatures,
    }
    return json.dumps(value, indent=1).encode() + b"\n"


def decode(data: bytes) -> Envelope:
    """The envelope that ``data`` holds, unchecked; :class:`BadMessage` where it holds none.

    Fields that are not known are passed over, as the format demands; a doubled one is refused,
    since two readers could take it for two things.
    """
    raw = read_json(data, MAX_BYTES, "an envelope")
    signatures = raw.get("signatures")
    if not isinstance(signatures, list) or not 0 < len(signatures) <= MAX_SIGNATURES:
        raise BadMessage(f"an envelope has 1 to {MAX_SIGNATURES} signatures")
    return Envelope(
        _text(raw, "payloadType"),
        _binary(raw, "payload"),
        tuple(_signature(entry) for entry in signatures),
    )


def read_json(data: bytes, most_bytes: int, what: str) -> dict[str, Any]:
    """The JSON object in ``data``, of at most so many bytes; :class:`BadMessage` where it is none,
    or names a key twice."""
    if len(data) > most_bytes:
        raise BadMessage(f"{what} has at most {most_bytes} bytes, not {len(data)}")
    try:
        found = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"this is not {what}: {error}") from None
    if not isinstance(found, dict):
        raise BadMessage(f"this is not {what}: no JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _signature(entry: Any) -> Signature:
    if not isinstance(entry, dict):
        raise BadMessage("a signature of an envelope is a JSON object")
    return Signature(_binary(entry, "sig"), _text(entry, "keyid") if entry.get("keyid") else "")


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise BadMessage(f"an envelope's {key} is a text of at most 200 characters")
    return value


def _binary(raw: dict[str, Any], key: str) -> bytes:
    value = raw.get(key)
    try:
        if isinstance(value, str):
            return base64.b64decode(value.translate(_URL_SAFE), validate=True)
    except ValueError:
        pass
    raise BadMessage(f"an envelope's {key} is base64")
