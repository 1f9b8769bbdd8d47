"""Moves values between :mod:`assay.core.model` and ``assay.v1``, by name.

A dataclass and the message of the same name carry the same fields, so one reflective pair of
functions serves all of them; tests prove that no field is missing on either side. The rules:

* an ``Enum`` member ``X`` of class ``SomeKind`` is ``SOME_KIND_X``; zero is UNSPECIFIED and is
  refused on the way in, so that a value from a newer peer is an error and not a guess;
* ``T | None`` is presence of an optional or message field;
* ``T | Absent`` is a message with ``oneof of { T value; string absent; }``;
* ``tuple[T, ...]`` is repeated, ``Mapping[str, str]`` is a map.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from assay.core.errors import BadMessage
from assay.core.model import (
    Absent,
    ArtifactRef,
    DeviceFacts,
    GoldenSpec,
    InputSpec,
    Profile,
    RuntimeSpec,
    Scenario,
)
from assay.v1 import artifact_pb2, device_pb2, job_pb2, result_pb2, worker_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=enum.Enum)

_MODULES = (artifact_pb2, device_pb2, job_pb2, result_pb2, worker_pb2)
# What every result of a board or a cell says once more: read from the same bytes, it is one value.
_SAID_AGAIN = (ArtifactRef, DeviceFacts, GoldenSpec, InputSpec, Profile, RuntimeSpec, Scenario)
_VALUES_KEPT = 4096
_MISSING = "{}.{} is missing"
_NEITHER = "{} holds neither a value nor a reason for its absence"


def to_proto(value: Any) -> Message:
    """The message that mirrors ``value``, a dataclass of :mod:`assay.core.model`."""
    message = message_type(type(value))()
    _fill(message, value)
    return message


def fill(message: M, value: Any) -> M:
    """``message`` filled from ``value``, a dataclass that has the same fields; returns it."""
    _fill(message, value)
    return message


def from_proto(message: Message, cls: type[T]) -> T:
    """The ``cls`` that ``message`` mirrors; :class:`BadMessage` on an unknown enum value or a
    missing part."""
    return typing.cast(T, _read(message, cls))


def check(message: Message, cls: type) -> None:
    """Raises what :func:`from_proto` would, and makes no values: for whoever keeps the bytes and
    only has to know that they can be read."""
    for look in _checks(cls):
        look(message)


def read_enum(message: Message, name: str, cls: type[E]) -> E:
    """The member of ``cls`` in an enum field; :class:`BadMessage` where there is none."""
    number = getattr(message, name)
    member = _members(message.DESCRIPTOR, name, cls).get(number)
    if member is None:
        raise BadMessage(
            f"{message.DESCRIPTOR.name}.{name}: {number} is not a {cls.__name__} this version "
            "knows; upgrade the side that reads it"
        )
    return typing.cast(E, member)


def to_bytes(value: Any) -> bytes:
    """``value`` serialised; equal values give equal bytes within one version of protobuf."""
    return to_proto(value).SerializeToString(deterministic=True)


def from_bytes(data: bytes, cls: type[T]) -> T:
    """The ``cls`` that ``data`` holds; :class:`BadMessage` where it does not."""
    message = message_type(cls)()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise BadMessage(f"these {len(data)} bytes are not a {cls.__name__}: {error}") from None
    return from_proto(message, cls)


def message_type(cls: type) -> type[Message]:
    """The generated class that mirrors the dataclass ``cls``."""
    for module in _MODULES:
        found = getattr(module, cls.__name__, None)
        if found is not None:
            return typing.cast(type[Message], found)
    raise TypeError(f"{cls.__name__} has no message in assay.v1")


def _fill(message: Message, value: Any) -> None:
    cls: Any = type(value)
    for name, hint in _hints(cls).items():
        item = getattr(value, name)
        if item is None:
            continue
        if _is_absent_union(hint):
            _fill_reading(getattr(message, name), item)
        elif isinstance(item, tuple):
            _extend(message, name, item)
        elif isinstance(item, Mapping):
            getattr(message, name).update(item)
        elif dataclasses.is_dataclass(item):
            target = getattr(message, name)
            target.SetInParent()
            _fill(target, item)
        else:
            setattr(message, name, _scalar(message, name, item))


def _fill_reading(target: Any, item: Any) -> None:
    if isinstance(item, Absent):
        target.absent = item.reason
    else:
        target.value.SetInParent()
        _fill(target.value, item)


def _extend(message: Message, name: str, items: tuple[Any, ...]) -> None:
    target = getattr(message, name)
    for item in items:
        if dataclasses.is_dataclass(item):
            _fill(target.add(), item)
        else:
            target.append(item)


def _scalar(message: Message, name: str, item: Any) -> Any:
    if not isinstance(item, enum.Enum):
        return item
    return _enum_type(message, name).values_by_name[_prefix(type(item)) + item.name].number


def _read(message: Message, cls: type) -> Any:
    return cls(*[read(message) for read in _readers(cls)])


@functools.cache
def _readers(cls: Any) -> tuple[Callable[[Message], Any], ...]:
    """How to read each field of ``cls``, worked out once: results are read by the thousand."""
    hints = _hints(cls)
    return tuple(_reader(field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _reader(name: str, hint: Any) -> Callable[[Message], Any]:
    if _is_absent_union(hint):
        kind = _without(hint, Absent)
        return lambda message: _read_reading(getattr(message, name), kind, name)
    inner = _without(hint, type(None))
    read = _present_reader(name, inner)
    if inner is hint:
        return _required(name, read) if _is_value(inner) else read
    return lambda message: read(message) if message.HasField(name) else None


def _present_reader(name: str, hint: Any) -> Callable[[Message], Any]:
    origin = typing.get_origin(hint)
    if origin is tuple:
        element = typing.get_args(hint)[0]
        if _is_value(element):
            return lambda message: tuple(_read(v, element) for v in getattr(message, name))
        return lambda message: tuple(getattr(message, name))
    if origin is not None:
        return lambda message: dict(getattr(message, name))
    if hint in _SAID_AGAIN:
        return lambda message: _read_again(hint, getattr(message, name).SerializeToString())
    if _is_value(hint):
        return lambda message: _read(getattr(message, name), hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return lambda message: read_enum(message, name, hint)
    return operator.attrgetter(name)


def _required(name: str, read: Callable[[Message], Any]) -> Callable[[Message], Any]:
    def required(message: Message) -> Any:
        if not message.HasField(name):
            raise BadMessage(_MISSING.format(message.DESCRIPTOR.name, name))
        return read(message)

    return required


@functools.lru_cache(_VALUES_KEPT)
def _read_again(cls: type, data: bytes) -> Any:
    return _read(typing.cast(Any, message_type(cls)).FromString(data), cls)


def _read_reading(message: Message, cls: type, name: str) -> Any:
    kind = message.WhichOneof("of")
    if kind == "value":
        return _read(getattr(message, "value"), cls)  # noqa: B009 - a generated attribute
    if kind == "absent":
        return Absent(getattr(message, "absent"))  # noqa: B009
    raise BadMessage(_NEITHER.format(name))


@functools.cache
def _members(descriptor: Any, name: str, cls: type[enum.Enum]) -> dict[int, enum.Enum]:
    values = descriptor.fields_by_name[name].enum_type.values
    named = {entry.name.removeprefix(_prefix(cls)): entry.number for entry in values}
    return {named[name]: member for name, member in cls.__members__.items() if name in named}


@functools.cache
def _checks(cls: Any) -> tuple[Callable[[Message], object], ...]:
    """How to look at what a message of ``cls`` can hold wrongly or lack, in as few calls as can be:
    results come by the thousand."""
    hints = _hints(cls)
    parts = tuple(name for name, hint in hints.items() if _is_value(hint))
    looks = [_presence_check(parts)] if parts else []
    made = (_field_check(cls, name, hint) for name, hint in hints.items())
    return (*looks, *(look for look in made if look is not None))


def _presence_check(names: Sequence[str]) -> Callable[[Message], object]:
    def look(message: Message) -> None:
        for name in names:
            if not message.HasField(name):
                raise BadMessage(_MISSING.format(message.DESCRIPTOR.name, name))

    return look


def _field_check(cls: Any, name: str, hint: Any) -> Callable[[Message], object] | None:
    if _is_absent_union(hint):
        kind = _without(hint, Absent)
        return lambda message: _check_reading(getattr(message, name), kind, name)
    inner = _without(hint, type(None))
    look = _part_check(cls, name, inner)
    if look is None or inner is hint:
        return look
    present = look
    return lambda message: present(message) if message.HasField(name) else None


def _part_check(cls: Any, name: str, hint: Any) -> Callable[[Message], object] | None:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        known = frozenset(_members(message_type(cls).DESCRIPTOR, name, hint))
        return lambda message: getattr(message, name) in known or read_enum(message, name, hint)
    repeated = typing.get_origin(hint) is tuple
    element = typing.get_args(hint)[0] if repeated else hint
    looks = _checks(element) if _is_value(element) else ()
    if not looks:
        return None
    if repeated:
        return lambda message: [look(part) for part in getattr(message, name) for look in looks]

    def check_part(message: Message) -> None:
        part = getattr(message, name)
        for look in looks:
            look(part)

    return check_part


def _check_reading(message: Message, cls: type, name: str) -> None:
    kind = message.WhichOneof("of")
    if kind is None:
        raise BadMessage(_NEITHER.format(name))
    if kind == "value":
        check(getattr(message, "value"), cls)  # noqa: B009 - a generated attribute


def _enum_type(message: Message, name: str) -> Any:
    return message.DESCRIPTOR.fields_by_name[name].enum_type


def _is_value(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _is_absent_union(hint: Any) -> bool:
    return Absent in typing.get_args(hint)


def _without(hint: Any, part: type) -> Any:
    if not isinstance(hint, types.UnionType) and typing.get_origin(hint) is not typing.Union:
        return hint
    left = [arg for arg in typing.get_args(hint) if arg is not part]
    return left[0] if len(left) == 1 else hint


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _prefix(cls: Any) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper() + "_"
