"""Finds what of a base is left in a file that was made of it by making words zero.

A pruned model is its baseline with scattered zeros, often with its tensors moved by a few bytes or
into another order. Where they lie is found by their content: words that are rare and in both files
are anchors; many anchors that lie equally far apart in both are a span.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay.core.mask import MOST_SPANS, WORD_BYTES, Mask, Span

Words = NDArray[np.uint32]
Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]

_BLOCK_BYTES = 4 << 20
_SPREAD = np.uint32(2_654_435_761)  # Knuth's multiplier: words that differ in one bit part
_ANCHOR_BITS = 5  # one word in 32 may be an anchor, the same ones in both files
_LEAST_ANCHORS = 8
_LEAST_WORDS = 256  # a span names itself in 8 bytes
_LEAST_CLEARED = 1 / 64


@dataclass(frozen=True, slots=True)
class _Row:
    """Anchors in a row, from ``first`` in the base on; what is around them lies ``shift`` bytes
    further on in the target."""

    first: int
    shift: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Words of the base from one byte to another that are in the target, or zero there."""

    start: int
    end: int
    shift: int


def mask_of(base: Path, target: Path) -> Mask | None:
    """The words of ``base`` that are zero in ``target``, where what surrounds them is in both; None
    where there are too few of them to be worth a mask."""
    old, new = (np.fromfile(path, dtype=np.uint8) for path in (base, target))
    spans, bits = [], []
    end = 0
    for run in _runs(old, new):
        start = run.start + max(0, -(-(end - run.start) // WORD_BYTES)) * WORD_BYTES
        cleared = _cleared(old, new, _Run(start, run.end, run.shift))
        if cleared is not None:
            end = run.end
            spans.append(Span(start, len(cleared)))
            bits.append(np.packbits(cleared, bitorder="little").tobytes())
    return Mask(tuple(spans), b"".join(bits)) if 0 < len(spans) <= MOST_SPANS else None


def _cleared(old: Bytes, new: Bytes, run: _Run) -> NDArray[np.bool_] | None:
    """Which words of a run are zero in the target; None where that says too little."""
    words = (run.end - run.start) // WORD_BYTES
    if words < _LEAST_WORDS:
        return None
    zero: NDArray[np.bool_] = _words(new[run.start + run.shift : run.end + run.shift]) == 0
    gain = np.count_nonzero(zero & (_words(old[run.start : run.end]) != 0))
    return zero if gain >= _LEAST_CLEARED * words else None


def _runs(old: Bytes, new: Bytes) -> list[_Run]:
    """Every long run, in the order of the base; words begin anywhere, so that runs may overlap."""
    found: list[_Run] = []
    rows = list(_rows(old, new))
    end = 0
    for row, following in zip(rows, [*rows[1:], None], strict=False):
        start = max(end, -row.shift)
        end = min(following.first if following else len(old), len(new) - row.shift)
        for phase in range(WORD_BYTES):
            found += _runs_between(old, new, start + phase, end, row.shift)
    return sorted(found, key=lambda run: (run.start, -run.end))


def _runs_between(old: Bytes, new: Bytes, start: int, end: int, shift: int) -> Iterator[_Run]:
    was, is_now = _words(old[start:end]), _words(new[start + shift : end + shift])
    strange = np.flatnonzero((is_now != 0) & (is_now != was))
    edges = np.concatenate([[-1], strange, [len(was)]])
    for at in np.flatnonzero(np.diff(edges) > _LEAST_WORDS):
        first, last = int(edges[at]) + 1, int(edges[at + 1])
        yield _Run(start + WORD_BYTES * first, start + WORD_BYTES * last, shift)


def _rows(old: Bytes, new: Bytes) -> Iterator[_Row]:
    """Anchors that follow each other in the base and are equally far from their fellows in the
    target, in the order of the base."""
    (old_values, old_at), (new_values, new_at) = _anchors(old), _anchors(new)
    _, in_old, in_new = np.intersect1d(
        old_values, new_values, assume_unique=True, return_indices=True
    )
    at, shift = old_at[in_old], new_at[in_new] - old_at[in_old]
    # Words that are in both by chance agree with no others on how far apart they are.
    _, which, times = np.unique(shift, return_inverse=True, return_counts=True)
    often = times[which] >= _LEAST_ANCHORS
    order = np.argsort(at[often], kind="stable")
    at, shift = at[often][order], shift[often][order]
    changes = (np.flatnonzero(np.diff(shift)) + 1).tolist()
    for start, stop in zip([0, *changes], [*changes, len(at)], strict=True):
        if stop - start >= _LEAST_ANCHORS // 2:
            yield _Row(int(at[start]), int(shift[start]))


def _anchors(data: Bytes) -> tuple[Words, Offsets]:
    """Words that are in ``data`` once and lie at no place in particular; their values, ascending,
    and where they are."""
    values, places = [], []
    for block in range(0, max(1, len(data)), _BLOCK_BYTES):
        for phase in range(WORD_BYTES):
            words = _words(data[block + phase : block + phase + _BLOCK_BYTES])
            picked = np.flatnonzero(((words * _SPREAD) >> (32 - _ANCHOR_BITS) == 0) & (words != 0))
            values.append(words[picked])
            places.append(block + phase + WORD_BYTES * picked.astype(np.int64))
    found, first, times = np.unique(np.concatenate(values), return_index=True, return_counts=True)
    once = times == 1
    return found[once], np.concatenate(places)[first[once]]


def _words(data: Bytes) -> Words:
    return data[: len(data) // WORD_BYTES * WORD_BYTES].view(np.uint32)
