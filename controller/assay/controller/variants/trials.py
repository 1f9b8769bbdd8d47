"""Tries the factories that recipes name: before that, nobody knows what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assay.controller.datasets.base import OnProgress
from assay.controller.own_code.reference import Reference
from assay.controller.records import DatasetRecord
from assay.controller.variants.models import Tried
from assay.controller.variants.orders import ModelOrder, read_model_report
from assay.controller.variants.process import BuildProcesses, build_folder
from assay.controller.variants.recipe import Recipe
from assay.core.cas import ContentStore
from assay.core.errors import BadInputs

TIME_BOX_S = 300.0
"""How long each may take: importing and calling a factory, loading weights, running two samples."""


def tried(
    recipes: Sequence[Recipe],
    dataset: DatasetRecord,
    blobs: ContentStore,
    processes: BuildProcesses,
    progress: OnProgress,
) -> list[Recipe]:
    """The recipes and their bases with what their factories turned out to be.

    :class:`NotFound` and :class:`BuildFailed` say what a factory did instead.
    """
    trials = _Trials(dataset, blobs, processes, progress)
    try:
        return [trials.tried(recipe) for recipe in recipes]
    except BaseException:
        processes.close()
        raise


def own_notes(recipe: Recipe) -> dict[str, str]:
    """Where the weights of a model of the user's own come from; nothing for other models."""
    if recipe.own is None:
        return {}
    weights = recipe.own.weights
    return {"weights": weights.name if weights else "as its factory makes them"}


@dataclass(slots=True)
class _Trials:
    """Each factory is tried once, in a process of its own."""

    dataset: DatasetRecord
    blobs: ContentStore
    processes: BuildProcesses
    progress: OnProgress
    _tried: dict[tuple[Reference, Path | None], Tried] = field(default_factory=dict)

    def tried(self, recipe: Recipe) -> Recipe:
        base = self.tried(recipe.base) if recipe.base is not None else None
        if recipe.own is None:
            return replace(recipe, base=base)
        found = {str(recipe.own.reference): self._try(recipe, recipe.own.reference)}
        for student in recipe.students:
            found[str(student)] = self._try(recipe, student)
        return replace(recipe, base=base, tried=found)

    def _try(self, recipe: Recipe, reference: Reference) -> Tried:
        own = recipe.own
        assert own is not None
        weights = own.weights if reference == own.reference else None
        key = (reference, weights)
        if key not in self._tried:
            self.progress(recipe.name, 0, 0, f"trying {reference}")
            order = ModelOrder(
                reference=reference,
                weights=str(weights) if weights else None,
                samples=str(self.blobs.path(self.dataset.splits["test"].digest)),
                preprocessing_json=self.dataset.preprocessing_json,
                classes=len(self.dataset.classes),
            )
            with build_folder() as folder:
                self.processes.run(
                    order,
                    folder,
                    lambda _done, note: self.progress(recipe.name, 0, 0, note),
                    silence_s=TIME_BOX_S,
                )
                report = read_model_report(folder)
            self._tried[key] = Tried(report.sources, report.state)
        return self._tried[key]


def require_samples(recipes: Sequence[Recipe], dataset: DatasetRecord) -> None:
    """:class:`BadInputs` where a recipe needs training samples that the dataset does not have."""
    for recipe in recipes:
        chain: Recipe | None = recipe
        while chain is not None:
            if chain.network_steps and "train" not in dataset.splits:
                raise BadInputs(
                    f"dataset {dataset.name} has no training samples to build {recipe.name} from"
                )
            chain = chain.base
