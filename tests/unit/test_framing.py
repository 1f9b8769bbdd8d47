"""Chunks framed by hand are what the generated code makes, and whatever it can read is read."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from assay.core.framing import framed, unframed
from assay.v1 import blobs_pb2

_CHUNK = bytes(range(256)) * 4096


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 1 << 20])
def test_a_chunk_is_the_message_that_the_generated_code_makes(size: int) -> None:
    chunk = _CHUNK[:size]
    message = blobs_pb2.ReadResponse(data=chunk).SerializeToString()
    assert framed(chunk) == framed(memoryview(chunk)) == message
    assert unframed(message) == chunk


def test_a_chunk_is_not_copied() -> None:
    message = framed(_CHUNK)
    chunk = unframed(message)
    assert isinstance(chunk, memoryview)
    assert chunk.obj is message


@given(st.one_of(st.binary(max_size=20), st.binary(max_size=20).map(lambda some: b"\x0a" + some)))
@example(b"\x0a\x03abc\x0a\x01z")  # the field twice: the last one counts
@example(b"\x0a\x81\x00z")  # a length longer than it need be
@example(b"\x10\x07\x0a\x01z")  # a field of a newer controller before it
@example(b"\x0a\x05abc")
@example(b"\x0a\x80\x80\x80\x80\x80")
def test_any_bytes_are_read_as_the_generated_code_reads_them(message: bytes) -> None:
    try:
        expected = blobs_pb2.ReadResponse.FromString(message).data
    except DecodeError:
        with pytest.raises(DecodeError):
            unframed(message)
    else:
        assert unframed(message) == expected
