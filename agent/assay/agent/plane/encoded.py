"""Gets an artifact in fewer bytes: compressed, or as a patch to one that is here already."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.plane.cache import ArtifactCache
from assay.agent.plane.limits import until
from assay.agent.plane.offer import Offer
from assay.agent.plane.traffic import Reserve
from assay.core import log
from assay.core.digest import hex_of
from assay.core.encoding import Encoding, decoded
from assay.core.errors import (
    AssayError,
    Cancelled,
    CheckFailed,
    CorruptArtifact,
    DiskFull,
    OverBudget,
    Unreachable,
    VersionMismatch,
)
from assay.core.framing import Chunk
from assay.core.model import ArtifactRef

_LOG = log.get(__name__)
_MOST_BASES = 100
_CHUNK_BYTES = 1 << 20
_LEAST_BYTES = 4 << 10

AskOffer = Callable[[ArtifactRef, Sequence[str], int], Offer]
ReadEncoded = Callable[[ArtifactRef, int, Offer], Iterator[Chunk]]


@dataclass(slots=True)
class EncodedFetcher:
    """Asks for an offer and takes it. The encoded form gathers on disk, resumed where it was cut
    off; it is decoded once it is whole, and goes. ``memory_bytes`` tells what may be spent on that.
    """

    cache: ArtifactCache
    ask: AskOffer
    read: ReadEncoded
    memory_bytes: Callable[[], int]
    reserve: Reserve = lambda _size, _what: contextlib.nullcontext()
    _old_controller: bool = field(default=False, init=False)

    def fetch(self, ref: ArtifactRef, cancel: threading.Event) -> Path | None:
        """The verified file; None where it should come as it is. :class:`CorruptArtifact` where
        what arrived is wrong; :class:`Unreachable` and :class:`Cancelled` where it was cut off."""
        if self._old_controller or ref.size_bytes < _LEAST_BYTES:
            return None
        offer = self._offered(ref)
        if offer is None or offer.encoding is Encoding.IDENTITY:
            return None
        partial = self.cache.store.partial_path(ref, _suffix(offer))
        try:
            self._gather(ref, offer, partial, cancel)
            return self._decode(ref, offer, partial)
        except (Unreachable, Cancelled, OverBudget):
            raise
        except CheckFailed:
            # Its encoded form is gone over there.
            partial.unlink(missing_ok=True)
            return None
        except AssayError:
            partial.unlink(missing_ok=True)
            # What came out of a wrong form must not be gone on from.
            self.cache.store.discard_partial(ref)
            raise

    def _offered(self, ref: ArtifactRef) -> Offer | None:
        memory_bytes = self.memory_bytes()
        try:
            offer = self.ask(ref, self.cache.bases()[:_MOST_BASES], memory_bytes)
        except (Unreachable, Cancelled):
            raise
        except VersionMismatch:
            _LOG.info("the controller sends artifacts only as they are")
            self._old_controller = True
            return None
        except AssayError as error:
            # Reading the file as it is will say what is wrong, if it still is.
            _LOG.warning("no offer for an artifact", digest=ref.digest, error=str(error))
            return None
        if offer.wire_bytes >= ref.size_bytes:
            return None
        if offer.base and not self.cache.store.has(offer.base):
            return None
        return offer

    def _gather(
        self, ref: ArtifactRef, offer: Offer, partial: Path, cancel: threading.Event
    ) -> None:
        try:
            with partial.open("ab") as file:
                have = file.tell()
                if have > offer.wire_bytes:
                    file.truncate(0)
                    have = 0
                chunks = self.read(ref, have, offer) if have < offer.wire_bytes else iter(())
                with self.reserve(offer.wire_bytes - have, f"artifact {ref.digest}"):
                    for chunk in until(cancel, chunks):
                        have += len(chunk)
                        if have > offer.wire_bytes:
                            break
                        file.write(chunk)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"no room for artifact {ref.digest} in {partial.parent}") from error
            raise
        if have != offer.wire_bytes:
            raise CorruptArtifact(
                f"artifact {ref.digest} came as {have} encoded bytes, not {offer.wire_bytes}"
            )

    def _decode(self, ref: ArtifactRef, offer: Offer, partial: Path) -> Path:
        base = self.cache.store.path(offer.base) if offer.base else None
        with partial.open("rb") as file:
            chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
            masked = offer.encoding is Encoding.ZSTD_MASKED_PATCH
            pieces = decoded(chunks, ref.size_bytes, offer.window_log, base, masked=masked)
            path = self.cache.store.receive(ref, pieces)
        os.unlink(partial)
        _LOG.info(
            "artifact arrived encoded",
            digest=ref.digest,
            encoding=offer.encoding.value,
            wire_bytes=offer.wire_bytes,
            bytes=ref.size_bytes,
        )
        return path


def _suffix(offer: Offer) -> str:
    # One form must not be gone on with as another.
    return f"{hex_of(offer.base)[:16]}.{offer.encoding.value}" if offer.base else "zst"
