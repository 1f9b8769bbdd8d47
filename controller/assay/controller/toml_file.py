"""Files people write: TOML checked whole against a model, every mistake named with its path."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from assay.core.errors import SpecError

M = TypeVar("M", bound=BaseModel)


def load(path: Path, model: type[M], reference: str) -> M:
    """Reads and checks a file; :class:`SpecError` lists every mistake. ``reference`` is where its
    keys are explained."""
    return parse(read(path), model, str(path), reference)


def read(path: Path) -> str:
    """A file's text; :class:`SpecError` where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        raise SpecError(str(path), [f"is not TOML: {error}"]) from None


def parse(text: str, model: type[M], source: str, reference: str) -> M:
    """Checks a file's text."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers too long, lists too deep
        raise SpecError(source, [f"is not TOML: {error}"]) from None
    return check(raw, model, source, reference)


def check(raw: dict[str, Any], model: type[M], source: str, reference: str) -> M:
    """Checks what a file holds."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise SpecError(source, [_problem(e, reference) for e in error.errors()]) from None


def _problem(error: Any, reference: str) -> str:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"no such key; see {reference}"
    elif error["type"] == "missing":
        message = "is missing"
    elif isinstance(error["input"], (str, int, float, bool)) and error["type"] != "value_error":
        message = f"{error['input']!r}: {message[0].lower()}{message[1:]}"
    return f"{path.lstrip('.')}: {message}" if path else message
