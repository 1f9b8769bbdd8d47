"""``assay.v1.ReadResponse`` without its copies: chunks of files are most of what the wire carries.

The generated code copies a chunk twice on either side. The message is one field, so that its bytes
are a tag, the length and the chunk: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from assay.v1 import blobs_pb2

READ = "/assay.v1.Blobs/Read"
"""The call whose answers are framed here."""

Chunk = bytes | memoryview
"""A part of a file."""

_TAG = 0x0A  # field 1, length-delimited
_CONTINUES = 0x80
_LONGEST_LENGTH = 5  # bytes of a varint that a message of less than 2 GiB can need


def framed(chunk: Chunk) -> bytes:
    """The serialised ``ReadResponse(data=chunk)``."""
    return b"".join((_head(len(chunk)), chunk)) if chunk else b""


def unframed(message: bytes) -> Chunk:
    """The ``data`` of a serialised ``ReadResponse``: a view of ``message`` where it holds nothing
    else. Raises ``google.protobuf.message.DecodeError`` where it is none."""
    size = at = 0
    if message[:1] == bytes((_TAG,)):
        for at, byte in enumerate(message[1 : 1 + _LONGEST_LENGTH]):
            size |= (byte & ~_CONTINUES) << (7 * at)
            if not byte & _CONTINUES:
                break
    begins = at + 2
    if size and len(message) == begins + size:
        return memoryview(message)[begins:]
    return blobs_pb2.ReadResponse.FromString(message).data


def _head(size: int) -> bytes:
    head = bytearray((_TAG,))
    while size >= _CONTINUES:
        head.append(size & ~_CONTINUES & 0xFF | _CONTINUES)
        size >>= 7
    head.append(size)
    return bytes(head)
