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
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from assay.core.errors import BadMessage
from assay.core.model import Absent
from assay.v1 import artifact_pb2, device_pb2, job_pb2, result_pb2, worker_pb2

T = TypeVar("T")

_MODULES = (artifact_pb2, device_pb2, job_pb2, result_pb2, worker_pb2)


def to_proto(value: Any) -> Message:
    """The message that mirrors ``value``, a dataclass of :mod:`assay.core.model`."""
    message = message_type(type(value))()
    _fill(message, value)
    return message


def from_proto(message: Message, cls: type[T]) -> T:
    """The ``cls`` that ``message`` mirrors; :class:`BadMessage` on an unknown enum value or a
    missing part."""
    return typing.cast(T, _read(message, cls))


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
    values = {name: _read_field(message, name, hint) for name, hint in _hints(cls).items()}
    return cls(**values)


def _read_field(message: Message, name: str, hint: Any) -> Any:
    value = getattr(message, name)
    if _is_absent_union(hint):
        return _read_reading(value, _without(hint, Absent), name)
    inner = _without(hint, type(None))
    if inner is not hint and not message.HasField(name):
        return None
    origin = typing.get_origin(inner)
    if origin is tuple:
        element = typing.get_args(inner)[0]
        return tuple(_read(v, element) if _is_value(element) else v for v in value)
    if origin is not None:
        return dict(value)
    if _is_value(inner):
        if not message.HasField(name):
            raise BadMessage(f"{message.DESCRIPTOR.name}.{name} is missing")
        return _read(value, inner)
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return _read_enum(message, name, value, inner)
    return value


def _read_reading(message: Message, cls: type, name: str) -> Any:
    kind = message.WhichOneof("of")
    if kind == "value":
        return _read(getattr(message, "value"), cls)  # noqa: B009 - a generated attribute
    if kind == "absent":
        return Absent(getattr(message, "absent"))  # noqa: B009
    raise BadMessage(f"{name} holds neither a value nor a reason for its absence")


def _read_enum(message: Message, name: str, number: int, cls: type[enum.Enum]) -> enum.Enum:
    entry = _enum_type(message, name).values_by_number.get(number)
    member = entry.name.removeprefix(_prefix(cls)) if entry is not None else ""
    if member not in cls.__members__:
        raise BadMessage(
            f"{message.DESCRIPTOR.name}.{name}: {number} is not a {cls.__name__} this version "
            "knows; upgrade the side that reads it"
        )
    return cls[member]


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
