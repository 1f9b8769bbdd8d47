"""The runtimes Assay knows, imported one at a time and only in worker and probe processes."""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from assay.core.errors import RuntimeAbsent

if TYPE_CHECKING:
    from assay.agent.runtimes.base import Runtime

_KNOWN = MappingProxyType(
    {
        "onnxruntime": "assay.agent.runtimes.onnxruntime:OnnxRuntime",
        "litert": "assay.agent.runtimes.litert:LiteRt",
        "ncnn": "assay.agent.runtimes.ncnn:Ncnn",
        "torch": "assay.agent.runtimes.torch:Torch",
    }
)


def names() -> tuple[str, ...]:
    """Every runtime that could be here."""
    return tuple(_KNOWN)


def runtime(name: str) -> type[Runtime]:
    """The runtime ``name``; :class:`RuntimeAbsent` for one Assay does not know."""
    if name not in _KNOWN:
        raise RuntimeAbsent(f"{name!r} is not a runtime of Assay; known: {', '.join(_KNOWN)}")
    module, _, attribute = _KNOWN[name].partition(":")
    found: type[Runtime] = getattr(importlib.import_module(module), attribute)
    return found
