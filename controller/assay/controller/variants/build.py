"""Builds variants from recipes, each network and each variant in a process of its own.

What is there already is not built: a variant by its id in the store, a trained network by its id in
the index beside the content store. What is built appears whole (artifacts first, then the record),
so that an interruption leaves nothing half, and what was finished before it stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from assay.controller.datasets.base import OnProgress, silent
from assay.controller.records import DatasetRecord, VariantRecord
from assay.controller.store.base import Store
from assay.controller.variants import publish
from assay.controller.variants.export import can_make_tflite, require_exporters
from assay.controller.variants.identity import network_id, variant_identity
from assay.controller.variants.index import BuildIndex, TrainedNetwork
from assay.controller.variants.models import OwnModel
from assay.controller.variants.ncnn import can_make_ncnn
from assay.controller.variants.orders import (
    REPORT,
    FilesOrder,
    NetworkOrder,
    StoredNetwork,
    read_file_reports,
    read_network_report,
    step_table,
)
from assay.controller.variants.process import BuildProcesses, OnLine, build_folder
from assay.controller.variants.recipe import Recipe, load_recipe
from assay.controller.variants.tasks import Task, run_tasks
from assay.controller.variants.trials import own_notes, require_samples, tried
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import BadInputs, BuildFailed
from assay.core.model import MEDIA_NPZ, ArtifactRef

_MAX_JOBS = 4


def build_variants(
    recipe_paths: Sequence[Path],
    dataset: DatasetRecord,
    store: Store,
    blobs: ContentStore,
    progress: OnProgress = silent,
    *,
    jobs: int | None = None,
    own: OwnModel | None = None,
) -> list[VariantRecord]:
    """The variants of these recipes, in their order, built where they are not yet.

    ``jobs`` processes at a time, one thread each; as many as there are CPUs unless given, four at
    most. ``progress`` is called from the calling thread only, by the names of the recipes.

    ``own`` is a model of the user's own, in place of the one that the recipes name. It is tried
    first, and :class:`NotFound` or :class:`BuildFailed` say what it did.

    :class:`SpecError` lists the mistakes of a recipe before anything is built. A build that fails
    does not stop the others; at the end :class:`BuildFailed` names every one that did.
    """
    recipes = [load_recipe(path, own) for path in recipe_paths]
    _require_distinct(recipes)
    require_samples(recipes, dataset)
    builder = Builder(dataset, store, blobs, BuildIndex(blobs), BuildProcesses())
    if any(recipe.own for recipe in recipes):
        require_exporters()
    recipes = tried(recipes, dataset, blobs, builder.processes, progress)
    plans = [builder.plan(recipe) for recipe in recipes]
    tasks = builder.tasks(plans)
    if tasks:
        require_exporters()
    workers = jobs or min(_MAX_JOBS, _usable_cpus())
    failures = run_tasks(tasks, workers, progress, builder.processes.close)
    done = [plan for plan in plans if plan.recipe.name not in failures]
    records = [builder.registered(plan) for plan in done]
    for plan in done:
        progress(plan.recipe.name, 1, 1, "built" if plan.work else "is there")
    if failures:
        listed = "\n".join(f"{name}: {error}" for name, error in failures.items())
        raise BuildFailed(f"{len(plans) - len(done)} of {len(plans)} variants failed\n{listed}")
    return records


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe still needs: ``formats`` to make, from ``network_id``."""

    recipe: Recipe
    variant_id: str
    network_id: str
    formats: tuple[str, ...]
    unmade: dict[str, str]

    @property
    def work(self) -> bool:
        """Whether there is anything to build."""
        return bool(self.formats)


@dataclass(frozen=True, slots=True)
class Builder:
    """The state of one call of :func:`build_variants`."""

    dataset: DatasetRecord
    store: Store
    blobs: ContentStore
    index: BuildIndex
    processes: BuildProcesses

    def plan(self, recipe: Recipe) -> Plan:
        """Compares what the recipe wants with what is there."""
        variant_id = digest.of_json(variant_identity(recipe, self.dataset))
        unmade: dict[str, str] = {
            name: f"not made: {why_not}"
            for name, why_not_here in (("tflite", can_make_tflite), ("ncnn", can_make_ncnn))
            if name in recipe.formats and (why_not := why_not_here())
        }
        there = publish.held_formats(self.store, self.blobs, variant_id)
        wanted = [f for f in recipe.formats if f not in unmade and f not in there]
        return Plan(recipe, variant_id, network_id(recipe, self.dataset), tuple(wanted), unmade)

    def tasks(self, plans: Sequence[Plan]) -> list[Task]:
        """Each network once, with the bases it starts from, and each variant."""
        networks: dict[str, Task] = {}
        files = []
        for plan in plans:
            if plan.work:
                self._add_network(plan.recipe, plan.formats, networks)
                needs = (plan.network_id,) if plan.network_id in networks else ()
                files.append(self._files_task(plan, needs))
        return [*networks.values(), *files]

    def registered(self, plan: Plan) -> VariantRecord:
        """The record of a plan that is done."""
        return publish.claim_name(self.store, plan.variant_id, plan.recipe.name)

    def _add_network(
        self, recipe: Recipe, formats: Sequence[str], networks: dict[str, Task]
    ) -> None:
        """Adds the training or exporting of a recipe's network, and of its bases, where needed."""
        recipe = _network_owner(recipe)
        key = network_id(recipe, self.dataset)
        before = networks.get(key)
        trained = self.index.get(key)
        have = trained.exports if trained else {}
        wanted = [*(before.formats if before else ()), *formats]
        missing = tuple(f for f in dict.fromkeys(wanted) if f not in have)
        if trained is not None and not missing:
            return
        needs: tuple[str, ...] = ()
        if trained is None and recipe.base is not None:
            self._add_network(recipe.base, (), networks)
            needs = (network_id(_network_owner(recipe.base), self.dataset),)
        order = self._network_order(recipe, missing, trained)

        def run(on_line: OnLine) -> None:
            self._build_network(recipe, key, missing, on_line)

        held = tuple(need for need in needs if need in networks)
        networks[key] = Task(key, recipe.name, held, order.units, run, missing)

    def _network_order(
        self, recipe: Recipe, formats: Sequence[str], trained: TrainedNetwork | None
    ) -> NetworkOrder:
        base = None
        if recipe.base is not None and trained is None:
            found = self.index.get(network_id(recipe.base, self.dataset))
            base = self._stored(found) if found else None
        return NetworkOrder(
            model=recipe.model,
            train=str(self.blobs.path(self._training_split().digest)),
            preprocessing_json=self.dataset.preprocessing_json,
            classes=len(self.dataset.classes),
            seed=recipe.seed,
            steps=[step_table(step) for step in recipe.network_steps],
            formats=formats,
            base=base,
            trained=self._stored(trained) if trained else None,
            own=recipe.own,
        )

    def _training_split(self) -> ArtifactRef:
        """Any split gives an example where no step needs samples."""
        return self.dataset.splits.get("train") or self.dataset.splits["test"]

    def _stored(self, network: TrainedNetwork) -> StoredNetwork:
        return StoredNetwork(str(self.blobs.path(network.weights.digest)), network.description)

    def _build_network(
        self, recipe: Recipe, key: str, formats: Sequence[str], on_line: OnLine
    ) -> None:
        trained = self.index.get(key)
        order = self._network_order(recipe, formats, trained)
        if recipe.base is not None and trained is None and order.base is None:
            raise BuildFailed(f"its base {recipe.base.name} was not built")
        with build_folder() as folder:
            try:
                self.processes.run(order, folder, on_line)
            finally:
                # Also where an export failed: the weights are reported before.
                if (folder / REPORT).exists():
                    self._keep_network(key, folder, trained)

    def _keep_network(self, key: str, folder: Path, trained: TrainedNetwork | None) -> None:
        report = read_network_report(folder)
        exports = {
            f: self.blobs.add_file(folder / path, publish.MEDIA[f])
            for f, path in report.exports.items()
        }
        if trained is None:
            weights = self.blobs.add_file(folder / report.weights, MEDIA_NPZ)
            trained = TrainedNetwork(weights, report.description)
        notes = {**trained.notes, **report.notes}
        self.index.put(key, replace(trained, exports={**trained.exports, **exports}, notes=notes))

    def _files_task(self, plan: Plan, needs: tuple[str, ...]) -> Task:
        units = FilesOrder({f: "" for f in plan.formats}, (), {}, "", None, "").units

        def run(on_line: OnLine) -> None:
            self._build_files(plan, on_line)

        return Task(plan.variant_id, plan.recipe.name, needs, units, run, plan.formats)

    def _build_files(self, plan: Plan, on_line: OnLine) -> None:
        network = self.index.get(plan.network_id)
        if network is None:
            raise BuildFailed("its network was not built")
        calibration = self.dataset.splits.get("calibration")
        order = FilesOrder(
            sources={f: str(self.blobs.path(network.exports[f].digest)) for f in plan.formats},
            steps=[step_table(step) for step in plan.recipe.file_steps],
            arithmetic={f: plan.recipe.arithmetic(f) for f in plan.formats},
            test=str(self.blobs.path(self.dataset.splits["test"].digest)),
            calibration=str(self.blobs.path(calibration.digest)) if calibration else None,
            preprocessing_json=self.dataset.preprocessing_json,
        )
        with build_folder() as folder:
            self.processes.run(order, folder, on_line)
            files, notes = publish.publish_files(self.blobs, read_file_reports(folder))
        record = VariantRecord(
            variant_id=plan.variant_id,
            name=plan.recipe.name,
            model=plan.recipe.model,
            dataset=self.dataset.name,
            origin="recipe",
            identity=variant_identity(plan.recipe, self.dataset),
            files=files,
            notes={
                "summary": plan.recipe.summary,
                **own_notes(plan.recipe),
                **network.notes,
                **plan.unmade,
                **notes,
            },
            created_ns=time.time_ns(),
        )
        publish.register(self.store, record)


def _network_owner(recipe: Recipe) -> Recipe:
    """The recipe whose network steps made the network this one uses."""
    while recipe.base is not None and not recipe.network_steps:
        recipe = recipe.base
    return recipe


def _require_distinct(recipes: Sequence[Recipe]) -> None:
    names = [recipe.name for recipe in recipes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInputs(f"several of these recipes are named {', '.join(twice)}")


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
