"""Scattered zeros travel as a bit for each word, wherever the words lie."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from assay.controller.blobs import zeros
from assay.controller.blobs.encodings import Encodings
from assay.controller.blobs.zeros import mask_of
from assay.core.cas import ContentStore
from assay.core.encoding import LARGEST_WINDOW_LOG, Encoding, decoded, encode, window_log
from assay.core.errors import CorruptArtifact
from assay.core.mask import MOST_SPANS, Mask, Span, most_mask_bytes
from assay.core.model import MEDIA_ONNX

RNG = np.random.default_rng(3)
WEIGHTS = [RNG.normal(0, 0.1, size).astype(np.float32) for size in (30_000, 9_000, 50_000)]
BIASES = [RNG.normal(0, 1, 40).astype(np.float32) for _ in WEIGHTS]
PRUNED = [np.where(np.abs(w) < np.quantile(np.abs(w), 0.8), np.float32(0), w) for w in WEIGHTS]
WITHOUT_MASK = (Encoding.IDENTITY, Encoding.ZSTD, Encoding.ZSTD_PATCH)
PLENTY = 1 << 30


def file_of(weights: list[np.ndarray], order: list[int], names: str = "layer") -> bytes:
    """Tensors behind names of odd lengths, so that words begin anywhere."""
    parts = [b"head of the file"]
    for index in order:
        parts += [f"{names}{'.' * index}{index}".encode(), BIASES[index].tobytes()]
        parts += [f"{names}.weight.{index}".encode(), weights[index].tobytes()]
    return b"".join([*parts, b"the end"])


BASE = file_of(WEIGHTS, [0, 1, 2])
TRAINED_ON = file_of([PRUNED[0], WEIGHTS[1] * 2, PRUNED[2]], [0, 1, 2])


@dataclass
class Files:
    folder: Path

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def mask(self, target: bytes, base: bytes = BASE) -> Mask | None:
        return mask_of(self.write("base", base), self.write("target", target))

    def sent(self, target: bytes, mask: Mask, base: bytes = BASE) -> bytes:
        paths = [self.write("target", target), self.folder / "sent", self.write("base", base)]
        encode(*paths, mask)
        return paths[1].read_bytes()

    def got(self, sent: bytes, size_bytes: int, base: bytes = BASE, step: int = 1000) -> bytes:
        pieces = (sent[at : at + step] for at in range(0, len(sent), step))
        window = window_log(size_bytes, len(base))
        below = self.write("below", base)
        return b"".join(decoded(pieces, size_bytes, window, below, masked=True))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize(
    "target",
    [
        file_of(PRUNED, [0, 1, 2]),
        file_of(PRUNED, [2, 0, 1]),
        file_of(PRUNED, [1, 2, 0], "under.other.names"),
        file_of(PRUNED, [0, 2]),
        TRAINED_ON,
    ],
    ids=["in place", "moved", "renamed", "one gone", "one trained on"],
)
def test_scattered_zeros_cost_a_bit_each_wherever_they_lie(files: Files, target: bytes) -> None:
    mask = files.mask(target)
    assert mask is not None
    sent = files.sent(target, mask)
    new = 4 * len(WEIGHTS[1]) if target == TRAINED_ON else 0
    assert len(sent) < 0.04 * len(target) + new
    for step in (7_777, len(sent)):
        assert files.got(sent, len(target), step=step) == target


@pytest.mark.parametrize(
    "target",
    [
        BASE,
        file_of([weights * 2 for weights in WEIGHTS], [0, 1, 2]),
        RNG.bytes(len(BASE)),
        bytes(len(BASE)),
        file_of(WEIGHTS, [2, 1, 0]),
    ],
    ids=["the same", "all trained on", "another", "nothing left", "re-exported"],
)
def test_where_no_words_were_cleared_there_is_no_mask(files: Files, target: bytes) -> None:
    assert files.mask(target) is None


@pytest.mark.parametrize("size", [0, 1, 3, 8, 4096])
def test_files_of_any_size_are_looked_at(files: Files, size: int) -> None:
    assert files.mask(BASE[:size]) is None
    assert files.mask(BASE, BASE[:size]) is None


def test_more_spans_than_a_mask_may_have_are_no_mask(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zeros, "MOST_SPANS", 1)
    assert files.mask(file_of(PRUNED, [2, 0, 1])) is None


def slowly(mask: Mask, content: bytes) -> bytes:
    """What a mask means, word by word."""
    found, at = bytearray(content), 0
    for span in mask.spans:
        for word in range(span.words):
            if mask.bits[at + word // 8] >> word % 8 & 1:
                start = span.offset + 4 * word
                found[start : start + 4] = bytes(4)
        at += span.mask_bytes
    return bytes(found)


@given(st.data())
def test_a_mask_clears_the_words_it_names_and_no_others(data: st.DataObject) -> None:
    content = data.draw(st.binary(min_size=300, max_size=300))
    spans, offset = [], 0
    while offset < 280 and data.draw(st.booleans()):
        offset += data.draw(st.integers(0, 20))
        spans.append(Span(offset, data.draw(st.integers(0, max(0, (300 - offset) // 4)))))
        offset = spans[-1].end
    bits = data.draw(st.binary(min_size=(n := sum(s.mask_bytes for s in spans)), max_size=n))
    mask = Mask.from_bytes(Mask(tuple(spans), bits).to_bytes(), len(content))
    cleared = bytearray(content)
    mask.clear(cleared)
    assert bytes(cleared) == slowly(mask, content)


def test_a_long_span_is_cleared_block_by_block() -> None:
    content = RNG.bytes(3_000_003)
    mask = Mask((Span(3, 700_001), Span(2_900_001, 25_000)), RNG.bytes(87_501 + 3_125))
    cleared = bytearray(content)
    mask.clear(cleared)
    words = np.frombuffer(content[3:2_800_007], dtype=np.uint32)
    bits = np.frombuffer(mask.bits[:87_501], dtype=np.uint8)
    kept = 1 - np.unpackbits(bits, bitorder="little")[:700_001]
    assert cleared[3:2_800_007] == (words * kept.astype(np.uint32)).tobytes()
    assert (
        cleared[:3] == content[:3] and cleared[2_800_007:2_900_001] == content[2_800_007:2_900_001]
    )


GOOD = Mask((Span(1, 9), Span(50, 8)), b"abc").to_bytes()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut short"),
        (GOOD[:9], "no room"),
        (struct.pack("<I", MOST_SPANS + 1) + bytes(8 * (MOST_SPANS + 1)), "names 16385 spans"),
        (GOOD[:-1], "as many bits"),
        (GOOD + b"d", "as many bits"),
        (Mask((Span(50, 8), Span(1, 9)), b"abc").to_bytes(), "overlap"),
        (Mask((Span(1, 9), Span(36, 8)), b"abc").to_bytes(), "overlap"),
        (Mask((Span(1, 9), Span(80, 8)), b"abc").to_bytes(), "beyond the end"),
        (struct.pack("<III", 1, 0, 0xFFFFFFFF), "beyond the end"),
    ],
)
def test_what_is_no_mask_of_the_base_is_said(data: bytes, why: str) -> None:
    Mask.from_bytes(GOOD, 100)
    with pytest.raises(CorruptArtifact, match=why):
        Mask.from_bytes(data, 100)


def test_no_mask_is_longer_than_the_decoder_allows() -> None:
    words = 1 << 20
    for spans in (1, MOST_SPANS):
        each = words // spans
        mask = Mask(
            tuple(Span(4 * each * i, each) for i in range(spans)), bytes(-(-each // 8) * spans)
        )
        assert len(mask.to_bytes()) <= most_mask_bytes(4 * words)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda sent: sent[:20], "ends early"),
        (lambda sent: sent[:-3], "ends early"),
        (lambda sent: sent + b"x", "follows its end"),
        (lambda sent: b"<html>" + sent, "cannot be decoded"),
        (lambda sent: zstd.compress(GOOD), "ends early"),
        (lambda sent: zstd.compress(bytes(1 << 20)) + sent, "more than the promised"),
        (lambda sent: zstd.compress(b"no mask of it") + sent, "mask names"),
    ],
)
def test_a_spoilt_form_is_refused(files: Files, spoil: Callable[[bytes], bytes], why: str) -> None:
    target = file_of(PRUNED, [0, 1, 2])
    mask = files.mask(target)
    assert mask is not None
    with pytest.raises(CorruptArtifact, match=why):
        files.got(spoil(files.sent(target, mask)), len(target))


class TestOffers:
    @pytest.fixture
    def shelf(self, tmp_path: Path) -> ContentStore:
        return ContentStore(tmp_path / "controller")

    def test_it_is_offered_to_those_who_know_it(self, shelf: ContentStore) -> None:
        encodings = Encodings(shelf.root)
        base = shelf.add_bytes(BASE, MEDIA_ONNX).digest
        target = shelf.add_bytes(file_of(PRUNED, [2, 0, 1]), MEDIA_ONNX)
        for _ in range(2):
            masked = encodings.offer(target.digest, tuple(Encoding), [base], PLENTY)
            assert (masked.encoding, masked.base) == (Encoding.ZSTD_MASKED_PATCH, base)
            assert masked.window_log <= LARGEST_WINDOW_LOG
            older = encodings.offer(target.digest, WITHOUT_MASK, [base], PLENTY)
            assert older.encoding in WITHOUT_MASK
            assert 4 * masked.wire_bytes < older.wire_bytes
        sent = list(encodings.read(target.digest, masked.encoding, masked.base, 0))
        assert sum(map(len, sent)) == masked.wire_bytes
        below = shelf.path(base)
        got = decoded(sent, target.size_bytes, masked.window_log, below, masked=True)
        assert b"".join(got) == shelf.path(target.digest).read_bytes()

    def test_zeros_are_looked_for_once(
        self, shelf: ContentStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = shelf.add_bytes(BASE, MEDIA_ONNX).digest
        tuned = file_of([weights * 2 for weights in WEIGHTS], [0, 1, 2])
        target = shelf.add_bytes(tuned, MEDIA_ONNX).digest
        looked: list[Path] = []
        monkeypatch.setattr(zeros, "mask_of", lambda old, new: looked.append(new))
        for _ in range(2):
            offer = Encodings(shelf.root).offer(target, tuple(Encoding), [base], PLENTY)
            assert offer.encoding is not Encoding.ZSTD_MASKED_PATCH
        assert len(looked) == 1

    def test_a_small_patch_is_not_looked_at_again(
        self, shelf: ContentStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = shelf.add_bytes(BASE, MEDIA_ONNX).digest
        target = shelf.add_bytes(file_of(WEIGHTS, [2, 1, 0]), MEDIA_ONNX).digest
        monkeypatch.setattr(zeros, "mask_of", lambda *_: pytest.fail("was looked at"))
        offer = Encodings(shelf.root).offer(target, tuple(Encoding), [base], PLENTY)
        assert offer.encoding is Encoding.ZSTD_PATCH
