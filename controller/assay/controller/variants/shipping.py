"""What of a model goes to devices, and how much memory looking at it may take."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from assay.controller.inspection import inspect
from assay.controller.inspection.external import external_files
from assay.controller.records import StaticCost
from assay.core import bundle
from assay.core.model import MEDIA_ONNX

_MEMORY_SHARE = 3 / 4
_LEAST_BYTES = 2 << 30


def shipped(model: Path, media_type: str, folder: Path) -> tuple[Path, StaticCost]:
    """The file that devices get, and what it costs: the model itself, or a bundle of it and its
    external data, written into ``folder``."""
    beside = external_files(model) if media_type == MEDIA_ONNX else {}
    if not beside:
        return model, inspect.static_cost(model, media_type)
    sent = folder / f"{model.stem}.bundle"
    bundle.pack(sent, model, beside)
    return sent, inspect.static_cost(model, media_type, sent)


def limit_memory() -> None:
    """Bounds the address space of this process, so that a model nobody has checked runs out of
    memory alone: three quarters of the machine's, beyond what is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    allowed = pages * page + max(int(total * page * _MEMORY_SHARE), _LEAST_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, resource.getrlimit(resource.RLIMIT_AS)[1]))
