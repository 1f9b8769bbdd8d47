"""The steps recipes are made of, one file per family."""

from __future__ import annotations

from assay.controller.variants.steps import (
    distil,
    half,
    prune,
    quantise,
    redesign,
    train,
    tucker,
)
from assay.controller.variants.steps.base import FileStep, NetworkStep, Step, registered

__all__ = [
    "FileStep",
    "NetworkStep",
    "Step",
    "distil",
    "half",
    "prune",
    "quantise",
    "redesign",
    "registered",
    "train",
    "tucker",
]
