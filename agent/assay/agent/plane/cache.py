"""Artifacts on this device: a content store with a quota, least recently used out first."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from assay.core import digest as digests
from assay.core import log
from assay.core.cas import ContentStore
from assay.core.errors import DiskFull, NotFound
from assay.core.model import ArtifactRef

_LOG = log.get(__name__)


class ArtifactCache:
    """The files below ``store``; safe for several threads of one process.

    What is pinned is never evicted. ``reserve_bytes`` of the disk are left free in any case, for
    results. ``free_bytes`` tells how much room the disk has; tests own it.
    """

    def __init__(
        self,
        store: ContentStore,
        quota_bytes: int,
        reserve_bytes: int,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        self.store = store
        self._quota_bytes = quota_bytes
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(store.root).free)
        self._lock = threading.Lock()
        self._pins: dict[str, frozenset[str]] = {}

    def pin(self, owner: str, wanted: Iterable[str]) -> None:
        """Keeps these digests until ``owner`` lets go of them."""
        with self._lock:
            self._pins[owner] = frozenset(wanted)

    def unpin(self, owner: str) -> None:
        """Lets go; no error where nothing was held."""
        with self._lock:
            self._pins.pop(owner, None)

    def verified(self, ref: ArtifactRef) -> Path | None:
        """The file of ``ref`` after reading all of it anew; None where it is not held. One whose
        content has changed on disk is set aside, and None too."""
        try:
            path = self.store.path(ref.digest)
        except NotFound:
            return None
        if path.stat().st_size != ref.size_bytes or digests.of_file(path) != ref.digest:
            _LOG.error("artifact was corrupt on disk", digest=ref.digest, path=str(path))
            self.store.quarantine(ref.digest)
            return None
        self.used(path)
        return path

    def used(self, path: Path) -> None:
        """Makes a file the most recently used one."""
        os.utime(path)

    def make_room(self, ref: ArtifactRef) -> None:
        """Evicts until what is missing of ``ref`` fits; :class:`DiskFull` where it cannot."""
        missing = ref.size_bytes - self.store.partial_bytes(ref)
        with self._lock:
            candidates = self._evictable(ref)
            while (problem := self._problem(missing)) and candidates:
                victim = candidates.pop(0)
                _LOG.info("artifact was evicted", file=victim.name, bytes=victim.stat().st_size)
                victim.unlink()
        if problem:
            raise DiskFull(f"no room for artifact {ref.digest} ({ref.size_bytes} bytes): {problem}")

    def bases(self) -> list[str]:
        """What is held, the most recently used first: digests a patch could rest on."""
        root = self.store.root
        found = sorted(root.glob("sha256/??/*"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
        return [f"sha256:{path.name}" for path in found]

    def evict_all(self) -> None:
        """Gives up everything that is not pinned, where results need the room."""
        with self._lock:
            for path in self._evictable(None):
                path.unlink()

    def _problem(self, missing: int) -> str:
        used = sum(path.stat().st_size for path in self._files())
        if used + missing > self._quota_bytes:
            return (
                f"{used} bytes of the quota of {self._quota_bytes} are in use by the rounds going "
                "on; raise cache_quota_bytes"
            )
        free = self._free_bytes()
        if free - missing < self._reserve_bytes:
            return (
                f"{free} bytes are free in {self.store.root}, of which {self._reserve_bytes} are "
                "kept for results; free some space there"
            )
        return ""

    def _evictable(self, wanted: ArtifactRef | None) -> list[Path]:
        """What may go: damaged files first, then what was not used for longest."""
        keep = {digests.hex_of(digest) for pins in self._pins.values() for digest in pins}
        if wanted is not None:
            keep.add(digests.hex_of(wanted.digest))
        found = [p for p in self._files() if p.suffix == ".corrupt" or _digest_of(p) not in keep]
        return sorted(found, key=lambda path: (path.suffix != ".corrupt", path.stat().st_mtime_ns))

    def _files(self) -> list[Path]:
        root = self.store.root
        return [*root.glob("sha256/??/*"), *root.glob("partial/*")]


def _digest_of(path: Path) -> str:
    # An encoded form that gathers is named after its file.
    return path.name.partition(".")[0]
