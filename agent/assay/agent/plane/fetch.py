"""Gets an artifact onto this device: by digest, resumed where it was cut off, verified whole."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.plane.cache import ArtifactCache
from assay.agent.plane.encoded import EncodedFetcher
from assay.agent.plane.limits import until
from assay.agent.plane.traffic import Reserve
from assay.core import log
from assay.core.channel import Backoff
from assay.core.errors import BadMessage, Cancelled, CorruptArtifact, Unreachable
from assay.core.framing import Chunk
from assay.core.model import ArtifactRef

_LOG = log.get(__name__)

Read = Callable[[ArtifactRef, int], Iterator[Chunk]]


@dataclass(slots=True)
class Fetcher:
    """Downloads into ``cache`` by ``read`` (the artifact, an offset → chunks); one thread.
    ``reserve`` sets aside the bytes of a transfer before it begins."""

    cache: ArtifactCache
    read: Read
    rng: random.Random = field(default_factory=random.Random)
    encoded: EncodedFetcher | None = None
    reserve: Reserve = lambda _size, _what: contextlib.nullcontext()

    def fetch(self, ref: ArtifactRef, cancel: threading.Event) -> Path:
        """The verified file of ``ref``; what is held already is read anew, so that a bit that
        flipped on disk is found.

        An unreachable controller is waited for until ``cancel``, which raises :class:`Cancelled`.
        Content that is wrong twice raises :class:`CorruptArtifact`, and after the first time it
        comes as it is, not encoded; :class:`DiskFull` where there is no room, before anything is
        asked for; :class:`OverBudget` where it is more than is left of the day's bytes.
        """
        held = self.cache.verified(ref)
        if held is not None:
            return held
        backoff = Backoff(rng=self.rng)
        wrong = 0
        while not cancel.is_set():
            self.cache.make_room(ref)
            before = self.cache.store.partial_bytes(ref)
            try:
                if self.encoded is not None and not before and not wrong:
                    arrived = self.encoded.fetch(ref, cancel)
                    if arrived is not None:
                        return arrived
                return self._download(ref, before, cancel)
            except (Unreachable, Cancelled) as error:
                if self.cache.store.partial_bytes(ref) > before:
                    backoff.succeeded()
                _LOG.warning("download was cut off", digest=ref.digest, error=str(error))
            except (CorruptArtifact, BadMessage) as error:
                # Cut short, but further than before: go on from there.
                if before < self.cache.store.partial_bytes(ref) < ref.size_bytes:
                    continue
                wrong += 1
                self.cache.store.discard_partial(ref)
                _LOG.error("download was wrong", digest=ref.digest, error=str(error), times=wrong)
                if wrong == 2:
                    raise
            cancel.wait(backoff.next_s())
        raise Cancelled(f"fetching {ref.digest} was cancelled")

    def _download(self, ref: ArtifactRef, offset: int, cancel: threading.Event) -> Path:
        if offset > ref.size_bytes:
            self.cache.store.discard_partial(ref)
            offset = 0
        # All of it may be here already, unverified: a crash came just before the end.
        chunks = self.read(ref, offset) if offset < ref.size_bytes or not offset else iter(())
        with self.reserve(ref.size_bytes - offset, f"artifact {ref.digest}"):
            return self.cache.store.receive(ref, until(cancel, chunks), resume=offset > 0)
