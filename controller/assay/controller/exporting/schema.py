"""The JSON Schema of exported results, made from the values that are exported.

``docs/reference/result.schema.json`` is this; written by docs/generate.py.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any

from assay.controller.exporting.export import SCHEMA
from assay.controller.records import ResultRecord
from assay.core.model import Absent

_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_NUMBERS = {"type": "array", "items": _NUMBER}
_INTEGERS = {"type": "array", "items": {"type": "integer"}}
_PLAIN: Mapping[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    # NaN and infinity are exported as null.
    float: _NUMBER,
    str: {"type": "string"},
}
_SAMPLES = {
    "type": "object",
    "required": ["latency_ns", "series"],
    "properties": {
        "latency_ns": _INTEGERS,
        "index": _INTEGERS,
        "block_start_ns": _INTEGERS,
        "block_queries": _INTEGERS,
        "warmup_median_ns": _NUMBERS,
        "predictions": _INTEGERS,
        "histogram": {
            "type": "object",
            "required": ["edges_ns", "counts"],
            "properties": {"edges_ns": _NUMBERS, "counts": _INTEGERS},
        },
        "series": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["t_ns", "value"],
                "properties": {"t_ns": _INTEGERS, "value": _NUMBERS},
            },
        },
    },
}


def result_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a document that ``assay result export --format json`` writes.

    Fields are only added within a version, so what is unknown is allowed, and all that is there
    today is required.
    """
    definitions: dict[str, Any] = {}
    record = _of(ResultRecord, definitions)
    definitions[ResultRecord.__name__]["properties"]["samples"] = _SAMPLES
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Results exported by Assay",
        "type": "object",
        "required": ["schema", "results"],
        "properties": {
            "schema": {"const": SCHEMA},
            "results": {"type": "array", "items": record},
        },
        "$defs": dict(sorted(definitions.items())),
    }


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if kind is types.NoneType:
        return {"type": "null"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_of(one, definitions) for one in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    return _defined(kind, definitions)


def _defined(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """A reference to a dataclass, which is put among the definitions."""
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _absent() if kind is Absent else _dataclass(kind, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _absent() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "A value that could not be had, and why.",
        "required": ["absent"],
        "properties": {"absent": {"type": "string"}},
        "additionalProperties": False,
    }


def _dataclass(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
        "required": names,
        "properties": {name: _of(hints[name], definitions) for name in names},
    }
