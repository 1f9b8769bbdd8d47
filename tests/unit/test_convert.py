"""Values and messages mirror each other, field by field and value by value."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.core import convert, model
from assay.core.errors import BadMessage
from assay.core.model import Absent, Profile, Result, Scenario
from assay.v1 import job_pb2, result_pb2

VALUES = [
    value
    for name in model.__all__
    if dataclasses.is_dataclass(value := getattr(model, name)) and value is not Absent
]

st.register_type_strategy(float, st.floats(allow_nan=False))
st.register_type_strategy(int, st.integers(min_value=0, max_value=2**31 - 1))
st.register_type_strategy(
    str, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
)


@pytest.mark.parametrize("cls", VALUES, ids=lambda c: c.__name__)
def test_a_message_has_the_fields_of_its_value(cls: type) -> None:
    fields = [f.name for f in dataclasses.fields(cls)]
    numbered = convert.message_type(cls).DESCRIPTOR.fields
    assert fields == [f.name for f in sorted(numbered, key=lambda f: f.number)]


def _strategy(hint: Any) -> st.SearchStrategy[Any]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{name: _strategy(h) for name, h in hints.items()})
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return st.lists(_strategy(args[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(_strategy(args[0]), _strategy(args[1]), max_size=2)
    if args:
        return st.one_of(*(_strategy(arg) for arg in args))
    return st.none() if hint is type(None) else st.from_type(hint)


@pytest.mark.parametrize("cls", VALUES, ids=lambda c: c.__name__)
def test_every_value_survives_the_wire(cls: type) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_strategy(cls))
    def survives(value: Any) -> None:
        assert convert.from_bytes(convert.to_bytes(value), cls) == value

    survives()


def test_an_enum_value_from_a_newer_peer_is_refused() -> None:
    message = job_pb2.Scenario(kind=typing.cast(Any, 99), mode=job_pb2.MODE_BURST)
    with pytest.raises(BadMessage, match=r"Scenario\.kind: 99 is not a ScenarioKind"):
        convert.from_proto(message, Scenario)


def test_an_unset_enum_is_refused() -> None:
    with pytest.raises(BadMessage, match=r"Scenario\.kind: 0"):
        convert.from_proto(job_pb2.Scenario(), Scenario)


def test_a_missing_part_is_named() -> None:
    with pytest.raises(BadMessage, match=r"Result\.run is missing"):
        convert.from_proto(result_pb2.Result(attempt_id="a"), Result)


def test_bytes_that_are_no_message_are_named() -> None:
    with pytest.raises(BadMessage, match="3 bytes are not a Profile"):
        convert.from_bytes(b"\xff\xff\xff", Profile)


def _refusal(action: Any, *args: Any) -> str:
    try:
        action(*args)
    except BadMessage as error:
        return str(error)
    return ""


def _parts(message: Message) -> list[Message]:
    """The message and everything in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in [value] if isinstance(value, Message) else value:
            found += _parts(part)
    return found


@pytest.mark.parametrize("cls", VALUES, ids=lambda c: c.__name__)
def test_a_check_refuses_what_cannot_be_read_in_the_same_words(cls: type) -> None:
    """Fields are cleared and enums set to what nobody knows, one at a time and several at once."""

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_strategy(cls), st.data())
    def agrees(value: Any, data: st.DataObject) -> None:
        message = convert.to_proto(value)
        for _ in range(data.draw(st.integers(0, 2))):
            part = data.draw(st.sampled_from(_parts(message)))
            field = data.draw(st.sampled_from(list(part.DESCRIPTOR.fields)))
            if field.enum_type is not None and data.draw(st.booleans()):
                setattr(part, field.name, 99)
            else:
                part.ClearField(field.name)
        read = _refusal(convert.from_proto, message, cls)
        assert _refusal(convert.check, message, cls) == read

    agrees()
