"""Which words of a base are nought in what was made of it: a bit for each.

Pruning leaves most weights as they were and makes the others zero, scattered. As a difference that
is costly (a match of four bytes costs about as much as they do); as a bit for each weight it is
not, and the base with these words cleared is then a base that little differs from.

On the wire, every number little-endian: u32 spans; for each span u32 offset in the base in bytes,
u32 words of four bytes; then for each span its bits, lowest first, padded to whole bytes. A set bit
clears its word.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from assay.core.errors import CorruptArtifact

WORD_BYTES = 4
MOST_SPANS = 1 << 14
_COUNT = struct.Struct("<I")
_SPAN = struct.Struct("<II")
_BLOCK_BYTES = 1 << 15  # of the mask: a MiB of the base
# For each bit of a byte, what it leaves of a byte of its word.
_KEPT = [bytes(0 if value >> bit & 1 else 255 for value in range(256)) for bit in range(8)]


@dataclass(frozen=True, slots=True)
class Span:
    """A row of words, ``offset`` bytes into the base; they need not be aligned there."""

    offset: int
    words: int

    @property
    def end(self) -> int:
        """Where it ends in the base, in bytes."""
        return self.offset + WORD_BYTES * self.words

    @property
    def mask_bytes(self) -> int:
        """What its bits take."""
        return -(-self.words // 8)


@dataclass(frozen=True, slots=True)
class Mask:
    """Spans in the order of the base, not overlapping, and the bits of all."""

    spans: tuple[Span, ...]
    bits: bytes

    def to_bytes(self) -> bytes:
        """As it goes over the wire."""
        spans = (_SPAN.pack(span.offset, span.words) for span in self.spans)
        return b"".join([_COUNT.pack(len(self.spans)), *spans, self.bits])

    @classmethod
    def from_bytes(cls, data: bytes, base_bytes: int) -> Mask:
        """The inverse; :class:`CorruptArtifact` where it is no mask of so long a base."""
        if len(data) < _COUNT.size:
            raise CorruptArtifact("its mask is cut short")
        (count,) = _COUNT.unpack_from(data)
        head = _COUNT.size + count * _SPAN.size
        if count > MOST_SPANS or len(data) < head:
            raise CorruptArtifact(f"its mask names {count} spans, and has no room for them")
        spans = tuple(Span(*each) for each in _SPAN.iter_unpack(data[_COUNT.size : head]))
        end = 0
        for span in spans:
            if span.offset < end:
                raise CorruptArtifact("the spans of its mask overlap")
            end = span.end
        if end > base_bytes:
            raise CorruptArtifact("its mask goes beyond the end of the base")
        if len(data) - head != sum(span.mask_bytes for span in spans):
            raise CorruptArtifact("its mask has not as many bits as its spans have words")
        return cls(spans, data[head:])

    def clear(self, content: bytearray) -> None:
        """Clears the words in ``content``, the base's, a MiB at a time."""
        first = 0
        for span in self.spans:
            last = first + span.mask_bytes
            for at in range(first, last, _BLOCK_BYTES):
                bits = self.bits[at : min(at + _BLOCK_BYTES, last)]
                start = span.offset + 8 * WORD_BYTES * (at - first)
                _clear(content, start, min(start + 8 * WORD_BYTES * len(bits), span.end), bits)
            first = last


def most_mask_bytes(base_bytes: int) -> int:
    """The longest mask of so long a base."""
    spans = _COUNT.size + MOST_SPANS * (_SPAN.size + 1)
    return spans + base_bytes // (8 * WORD_BYTES)


def _clear(content: bytearray, start: int, end: int, bits: bytes) -> None:
    # Whole blocks at once, by what the interpreter does in C: devices have no numpy loaded.
    words = bytearray(8 * len(bits))
    for bit, kept in enumerate(_KEPT):
        words[bit::8] = bits.translate(kept)
    left = bytearray(WORD_BYTES * len(words))
    for byte in range(WORD_BYTES):
        left[byte::WORD_BYTES] = words
    size = end - start
    both = int.from_bytes(content[start:end], "little") & int.from_bytes(left[:size], "little")
    content[start:end] = both.to_bytes(size, "little")
