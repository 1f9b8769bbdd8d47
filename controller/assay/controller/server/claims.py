"""What a device may say about itself: enough for people and sweeps, too little to do harm.

Facts become labels of metrics, cells of tables and rows of the store, so a device that means ill
or has a broken driver is held to short, printable text and to as many parts as a board can have.
"""

from __future__ import annotations

import re
from typing import Any

from assay.core.errors import BadMessage
from assay.v1 import device_pb2

MAX_FACTS_BYTES = 64 << 10
MAX_TEXT = 1_000
MAX_RUNTIMES = 50
MAX_SAMPLERS = 200

_CLASS = re.compile(r"[A-Za-z0-9_.-]{0,63}")
# Control characters of ASCII and Latin-1: they move a terminal's cursor and forge lines of a log.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def claims_of(facts: device_pb2.DeviceFacts) -> device_pb2.DeviceFacts:
    """A copy of ``facts`` without control characters (each becomes U+FFFD) and with no text longer
    than :data:`MAX_TEXT`; :class:`BadMessage` where they are more than a board can have to say."""
    size = facts.ByteSize()
    if size > MAX_FACTS_BYTES:
        raise BadMessage(f"device: {size} bytes of facts; send at most {MAX_FACTS_BYTES}")
    for name, parts, most in (
        ("runtimes", facts.runtimes, MAX_RUNTIMES),
        ("samplers", facts.samplers, MAX_SAMPLERS),
    ):
        if len(parts) > most:
            raise BadMessage(f"device.{name}: {len(parts)} of them; send at most {most}")
    if _CLASS.fullmatch(facts.device_class) is None:
        raise BadMessage(
            f"device.device_class: {facts.device_class[:80]!r} is no class: use at most 63 "
            "letters, digits, '_', '.' and '-'"
        )
    copy = device_pb2.DeviceFacts()
    copy.CopyFrom(facts)
    _clean(copy)
    return copy


def _clean(message: Any) -> None:
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            if isinstance(value, str):
                setattr(message, field.name, _plain(value))
            else:
                value[:] = [_plain(each) for each in value]
        elif field.type == field.TYPE_MESSAGE:
            for each in (value,) if hasattr(value, "ListFields") else value:
                _clean(each)


def _plain(text: str) -> str:
    return _CONTROL.sub("�", text[:MAX_TEXT])
