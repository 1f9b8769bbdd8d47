"""The sweep file as TOML, so that a report is enough to measure the same again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def sweep_toml(spec_json: str) -> str:
    """The stored sweep file as TOML, without keys that were left empty."""
    spec = json.loads(spec_json)
    return "\n".join([*_plain(spec), *_tables(spec)]) + "\n"


def _plain(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if not _is_table(value) and not _is_empty(value):
            yield f"{key} = {_value(value)}"


def _tables(spec: Mapping[str, Any]) -> Iterator[str]:
    for key, value in spec.items():
        if isinstance(value, dict) and not _is_empty(value):
            yield from ("", f"[{key}]", *_plain(value), *_inline(value))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                yield from ("", f"[[{key}]]", *_plain(item), *_inline(item))


def _inline(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            pairs = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
            yield f"{key} = {{ {pairs} }}"


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    )


def _is_empty(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_empty(v) for v in value.values())
    return value is None or value == "" or value == []


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "").isalnum() and key.isascii()
    return key if bare else json.dumps(key)


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(v) for v in value)}]"
    # JSON's strings, numbers and booleans are TOML's; \u escapes keep odd characters whole.
    return json.dumps(value)
