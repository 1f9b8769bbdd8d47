"""Values of :mod:`assay.core.model` as plain JSON, for exports and for people."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from assay.core.model import Absent


def jsonable(value: Any) -> Any:
    """``value`` as dicts, lists, strings and numbers; an :class:`Absent` as ``{"absent": why}``."""
    if isinstance(value, Absent):
        return {"absent": value.reason}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value
