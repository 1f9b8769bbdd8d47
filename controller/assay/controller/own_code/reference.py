"""``package.module:name``, and where it is looked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import UsageError

_FORM = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Reference:
    """``module:name``, looked for in ``folders`` first, then among what is installed."""

    module: str
    name: str
    folders: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def is_reference(text: str) -> bool:
    """Whether ``text`` has the form of one."""
    return _FORM.fullmatch(text) is not None


def parse_reference(text: str, folders: Sequence[Path]) -> Reference:
    """The reference; :class:`UsageError` where ``text`` is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r}: code is named package.module:name, e.g. own_model.net:build")
    resolved = dict.fromkeys(str(folder.resolve()) for folder in folders)
    return Reference(found["module"], found["name"], tuple(resolved))
