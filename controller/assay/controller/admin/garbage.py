"""Garbage in the content store: files that no record names any more.

Safe beside a controller, builds and uploads: a file goes only where it was neither written nor
found to be there already (:meth:`ContentStore.touch`) for as long as the grace lasts, and whoever
names a file writes or finds it first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from assay.controller.canary import PINNED
from assay.controller.home import Home
from assay.controller.store.base import Store
from assay.controller.store.keeping import keeping
from assay.core import digest
from assay.core.cas import ContentStore

ARTIFACT = "artifact"
ENCODED = "encoded"
PARTIAL = "partial"
_WHERE = {ARTIFACT: "sha256/??/*", ENCODED: "encoded/*", PARTIAL: "partial/*"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of the content store: an artifact, an encoded form of one, or what was begun."""

    kind: str
    path: Path
    size_bytes: int
    modified_ns: int


def unneeded(pieces: Iterable[Piece], named: frozenset[str], before_ns: int) -> list[Piece]:
    """Those of ``pieces`` that were last touched before ``before_ns`` and are artifacts no digest
    of ``named`` stands for, encoded forms of what is not kept, or begun and left."""
    listed = list(pieces)
    wanted = {digest.hex_of(one) for one in named}

    def goes(piece: Piece, kept: set[str]) -> bool:
        # An encoded form is called by its file, its base and its form, with dots between.
        parts = piece.path.name.split(".")[:-1] if piece.kind == ENCODED else [piece.path.name]
        return piece.modified_ns < before_ns and not kept.issuperset(parts)

    artifacts = [piece for piece in listed if piece.kind == ARTIFACT]
    kept = {piece.path.name for piece in artifacts if not goes(piece, wanted)}
    return [piece for piece in listed if goes(piece, wanted if piece.kind == ARTIFACT else kept)]


def collect(
    home: Home, store: Store, *, now_ns: int, grace_ns: int, dry_run: bool = False
) -> list[Piece]:
    """Removes what is not needed and returns it; with ``dry_run`` it only tells."""
    before_ns = now_ns - grace_ns
    with keeping(home):
        # Files first, names second: what is named meanwhile is not taken for garbage.
        pieces = list(_pieces(home.artifacts))
        found = unneeded(pieces, _named(home, store), before_ns)
        if dry_run:
            return found
        blobs = ContentStore(home.artifacts)
        return [piece for piece in found if _remove(blobs, piece, before_ns)]


def _pieces(root: Path) -> Iterator[Piece]:
    for kind, pattern in _WHERE.items():
        for path in sorted(root.glob(pattern)):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # renamed or removed meanwhile
            yield Piece(kind, path, status.st_size, status.st_mtime_ns)


def _named(home: Home, store: Store) -> frozenset[str]:
    canaries = [name for one in PINNED.values() for name in (one.digest, one.golden_digest)]
    # Read as text: what another version of the index names is kept too.
    networks = [
        name
        for path in (home.artifacts / "networks").glob("*.json")
        for name in digest.found_in(path.read_text(errors="replace"))
    ]
    return store.named_artifacts().union(canaries, networks)


def _remove(blobs: ContentStore, piece: Piece, before_ns: int) -> bool:
    if piece.kind == ARTIFACT:
        # Somebody may have found it since it was listed.
        return blobs.remove_untouched(f"sha256:{piece.path.name}", before_ns)
    try:
        piece.path.unlink()
    except FileNotFoundError:
        return False
    return True
