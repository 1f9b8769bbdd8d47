"""Reported results before they meet the store: hashed and read once, outside any transaction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from assay.core.convert import check, read_enum
from assay.core.errors import BadMessage
from assay.core.model import Result, VerdictKind
from assay.v1 import result_pb2

Reported = tuple[str, int, str, bytes]
"""(attempt_id, seq, sha256 of the body in hex, body)."""

# Nothing runs shorter or longer; what is compared and drawn can be reckoned with.
_SHORTEST_NS, _LONGEST_NS = 1e-3, 1e18


@dataclass(frozen=True, slots=True)
class Index:
    """What a result's row is searched by."""

    verdict: str
    failure_code: str | None
    p50_ns: float | None
    trace_digest: str | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A reported result. ``intact``: the body has the hash it came with. ``index`` is None where it
    cannot be kept; ``refusal`` says why."""

    attempt_id: str
    seq: int
    sha256: str
    body: bytes
    intact: bool
    index: Index | None
    refusal: str = ""


def arrived(reported: Reported) -> Arrived:
    """Looks at one; needs no store, so that many can be looked at while others are committed."""
    attempt_id, seq, sha256, body = reported
    intact = hashlib.sha256(body).hexdigest() == sha256
    if not intact:
        return Arrived(*reported, intact, None, "the body does not have the hash it came with")
    try:
        return Arrived(*reported, intact, _index(attempt_id, seq, body))
    except BadMessage as error:
        return Arrived(*reported, intact, None, str(error))


def _index(attempt_id: str, seq: int, body: bytes) -> Index:
    """Raises :class:`BadMessage` for whatever could not be read back as a ``Result``, or compared.

    The message is checked as it is, no values are made of it: that costs several times as much.
    """
    try:
        result = result_pb2.Result.FromString(body)
    except DecodeError as error:
        raise BadMessage(f"these {len(body)} bytes are not a Result: {error}") from None
    check(result, Result)
    if (result.attempt_id, result.seq) != (attempt_id, seq):
        raise BadMessage("the body belongs to another attempt or sequence number")
    p50_ns = result.latency.p50_ns if result.HasField("latency") else None
    if p50_ns is not None and not _SHORTEST_NS <= p50_ns <= _LONGEST_NS:
        raise BadMessage(f"a median of {p50_ns} ns is no time that a run can take")
    return Index(
        read_enum(result.verdict, "kind", VerdictKind).value,
        result.failure.code if result.HasField("failure") else None,
        p50_ns,
        result.trace.digest if result.HasField("trace") else None,
    )
