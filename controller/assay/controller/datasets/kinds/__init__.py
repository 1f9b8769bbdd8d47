"""The kinds of datasets, one file each."""

from __future__ import annotations

from assay.controller.datasets.kinds import (
    arrays,
    images,
    own_class,
    recordings,
    table,
)
from assay.controller.datasets.kinds.base import ALL, PARTS, Found, Kind, Part, registered

__all__ = [
    "ALL",
    "PARTS",
    "Found",
    "Kind",
    "Part",
    "arrays",
    "images",
    "own_class",
    "recordings",
    "registered",
    "table",
]
