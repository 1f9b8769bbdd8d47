"""What every place for artifacts promises."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.controller.blobs.base import Blobs
from assay.controller.blobs.directory import DirectoryBlobs
from assay.core import digest
from assay.core.channel import BLOB_CHUNK_BYTES
from assay.core.errors import BadMessage, CorruptArtifact, DiskFull, NotFound, OutOfRange
from assay.core.model import MEDIA_NPZ, ArtifactRef


@pytest.fixture(params=["directory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """An empty place of each kind."""
    return DirectoryBlobs(tmp_path / "artifacts", reserve_bytes=0)


def named(data: bytes) -> ArtifactRef:
    return ArtifactRef(digest.of_bytes(data), len(data), MEDIA_NPZ)


def test_what_is_written_is_read_back(blobs: Blobs) -> None:
    ref = named(b"some samples")
    assert not blobs.has(ref.digest)
    assert blobs.write(ref, [b"some ", b"samples"])
    assert blobs.has(ref.digest)
    assert b"".join(blobs.read(ref.digest)) == b"some samples"


def test_writing_again_reads_nothing(blobs: Blobs) -> None:
    def never() -> Iterator[bytes]:
        raise AssertionError("the content is held already")
        yield b""

    ref = named(b"twice")
    blobs.write(ref, [b"twice"])
    assert blobs.write(ref, never()) is False


def test_reading_starts_at_the_offset(blobs: Blobs) -> None:
    ref = named(b"0123456789")
    blobs.write(ref, [b"0123456789"])
    assert b"".join(blobs.read(ref.digest, 7)) == b"789"
    assert list(blobs.read(ref.digest, 10)) == []


@pytest.mark.parametrize("offset", [-1, 11, 1 << 60])
def test_an_offset_beyond_the_end_is_out_of_range(blobs: Blobs, offset: int) -> None:
    ref = named(b"0123456789")
    blobs.write(ref, [b"0123456789"])
    with pytest.raises(OutOfRange):
        blobs.read(ref.digest, offset)


def test_large_files_are_read_in_chunks(blobs: Blobs) -> None:
    data = bytes(range(256)) * 10_000
    blobs.write(named(data), [data])
    chunks = list(blobs.read(named(data).digest, 5))
    assert b"".join(chunks) == data[5:]
    assert max(map(len, chunks)) <= BLOB_CHUNK_BYTES


def test_what_is_not_held_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFound):
        blobs.read(named(b"nothing").digest)


@pytest.mark.parametrize("body", [b"another one!", b"short", b"some samples and more"])
def test_what_is_not_as_promised_leaves_nothing(blobs: Blobs, tmp_path: Path, body: bytes) -> None:
    ref = named(b"some samples")
    with pytest.raises(CorruptArtifact):
        blobs.write(ref, [body])
    assert not blobs.has(ref.digest)
    assert files_below(tmp_path) == []


def test_a_sender_that_breaks_off_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some "
        raise ConnectionError

    with pytest.raises(ConnectionError):
        blobs.write(named(b"some samples"), broken())
    assert files_below(tmp_path) == []


def test_a_broken_write_does_not_spoil_the_next(blobs: Blobs) -> None:
    ref = named(b"some samples")
    with pytest.raises(CorruptArtifact):
        blobs.write(ref, [b"some "])
    assert blobs.write(ref, [b"some samples"])


@pytest.mark.parametrize("name", ["../../etc/passwd", "sha256:" + "g" * 64, ""])
def test_a_name_that_is_no_digest_is_refused(blobs: Blobs, name: str) -> None:
    with pytest.raises(BadMessage):
        blobs.read(name)
    with pytest.raises(BadMessage):
        blobs.write(ArtifactRef(name, 1, MEDIA_NPZ), [b"x"])


def test_two_who_write_the_same_at_once_do_not_disturb_each_other(blobs: Blobs) -> None:
    ref = named(b"some samples")

    def slow() -> Iterator[bytes]:
        yield b"some "
        assert blobs.write(ref, [b"some samples"])
        yield b"samples"

    assert blobs.write(ref, slow())
    assert b"".join(blobs.read(ref.digest)) == b"some samples"


def test_the_reserve_of_the_disk_is_not_used_up(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    careful = DirectoryBlobs(tmp_path / "artifacts", reserve_bytes=free + (1 << 30))
    with pytest.raises(DiskFull, match="stay reserved"):
        careful.write(named(b"x"), [b"x"])


def files_below(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]
