"""What of a model goes to devices."""

from __future__ import annotations

from pathlib import Path

from assay.controller.inspection import inspect
from assay.controller.inspection.external import external_files
from assay.controller.records import StaticCost
from assay.core import bundle
from assay.core.model import MEDIA_ONNX


def shipped(model: Path, media_type: str, folder: Path) -> tuple[Path, StaticCost]:
    """The file that devices get, and what it costs: the model itself, or a bundle of it and its
    external data, written into ``folder``."""
    beside = external_files(model) if media_type == MEDIA_ONNX else {}
    if not beside:
        return model, inspect.static_cost(model, media_type)
    sent = folder / f"{model.stem}.bundle"
    bundle.pack(sent, model, beside)
    return sent, inspect.static_cost(model, media_type, sent)
