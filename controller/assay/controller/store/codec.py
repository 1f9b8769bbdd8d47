"""Records as plain JSON and back, by the types their fields declare."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def from_jsonable(value: Any, hint: type[T]) -> T:
    """The inverse of :func:`assay.core.jsonable.jsonable` for dataclasses, enums, tuples, maps,
    optionals and scalars. A key that is missing takes the field's default."""
    return typing.cast(T, _decode(value, hint))


def _decode(value: Any, hint: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _decode(value, _present(hint))
    if origin is tuple:
        element = typing.get_args(hint)[0]
        return tuple(_decode(item, element) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        element = typing.get_args(hint)[1]
        return {key: _decode(item, element) for key, item in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = _hints(hint)
        return hint(**{key: _decode(item, hints[key]) for key, item in value.items()})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    return value


def _present(hint: Any) -> Any:
    return next(arg for arg in typing.get_args(hint) if arg is not type(None))


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)
