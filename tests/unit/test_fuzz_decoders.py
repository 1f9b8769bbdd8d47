"""Bytes from outside, whole, spoilt and made up: only errors of our own tree come out.

The kept inputs of tests/corpus/fuzz come first. ``make soak`` tries for longer, and anew each time.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.core.errors import AssayError
from tests.corpus.fuzz.decoders import DECODERS

_TOKENS = [b"PK\x03\x04", b"PK\x05\x06", b"AsR1", b"\x28\xb5\x2f\xfd", b'"""', b"[[", b"= nan\n"]
KEPT = [(name, *each) for name, decoder in DECODERS.items() for each in decoder.corpus(name)]

decoder = pytest.mark.parametrize("name", DECODERS)


def spoilt(whole: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of ``whole`` after a few changes: bytes replaced, cut out, doubled, put in, cut off."""
    piece = st.binary(min_size=1, max_size=8) | st.sampled_from(_TOKENS)
    change = st.tuples(
        st.sampled_from(["replace", "cut", "double", "insert", "end"]),
        st.floats(0, 1, exclude_max=True),
        piece,
    )

    def changed(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
        for what, where, new in changes:
            at, size = int(where * (len(data) + 1)), len(new)
            data = {
                "replace": data[:at] + new + data[at + size :],
                "cut": data[:at] + data[at + size :],
                "double": data[:at] + data[at : at + 4 * size] + data[at:],
                "insert": data[:at] + new + data[at:],
                "end": data[:at],
            }[what]
        return data

    return st.builds(changed, st.sampled_from(whole), st.lists(change, max_size=5))


def tried(name: str, data: bytes) -> bool:
    """Whether it was read; else it was refused by name."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        try:
            DECODERS[name].read(data, Path(folder))
        except AssayError as error:
            assert str(error)
            return False
    return True


_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def fuzzed(name: str, examples: int, *, anew: bool) -> Counter[bool]:
    """How many were read, and how many refused."""
    seen: Counter[bool] = Counter()
    whole = [data for _, data in DECODERS[name].corpus(name)]

    @settings(
        max_examples=examples,
        derandomize=not anew,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(spoilt(whole) | st.binary(max_size=64))
    def run(data: bytes) -> None:
        seen[tried(name, data)] += 1

    run()
    return seen


@pytest.mark.parametrize(
    ("name", "kept", "data"), KEPT, ids=[f"{name}-{kept}" for name, kept, _ in KEPT]
)
def test_a_kept_input(name: str, kept: str, data: bytes) -> None:
    tried(name, data)


@decoder
def test_every_decoder_has_kept_inputs(name: str) -> None:
    assert DECODERS[name].corpus(name)


@decoder
def test_spoilt_bytes(name: str) -> None:
    fuzzed(name, 60, anew=False)


@pytest.mark.soak
@decoder
def test_spoilt_bytes_for_long(name: str, figures: Callable[..., None]) -> None:
    seen = fuzzed(name, 5_000, anew=True)
    figures(inputs=seen.total(), refused=seen[False])
