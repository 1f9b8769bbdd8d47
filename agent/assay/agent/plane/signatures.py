"""Publishers' signatures: where the owner of a device trusts certain keys, nothing is fetched or
run that none of them signed, whatever the controller says. Reference: docs/decisions/signatures.md.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.plane import vouching
from assay.agent.plane.limits import Limit
from assay.core import log
from assay.core.channel import Backoff
from assay.core.errors import (
    AssayError,
    Cancelled,
    CheckFailed,
    FetchTimeout,
    Unreachable,
    UnsignedArtifact,
    VersionMismatch,
)
from assay.core.model import ArtifactRef
from assay.core.statement import from_entry

_LOG = log.get(__name__)
_MOST_DIGESTS = 1_000
_MOST_REASONS = 3
_CHILD_S = 120.0

SHIPPED = frozenset(
    {
        "sha256:c70b9425d8ca56101ac0da8d362fcd5d13327b32af6fb930e11ef32e2551e52d",
        "sha256:32e393abd5b99221f9c7ace3b55f23283ad21bf6a22b38383651638a69c43463",
        "sha256:b43287d655e5a2365b103f4bffe052a291b873f1a62436893676d802a8b867db",
        "sha256:52f6cb4c4fe787c604b51d4ff0eaf5a309130ff2ca7c2232987128ac6dff5952",
        "sha256:d9912e28c3bccfa7b75aac13dae9cd844db68adf88247133618997648e423f4e",
        "sha256:47f094045f6849868a06edb6bfc303092ddbe079472b77ae4859f5374daa742c",
    }
)
"""The canary of this version and its golden outputs: pinned here, so nobody need sign them."""

Ask = Callable[[Sequence[str]], Sequence[bytes]]
"""Digests → the envelopes that the controller holds for them."""

Refused = Callable[[Iterable[ArtifactRef], Limit], Mapping[str, AssayError]]
"""(artifacts, what there is time for) → why not, by the digest of each that may not be used."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """``signed`` are artifacts that a trusted publisher signed, by digest; ``refused`` says why
    other envelopes count for nothing."""

    signed: Mapping[str, tuple[ArtifactRef, ...]] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


Check = Callable[[Sequence[Path], Sequence[bytes]], Vouched]


def unsigned(trusted: Sequence[Path] | None, ask: Ask) -> Refused:
    """What refuses artifacts for an agent that trusts these keys; nothing is where it names none.
    :class:`CheckFailed` where a key cannot be used: then nothing could be checked."""
    if not trusted:
        return lambda _refs, _limit: {}
    check_by_child(trusted, [])
    _LOG.info("only signed artifacts are taken", publishers=[str(path) for path in trusted])
    return Signatures(tuple(trusted), ask).refused


@dataclass(frozen=True, slots=True)
class Signatures:
    """Asks the controller for envelopes and believes only what a key in ``trusted`` signed."""

    trusted: tuple[Path, ...]
    ask: Ask
    check: Check = field(default_factory=lambda: check_by_child)
    rng: random.Random = field(default_factory=random.Random)

    def refused(self, refs: Iterable[ArtifactRef], limit: Limit) -> Mapping[str, AssayError]:
        """Why each artifact may not be used, by digest; empty where all may.

        An unreachable controller is waited for until ``limit``: :class:`Cancelled` where the round
        ended. Where nothing can be asked or checked, all are refused with what went wrong.
        """
        wanted = [ref for ref in dict.fromkeys(refs) if ref.digest not in SHIPPED]
        if not wanted:
            return {}
        try:
            found = self._vouched([*dict.fromkeys(ref.digest for ref in wanted)], limit)
        except Cancelled:
            if not limit.timed_out:
                raise
            late = FetchTimeout(f"no signatures could be asked for within {limit.limit_s:g} s")
            return {ref.digest: late for ref in wanted}
        except AssayError as error:
            return {ref.digest: error for ref in wanted}
        refused = judge(wanted, found)
        if refused:
            _LOG.error(
                "artifacts were refused: no trusted publisher signed them",
                digests=sorted(refused),
                envelopes_refused=list(found.refused),
            )
        return refused

    def _vouched(self, digests: Sequence[str], limit: Limit) -> Vouched:
        envelopes: dict[bytes, None] = {}
        try:
            for start in range(0, len(digests), _MOST_DIGESTS):
                asked = self._patiently(digests[start : start + _MOST_DIGESTS], limit)
                envelopes |= dict.fromkeys(asked)
        except VersionMismatch as error:
            return Vouched(refused=(str(error),))
        return self.check(self.trusted, list(envelopes)) if envelopes else Vouched()

    def _patiently(self, digests: Sequence[str], limit: Limit) -> Sequence[bytes]:
        backoff = Backoff(rng=self.rng)
        while not limit.is_set():
            try:
                return self.ask(digests)
            except (Unreachable, Cancelled) as error:
                _LOG.warning("signatures could not be asked for", error=str(error))
            limit.wait(backoff.next_s())
        raise Cancelled("asking for signatures was cancelled")


def judge(refs: Iterable[ArtifactRef], found: Vouched) -> Mapping[str, AssayError]:
    """Which of ``refs`` are not signed as what they are to be used as: same content, same size,
    same type. Pure."""
    return {
        ref.digest: UnsignedArtifact(_why(ref, found))
        for ref in refs
        if ref not in found.signed.get(ref.digest, ())
    }


def _why(ref: ArtifactRef, found: Vouched) -> str:
    what = f"artifact {ref.digest} ({ref.media_type}, {ref.size_bytes} bytes)"
    signed = found.signed.get(ref.digest, ())
    if signed:
        other = signed[0]
        return f"{what} was signed as {other.media_type} of {other.size_bytes} bytes"
    reasons = list(dict.fromkeys(found.refused))[:_MOST_REASONS]
    others = f" (envelopes that count for nothing: {'; '.join(reasons)})" if reasons else ""
    return (
        f"{what} is in no envelope of a publisher this device trusts{others}: sign it where the "
        "key is (`assay publish sign`), then `assay publish add` its envelope to the controller"
    )


def check_by_child(trusted: Sequence[Path], envelopes: Sequence[bytes]) -> Vouched:
    """Runs :mod:`assay.agent.plane.vouching`. :class:`CheckFailed` where a key cannot be used."""
    order = {
        "trusted": [str(path.absolute()) for path in trusted],
        "envelopes": [base64.b64encode(data).decode() for data in envelopes],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", vouching.__name__],
            input=json.dumps(order),
            capture_output=True,
            encoding="utf-8",
            timeout=_CHILD_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssayError(f"signatures cannot be checked: {error}") from error
    if done.returncode == CheckFailed("").meaning.exit_code and done.stdout:
        raise CheckFailed(done.stdout.strip())
    if done.returncode != 0:
        raise AssayError(f"signatures cannot be checked: {done.stderr[-2000:].strip()}")
    return _read(done.stdout)


def _read(answer: str) -> Vouched:
    said = json.loads(answer)
    signed: dict[str, tuple[ArtifactRef, ...]] = {}
    for entry in said["signed"]:
        ref = from_entry(entry).ref
        signed[ref.digest] = (*signed.get(ref.digest, ()), ref)
    return Vouched(signed, tuple(said["refused"]))
