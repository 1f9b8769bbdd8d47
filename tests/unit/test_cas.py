"""A file is in the content store only whole and verified."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import BadMessage, CorruptArtifact, DiskFull, NotFound
from assay.core.model import MEDIA_NPZ, ArtifactRef


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path)


def ref_of(data: bytes) -> ArtifactRef:
    return ArtifactRef(digest.of_bytes(data), len(data), MEDIA_NPZ)


def test_what_is_added_is_found_under_its_digest(store: ContentStore) -> None:
    ref = store.add_bytes(b"weights", MEDIA_NPZ)
    assert ref == ref_of(b"weights")
    assert store.path(ref.digest).read_bytes() == b"weights"
    assert list(store.held()) == [(ref.digest, 7)]


def test_a_copy_of_a_file_has_the_digest_of_its_bytes(store: ContentStore, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(b"x" * 3_000_000)
    ref = store.add_file(source, MEDIA_NPZ)
    assert digest.of_file(store.path(ref.digest)) == ref.digest == digest.of_file(source)


def test_a_file_is_on_the_disk_before_it_has_its_name(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, did = ref_of(b"weights"), []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda _handle: did.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda *paths: (did.append("name"), replace(*paths)))
    store.receive(ref, [b"wei", b"ghts"])
    assert did == ["fsync", "name", "fsync"], "the file, its name, the directory that holds it"
    assert store.path(ref.digest).read_bytes() == b"weights"


def test_what_is_not_held_is_not_found(store: ContentStore) -> None:
    with pytest.raises(NotFound):
        store.path(digest.of_bytes(b"absent"))


@pytest.mark.parametrize("name", ["", "sha256:", "../../etc/passwd", "sha256:" + "g" * 64])
def test_only_a_digest_can_be_a_name(store: ContentStore, name: str) -> None:
    with pytest.raises(BadMessage, match="is not of the form"):
        store.path(name)


def test_flipped_bits_are_refused_and_dropped(store: ContentStore) -> None:
    ref = ref_of(b"weights")
    with pytest.raises(CorruptArtifact, match="arrived as sha256:"):
        store.receive(ref, [b"weighty"])
    assert not store.has(ref.digest)
    assert store.partial_bytes(ref) == 0


def test_endless_data_is_cut_at_the_promised_size(store: ContentStore) -> None:
    ref = ref_of(b"weights")

    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"weights"
        raise AssertionError("read far beyond the promised size")

    with pytest.raises(CorruptArtifact, match="longer than 7 bytes"):
        store.receive(ref, endless())
    assert not store.has(ref.digest)


@settings(max_examples=25)
@given(cut=st.integers(0, 7))
def test_a_broken_transfer_resumes_where_it_stopped(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    store = ContentStore(tmp_path_factory.mktemp("cas"))
    data, ref = b"weights", ref_of(b"weights")

    def broken() -> Iterator[bytes]:
        yield data[:cut]
        raise ConnectionError("link down")

    with pytest.raises(ConnectionError):
        store.receive(ref, broken())
    offset = store.partial_bytes(ref)
    store.receive(ref, [data[offset:]], resume=True)
    assert store.path(ref.digest).read_bytes() == data


def test_a_transfer_that_ends_early_keeps_what_came(store: ContentStore) -> None:
    ref = ref_of(b"weights")
    with pytest.raises(CorruptArtifact, match="ended after 3 of 7 bytes"):
        store.receive(ref, [b"wei"])
    assert store.partial_bytes(ref) == 3


def test_a_second_writer_waits_and_finds_what_the_first_has_published(store: ContentStore) -> None:
    ref, begun, go_on = ref_of(b"weights"), threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"wei"
        begun.set()
        go_on.wait(20)
        yield b"ghts"

    def other() -> Iterator[bytes]:
        raise AssertionError("read although another has published the file")
        yield b""

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(store.receive, ref, slow())
        begun.wait(20)
        # In the middle of the first one's file: its hash would not be the file's.
        second = threads.submit(store.receive, ref, other())
        with pytest.raises(TimeoutError):
            second.result(0.1)
        go_on.set()
        assert first.result(20) == second.result(20) == store.path(ref.digest)
    assert store.path(ref.digest).read_bytes() == b"weights"
    assert store.partial_bytes(ref) == 0


def test_a_full_disk_is_named(store: ContentStore) -> None:
    def full() -> Iterator[bytes]:
        yield b"wei"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFull, match="no room for artifact"):
        store.receive(ref_of(b"weights"), full())


def test_a_quarantined_file_is_no_longer_held(store: ContentStore) -> None:
    ref = store.add_bytes(b"weights", MEDIA_NPZ)
    store.quarantine(ref.digest)
    assert not store.has(ref.digest)
