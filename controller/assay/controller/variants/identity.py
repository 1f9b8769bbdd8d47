"""What makes two builds the same.

A network is named by its model's source, the chain of network steps that led to it, seeds, training
data, and the versions of the tools those steps use. A variant adds the file steps, the calibration
data and the exporting tools. Formats are not part of a variant's identity: a file in another format
is another file of the same variant. So are threads and progress: they change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from typing import Any

from assay.controller.records import DatasetRecord
from assay.controller.variants.models import source_digest
from assay.controller.variants.recipe import Recipe
from assay.controller.variants.steps import FileStep, NetworkStep, Step
from assay.core import digest

ONNX_EXPORTERS = ("torch", "onnx", "onnxscript", "onnxslim")
TFLITE_EXPORTERS = ("litert-torch", "ai-edge-quantizer", "ai-edge-litert")
# Raise when training or export change what they make from the same parameters.
TRAINING_VERSION = 1
EXPORT_VERSION = 1


def network_identity(recipe: Recipe, dataset: DatasetRecord) -> dict[str, Any]:
    """What the trained network of ``recipe`` depends on; a recipe that adds no network step has
    its base's network."""
    if recipe.base is not None and not recipe.network_steps:
        return network_identity(recipe.base, dataset)
    return {
        "model": recipe.model,
        "model_source": _model_source(recipe),
        "base": network_id(recipe.base, dataset) if recipe.base is not None else None,
        "steps": [step_identity(step) for step in recipe.network_steps],
        "seed": recipe.seed,
        "train": dataset.splits["train" if "train" in dataset.splits else "test"].digest,
        "classes": len(dataset.classes),
        "preprocessing": dataset.preprocessing_json,
        "training_version": TRAINING_VERSION,
        "tools": tool_versions(["torch", *_tools(recipe.network_steps)]),
    }


def network_id(recipe: Recipe, dataset: DatasetRecord) -> str:
    """The digest of :func:`network_identity`."""
    return digest.of_json(network_identity(recipe, dataset))


def variant_identity(recipe: Recipe, dataset: DatasetRecord) -> dict[str, Any]:
    """What the files of ``recipe`` depend on; its digest is the variant's id."""
    calibration = dataset.splits.get("calibration")
    return {
        "name": recipe.name,
        "network": network_identity(recipe, dataset),
        "pipeline": [step_identity(step) for step in _pipeline(recipe)],
        "calibration": calibration.digest if calibration else None,
        "export_version": EXPORT_VERSION,
        "tools": tool_versions([*ONNX_EXPORTERS, *_tools(recipe.file_steps)]),
    }


def _model_source(recipe: Recipe) -> Any:
    """Of a model of the user's own, what its trial found: sources, and the weights it starts with;
    the same of the students it names."""
    if recipe.own is None:
        return source_digest(recipe.model)
    assert recipe.tried, f"{recipe.name}: its factory was not tried"
    return {
        name: {"sources": dict(tried.sources), "state": tried.state}
        for name, tried in recipe.tried.items()
    }


def step_identity(step: Step) -> dict[str, Any]:
    """A step with all its parameters, defaults included."""
    return {"use": step.use, "version": step.version, **step.model_dump(mode="json")}


def tool_versions(distributions: Iterable[str]) -> dict[str, str]:
    """The installed version of each; "" where it is not installed."""
    return {name: _version(name) for name in sorted(set(distributions))}


def _version(distribution: str) -> str:
    try:
        # The build tag of a wheel ("+cpu") names where it came from, not what it computes.
        return metadata.version(distribution).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def _tools(steps: Iterable[NetworkStep | FileStep]) -> list[str]:
    return [tool for step in steps for tool in step.tools]


def _pipeline(recipe: Recipe) -> list[Step]:
    before = _pipeline(recipe.base) if recipe.base is not None else []
    return [*before, *recipe.steps]
