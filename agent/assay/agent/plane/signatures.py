"""Publishers' signatures: where the owner of a device trusts certain keys, nothing is fetched or
run that none of them signed, whatever the controller says. Reference: docs/decisions/signatures.md.
"""

from __future__ import annotations

import base64
import functools
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
from assay.core.digest import hex_of, of_bytes
from assay.core.errors import (
    AssayError,
    Cancelled,
    CheckFailed,
    FetchTimeout,
    SignaturesUnchecked,
    Unreachable,
    UnsignedArtifact,
    VersionMismatch,
)
from assay.core.model import ArtifactRef
from assay.core.statement import from_entry

_LOG = log.get(__name__)
_MOST_DIGESTS = 1_000
_MOST_ANSWERS = 20
_MOST_REASONS = 3
_MOST_REASONS_KEPT = 20
_CHILD_S = 120.0
_UNCHECKED = (
    "the process that checks signatures came to no end ({}): look for want of memory or of "
    "processes in the device's log"
)
MOST_TRIES = 5
"""So often the check is begun before the runs that need it fail."""

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


@dataclass(frozen=True, slots=True)
class Envelopes:
    """Those of one answer; ``more`` says whether others come after them, None where the controller
    is too old to say and leaves out what does not fit."""

    data: Sequence[bytes]
    more: bool | None


Ask = Callable[[Sequence[str], str], Envelopes]
"""(digests, the id of an envelope, or nothing) → the envelopes that the controller holds for them,
after that one."""

Refused = Callable[[Iterable[ArtifactRef], Limit], Mapping[str, AssayError]]
"""(artifacts, what there is time for) → why not, by the digest of each that may not be used."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """``signed`` are artifacts that a trusted publisher signed, by digest; ``refused`` says why
    other envelopes count for nothing."""

    signed: Mapping[str, tuple[ArtifactRef, ...]] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    def plus(self, other: Vouched) -> Vouched:
        """What both say."""
        digests = self.signed.keys() | other.signed.keys()
        signed = {d: (*self.signed.get(d, ()), *other.signed.get(d, ())) for d in digests}
        reasons = dict.fromkeys((*self.refused, *other.refused))
        return Vouched(signed, tuple(reasons)[:_MOST_REASONS_KEPT])


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
            found = self._vouched(wanted, limit)
        except Cancelled:
            if not limit.timed_out:
                raise
            late = FetchTimeout(f"no signatures could be had within {limit.limit_s:g} s")
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

    def _vouched(self, refs: Sequence[ArtifactRef], limit: Limit) -> Vouched:
        found = Vouched()
        try:
            for start in range(0, len(refs), _MOST_DIGESTS):
                found = found.plus(self._of(refs[start : start + _MOST_DIGESTS], limit))
        except VersionMismatch as error:
            return Vouched(refused=(str(error),))
        return found

    def _of(self, refs: Sequence[ArtifactRef], limit: Limit) -> Vouched:
        """What is signed of ``refs``: one answer after another, until all of them are."""
        digests = [*dict.fromkeys(ref.digest for ref in refs)]
        found, last = Vouched(), ""
        for _ in range(_MOST_ANSWERS):
            answer = self._patiently(digests, last, limit)
            found = found.plus(self._checked(answer.data, limit))
            left = [ref for ref in refs if judge([ref], found)]
            if not (left and answer.data) or answer.more is False:
                break
            if answer.more is None:
                alone = left if len(digests) > 1 else ()
                return functools.reduce(Vouched.plus, (self._of([r], limit) for r in alone), found)
            last = hex_of(of_bytes(answer.data[-1]))
        return found

    def _patiently(self, digests: Sequence[str], last: str, limit: Limit) -> Envelopes:
        backoff = Backoff(rng=self.rng)
        while not limit.is_set():
            try:
                return self.ask(digests, last)
            except (Unreachable, Cancelled) as error:
                _LOG.warning("signatures could not be asked for", error=str(error))
            limit.wait(backoff.next_s())
        raise Cancelled("asking for signatures was cancelled")

    def _checked(self, envelopes: Sequence[bytes], limit: Limit) -> Vouched:
        """A child that does not come to an end says nothing about what it was to check."""
        backoff = Backoff(rng=self.rng)
        tries = 0
        while envelopes:
            try:
                return self.check(self.trusted, envelopes)
            except SignaturesUnchecked as error:
                tries += 1
                _LOG.warning("signatures could not be checked", error=str(error), tries=tries)
                if tries == MOST_TRIES:
                    raise
            if limit.wait(backoff.next_s()):
                raise Cancelled("checking signatures was cancelled")
        return Vouched()


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
    reasons = "; ".join(dict.fromkeys(found.refused[:_MOST_REASONS]))
    others = f" (envelopes that count for nothing: {reasons})" if reasons else ""
    return (
        f"{what} is in no envelope of a publisher this device trusts{others}: sign it where the "
        "key is (`assay publish sign`), then `assay publish add` its envelope to the controller"
    )


def check_by_child(trusted: Sequence[Path], envelopes: Sequence[bytes]) -> Vouched:
    """Runs :mod:`assay.agent.plane.vouching`. :class:`CheckFailed` where a key cannot be used,
    :class:`SignaturesUnchecked` where the child could not do its work."""
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
    except (OSError, MemoryError, subprocess.SubprocessError) as error:
        raise SignaturesUnchecked(_UNCHECKED.format(repr(error))) from error
    if done.returncode == CheckFailed("").meaning.exit_code and done.stdout:
        raise CheckFailed(done.stdout.strip())
    if done.returncode != 0:
        why = done.stderr[-2000:].strip() or f"it ended with status {done.returncode}"
        raise SignaturesUnchecked(_UNCHECKED.format(why))
    return _read(done.stdout)


def _read(answer: str) -> Vouched:
    said = json.loads(answer)
    signed: dict[str, tuple[ArtifactRef, ...]] = {}
    for entry in said["signed"]:
        ref = from_entry(entry).ref
        signed[ref.digest] = (*signed.get(ref.digest, ()), ref)
    return Vouched(signed, tuple(said["refused"]))
