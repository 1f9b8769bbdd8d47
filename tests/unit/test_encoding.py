"""Artifacts in fewer bytes: what is offered, what is refused; the digest has the last word."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.agent.plane import fetch as fetch_module
from assay.agent.plane.cache import ArtifactCache
from assay.agent.plane.encoded import EncodedFetcher
from assay.agent.plane.fetch import Fetcher
from assay.agent.plane.offer import Offer
from assay.controller.blobs.encodings import Encodings
from assay.core.cas import ContentStore
from assay.core.channel import Backoff
from assay.core.encoding import Encoding, decoded, encode, encodings_here, window_log
from assay.core.errors import (
    CheckFailed,
    CorruptArtifact,
    NotFound,
    OutOfRange,
    Unreachable,
    VersionMismatch,
)
from assay.core.model import MEDIA_ONNX, ArtifactRef

RNG = random.Random(7)
NOISE = RNG.randbytes(300_000)
CHANGED = NOISE[:100_000] + RNG.randbytes(2_000) + NOISE[102_000:]
TEXT = b"the same words over and over " * 8_000
ALL = tuple(Encoding)
PLENTY = 1 << 30


def frame(tmp_path: Path, data: bytes, base: bytes | None = None) -> tuple[bytes, Path | None]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    base_path = None
    if base is not None:
        base_path = tmp_path / "base"
        base_path.write_bytes(base)
    encode(source, target, base_path)
    return target.read_bytes(), base_path


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


class TestFrames:
    @settings(max_examples=40, deadline=None)
    @given(st.binary(max_size=3_000), st.none() | st.binary(min_size=8, max_size=3_000))
    def test_what_is_encoded_comes_out_again(self, data: bytes, base: bytes | None) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            sent, base_path = frame(Path(folder), data, base)
            window = window_log(len(data), len(base or b""))
            got = b"".join(decoded(pieces(sent, 7), len(data), window, base_path))
        assert got == data

    def test_a_patch_is_small_where_little_changed(self, tmp_path: Path) -> None:
        patch, _ = frame(tmp_path, CHANGED, NOISE)
        assert len(patch) < 3_000

    def test_a_bomb_is_cut_at_the_promised_size(self, tmp_path: Path) -> None:
        bomb, _ = frame(tmp_path, bytes(50 << 20))
        assert len(bomb) < 10_000
        got = 0
        with pytest.raises(CorruptArtifact, match="more than the promised 1000"):
            for piece in decoded([bomb], 1_000, 27):
                got += len(piece)
        assert got == 0

    def test_a_frame_that_asks_for_more_window_is_refused(self, tmp_path: Path) -> None:
        options = {zstd.CompressionParameter.window_log: 27}
        sent = zstd.compress(NOISE * 2, options=options)
        with pytest.raises(CorruptArtifact, match="cannot be decoded"):
            list(decoded([sent], 600_000, 12))

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda sent: sent[:-3], "ends early"),
            (lambda sent: b"", "ends early"),
            (lambda sent: sent + b"x", "follows its end"),
            (lambda sent: b"<html>" + sent, "cannot be decoded"),
        ],
    )
    def test_what_is_no_frame_is_said(self, tmp_path: Path, spoil: object, why: str) -> None:
        sent, _ = frame(tmp_path, TEXT)
        with pytest.raises(CorruptArtifact, match=why):
            list(decoded(pieces(spoil(sent)), len(TEXT), 21))  # type: ignore[operator]

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 1_000), st.integers(0, 40))
    def test_bytes_from_outside_are_decoded_or_refused(
        self, data: bytes, size: int, window: int
    ) -> None:
        magic = b"\x28\xb5\x2f\xfd"
        for sent in (data, magic + data):
            try:
                got = b"".join(decoded([sent], size, max(window, 10)))
            except CorruptArtifact:
                continue
            assert len(got) <= size


@pytest.fixture
def shelf(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "controller")


@pytest.fixture
def encodings(shelf: ContentStore) -> Encodings:
    return Encodings(shelf.root)


class TestOffers:
    def test_the_smallest_form_is_offered(self, shelf: ContentStore, encodings: Encodings) -> None:
        base = shelf.add_bytes(NOISE, MEDIA_ONNX)
        changed = shelf.add_bytes(CHANGED, MEDIA_ONNX)
        text = shelf.add_bytes(TEXT, MEDIA_ONNX)
        assert encodings.offer(base.digest, ALL, [], PLENTY) == offer_(
            Encoding.IDENTITY, len(NOISE)
        )
        packed = encodings.offer(text.digest, ALL, [base.digest], PLENTY)
        assert packed.encoding is Encoding.ZSTD
        patch = encodings.offer(changed.digest, ALL, [text.digest, base.digest], PLENTY)
        assert (patch.encoding, patch.base) == (Encoding.ZSTD_PATCH, base.digest)
        assert patch.wire_bytes < 3_000

    def test_a_device_gets_only_what_it_can_decode(
        self, shelf: ContentStore, encodings: Encodings
    ) -> None:
        base = shelf.add_bytes(NOISE, MEDIA_ONNX)
        changed = shelf.add_bytes(CHANGED, MEDIA_ONNX)
        text = shelf.add_bytes(TEXT, MEDIA_ONNX)
        identity = {Encoding.IDENTITY}
        offered = encodings.offer(text.digest, identity, [], PLENTY)
        assert offered.encoding is Encoding.IDENTITY
        for memory, accepted in ((500_000, ALL), (PLENTY, (Encoding.ZSTD,))):
            offered = encodings.offer(changed.digest, accepted, [base.digest], memory)
            assert offered.encoding is Encoding.IDENTITY

    def test_no_patch_asks_for_a_window_that_no_decoder_takes(
        self, shelf: ContentStore, encodings: Encodings
    ) -> None:
        # Together beyond 2^27; with holes, so that they take no room.
        digests = ["sha256:" + name * 64 for name in "ab"]
        for one in digests:
            path = shelf.root / "sha256" / one[7:9] / one[7:]
            path.parent.mkdir(parents=True)
            path.touch()
            os.truncate(path, 70 << 20)
        patch = {Encoding.IDENTITY, Encoding.ZSTD_PATCH}
        offered = encodings.offer(digests[0], patch, digests[1:], 1 << 40)
        assert offered.encoding is Encoding.IDENTITY

    def test_tiny_files_and_unknown_ones(self, shelf: ContentStore, encodings: Encodings) -> None:
        tiny = shelf.add_bytes(b"a" * 100, MEDIA_ONNX)
        assert encodings.offer(tiny.digest, ALL, [], PLENTY).encoding is Encoding.IDENTITY
        with pytest.raises(NotFound):
            encodings.offer("sha256:" + "0" * 64, ALL, [], PLENTY)

    def test_forms_are_kept_within_their_quota(self, shelf: ContentStore) -> None:
        small = Encodings(shelf.root, quota_bytes=400_000)
        first, second = (shelf.add_bytes(data, MEDIA_ONNX) for data in (NOISE, CHANGED))
        small.offer(first.digest, ALL, [], PLENTY)
        small.offer(second.digest, ALL, [], PLENTY)
        with pytest.raises(CheckFailed, match="ask for an offer again"):
            small.read(first.digest, Encoding.ZSTD, "", 0)
        assert b"".join(small.read(second.digest, Encoding.ZSTD, "", 0))

    def test_reading_beyond_the_end_is_refused(
        self, shelf: ContentStore, encodings: Encodings
    ) -> None:
        text = shelf.add_bytes(TEXT, MEDIA_ONNX)
        offered = encodings.offer(text.digest, ALL, [], PLENTY)
        whole = b"".join(encodings.read(text.digest, Encoding.ZSTD, "", 0))
        assert len(whole) == offered.wire_bytes
        assert b"".join(encodings.read(text.digest, Encoding.ZSTD, "", 9)) == whole[9:]
        with pytest.raises(OutOfRange):
            encodings.read(text.digest, Encoding.ZSTD, "", offered.wire_bytes + 1)


def offer_(encoding: Encoding, wire_bytes: int) -> object:
    from assay.controller.blobs.encodings import Offer as Made

    return Made(encoding, wire_bytes)


@dataclass
class Line:
    """A controller at the other end of a bad wire: reads may break off or be spoilt."""

    encodings: Encodings
    shelf: ContentStore
    asked: list[str] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)
    cut_after: int | None = None
    flip: bool = False
    trouble: Exception | None = None

    def ask(self, ref: ArtifactRef, bases: Sequence[str], memory_bytes: int) -> Offer:
        self.asked.append("offer")
        self.bases = list(bases)
        if self.trouble is not None:
            raise self.trouble
        made = self.encodings.offer(ref.digest, encodings_here(), bases, memory_bytes)
        return Offer(made.encoding, made.wire_bytes, made.base, made.window_log)

    def read(self, ref: ArtifactRef, offset: int, offer: Offer | None = None) -> Iterator[bytes]:
        if offer is None:
            self.asked.append(f"identity@{offset}")
            yield self.shelf.path(ref.digest).read_bytes()[offset:]
            return
        self.asked.append(f"{offer.encoding.value}@{offset}")
        data = b"".join(self.encodings.read(ref.digest, offer.encoding, offer.base, offset))
        if self.flip:
            self.flip = False
            data = data[:40] + bytes([data[40] ^ 1]) + data[41:]
        if self.cut_after is not None:
            yield data[: self.cut_after]
            self.cut_after = None
            raise Unreachable("the line went dead")
        yield data


@dataclass
class Device:
    line: Line
    root: Path
    memory: int = PLENTY

    def __post_init__(self) -> None:
        self.store = ContentStore(self.root)
        self.cache = ArtifactCache(self.store, PLENTY, 0, lambda: PLENTY)
        encoded = EncodedFetcher(self.cache, self.line.ask, self.line.read, lambda: self.memory)
        self.fetcher = Fetcher(self.cache, self.line.read, random.Random(1), encoded)

    def fetch(self, ref: ArtifactRef) -> bytes:
        return self.fetcher.fetch(ref, threading.Event()).read_bytes()

    @property
    def left_over(self) -> list[str]:
        return [path.name for path in (self.root / "partial").iterdir()]


class TestFetching:
    @pytest.fixture
    def line(
        self, encodings: Encodings, shelf: ContentStore, monkeypatch: pytest.MonkeyPatch
    ) -> Line:
        quick = Backoff(first_s=0.001, most_s=0.001)
        monkeypatch.setattr(fetch_module, "Backoff", lambda rng: quick)
        return Line(encodings, shelf)

    @pytest.fixture
    def device(self, line: Line, tmp_path: Path) -> Device:
        return Device(line, tmp_path / "device")

    def test_a_variant_comes_as_a_patch_to_the_baseline(
        self, device: Device, line: Line, shelf: ContentStore
    ) -> None:
        baseline = shelf.add_bytes(NOISE, MEDIA_ONNX)
        variant = shelf.add_bytes(CHANGED, MEDIA_ONNX)
        assert device.fetch(baseline) == NOISE
        assert device.fetch(variant) == CHANGED
        assert line.asked == ["offer", "identity@0", "offer", "zstd_patch@0"]
        assert line.bases == [baseline.digest]
        assert device.left_over == []

    def test_a_patch_that_was_cut_off_is_resumed(
        self, device: Device, line: Line, shelf: ContentStore
    ) -> None:
        device.fetch(shelf.add_bytes(NOISE, MEDIA_ONNX))
        line.asked.clear()
        line.cut_after = 700
        assert device.fetch(shelf.add_bytes(CHANGED, MEDIA_ONNX)) == CHANGED
        assert line.asked == ["offer", "zstd_patch@0", "offer", "zstd_patch@700"]

    def test_a_spoilt_form_is_fetched_once_more_as_it_is(
        self, device: Device, line: Line, shelf: ContentStore
    ) -> None:
        text = shelf.add_bytes(TEXT, MEDIA_ONNX)
        line.flip = True
        assert device.fetch(text) == TEXT
        assert line.asked == ["offer", "zstd@0", "identity@0"]
        assert device.left_over == []

    def test_a_patch_to_a_base_that_rotted_is_fetched_as_it_is(
        self, device: Device, line: Line, shelf: ContentStore
    ) -> None:
        baseline = shelf.add_bytes(NOISE, MEDIA_ONNX)
        device.fetch(baseline)
        device.store.path(baseline.digest).write_bytes(bytes(len(NOISE)))
        line.asked.clear()
        assert device.fetch(shelf.add_bytes(CHANGED, MEDIA_ONNX)) == CHANGED
        assert line.asked == ["offer", "zstd_patch@0", "identity@0"]

    def test_an_older_controller_is_asked_once(
        self, device: Device, line: Line, shelf: ContentStore
    ) -> None:
        line.trouble = VersionMismatch("the controller does not know this call")
        for data in (TEXT, NOISE):
            assert device.fetch(shelf.add_bytes(data, MEDIA_ONNX)) == data
        assert line.asked == ["offer", "identity@0", "identity@0"]

    def test_a_form_that_is_gone_over_there_is_no_failure(
        self, device: Device, line: Line, shelf: ContentStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*_: object) -> Iterator[bytes]:
            raise CheckFailed("ask for an offer again")

        monkeypatch.setattr(line.encodings, "read", gone)
        assert device.fetch(shelf.add_bytes(TEXT, MEDIA_ONNX)) == TEXT
        assert line.asked == ["offer", "zstd@0", "identity@0"]

    def test_an_offer_that_makes_no_sense_is_not_taken(
        self, device: Device, line: Line, shelf: ContentStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = shelf.add_bytes(TEXT, MEDIA_ONNX)
        honest = line.ask(text, [], PLENTY)
        lies = [
            replace(honest, wire_bytes=text.size_bytes),
            replace(honest, base="sha256:" + "0" * 64),
        ]
        for lie in lies:
            monkeypatch.setattr(device.fetcher.encoded, "ask", lambda *_, lie=lie: lie)
            assert device.fetch(text) == TEXT
            device.store.remove(text.digest)
        assert "zstd@0" not in line.asked

    def test_without_the_library_files_come_as_they_are(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from assay.core import encoding

        def absent() -> object:
            raise ImportError

        monkeypatch.setattr(encoding, "_zstd", absent)
        assert encodings_here() == (Encoding.IDENTITY,)
