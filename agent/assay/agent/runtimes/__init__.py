"""The runtimes Assay knows, imported one at a time and only in worker and probe processes.

The module of each bears its name and calls its class ``RUNTIME``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from assay.core.errors import RuntimeAbsent
from assay.core.model.formats import FORMATS

if TYPE_CHECKING:
    from assay.agent.runtimes.base import Runtime


def names() -> tuple[str, ...]:
    """Every runtime that could be here."""
    return tuple(known.runtime for known in FORMATS)


def runtime(name: str) -> type[Runtime]:
    """The runtime ``name``; :class:`RuntimeAbsent` for one Assay does not know."""
    if name not in names():
        raise RuntimeAbsent(f"{name!r} is not a runtime of Assay; known: {', '.join(names())}")
    found: type[Runtime] = importlib.import_module(f"{__name__}.{name}").RUNTIME
    return found
