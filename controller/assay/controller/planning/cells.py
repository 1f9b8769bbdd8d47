"""From a sweep file to cells: what is asked for, multiplied out over what there is. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from assay.controller.planning.spec import DeviceSelector, SweepSpec
from assay.controller.records import (
    CellRecord,
    DatasetRecord,
    DeviceRecord,
    DeviceState,
    VariantFile,
    VariantRecord,
)
from assay.core import digest
from assay.core.errors import SpecError
from assay.core.jsonable import jsonable
from assay.core.model import InputSpec, Mode, RunSpec, RuntimeSpec, Scenario
from assay.core.model.formats import FORMATS, MEDIA_BY_RUNTIME

_NO_DATASETS: Mapping[str, DatasetRecord] = MappingProxyType({})

_CAN_REST = frozenset(known.runtime for known in FORMATS if known.rests)

MOST_RUNS = 1_000_000
"""Of one sweep, canaries left out; each has its row and its kilobyte."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A cell the file asks for that cannot be, and why."""

    device: str
    variant: str
    runtime: str
    reason: str


def make_cells(
    spec: SweepSpec,
    *,
    sweep_id: str,
    dataset: DatasetRecord | None,
    variants: Sequence[VariantRecord],
    devices: Sequence[DeviceRecord],
    canary: VariantRecord,
    datasets: Mapping[str, DatasetRecord] = _NO_DATASETS,
) -> tuple[list[CellRecord], list[Skipped]]:
    """The cells of a sweep, each group's canaries last, and what cannot be measured.

    ``variants`` and ``devices`` are everything the store holds; the file selects among them. Where
    it names no dataset, a variant takes its own from ``datasets``.
    :class:`SpecError` where a selection is empty or nothing would be left.
    """
    chosen_variants = choose_variants(spec, variants)
    chosen_devices = _choose_devices(spec, devices)
    _check_size(spec, len(chosen_variants), len(chosen_devices))
    feeding = _Feeding(dataset, datasets)
    cells: list[CellRecord] = []
    skipped: list[Skipped] = []
    for device in chosen_devices:
        for scenario in (s for choice in spec.scenarios for s in choice.scenarios()):
            found, left_out = _group_cells(
                spec, sweep_id, device, scenario, chosen_variants, feeding, canary
            )
            cells += found
            skipped += left_out
    if all(cell.run.canary for cell in cells):
        reasons = sorted({f"{s.runtime} on {s.device}: {s.reason}" for s in skipped})
        raise SpecError(spec.name, ["no cell is left to measure", *reasons])
    # What a file asks for twice (`threads = [1, 1]`) is measured once.
    return list({(cell.group, cell.cell_key): cell for cell in cells}.values()), skipped


@dataclass(frozen=True, slots=True)
class _Feeding:
    """What feeds a variant: its own inputs, the sweep's dataset, or else its own one."""

    dataset: DatasetRecord | None
    datasets: Mapping[str, DatasetRecord]

    def inputs(self, variant: VariantRecord, file: VariantFile) -> InputSpec | None:
        """None where nothing does."""
        if file.inputs is not None:
            return file.inputs
        found = self.dataset or self.datasets.get(variant.dataset)
        if found is None:
            return None
        return InputSpec(found.name, found.splits["test"], found.preprocessing_json)


def cell_key(run: RunSpec, device_id: str) -> str:
    """The digest that names what is measured: everything of a run but when and in which order."""
    parts: dict[str, object] = {
        key: value
        for key, value in jsonable(run).items()
        if key not in {"attempt_id", "cell_key", "variant_name", "evaluate", "seed"}
    }
    inputs = jsonable(run.inputs)
    # A cell of a dataset keeps the key it had before inputs could be anything else.
    absent = {key for key in ("state", "made_json") if not inputs[key]}
    parts["inputs"] = {key: value for key, value in inputs.items() if key not in absent}
    return digest.of_json({**parts, "device": device_id})


def choose_variants(spec: SweepSpec, variants: Sequence[VariantRecord]) -> list[VariantRecord]:
    """The variants that the file names, the baseline first; :class:`SpecError` where it names what
    there is not."""
    problems = [
        f"variants[{i}]: no variant is called {pattern!r}; `assay variant list` shows what there is"
        for i, pattern in enumerate(spec.variants)
        if not any(fnmatch.fnmatchcase(v.name, pattern) for v in variants)
    ]
    problems += [
        f"models[{i}]: no variant of a model {model!r}"
        for i, model in enumerate(spec.models)
        if not any(v.model == model for v in variants)
    ]
    chosen = [
        v
        for v in variants
        if v.model in spec.models or any(fnmatch.fnmatchcase(v.name, p) for p in spec.variants)
    ]
    if not problems and spec.baseline not in {v.name for v in chosen}:
        problems.append(f"baseline: {spec.baseline!r} is not among the chosen variants")
    if problems:
        raise SpecError(spec.name, problems)
    return sorted(chosen, key=lambda v: (v.name != spec.baseline, v.name))


def _check_size(spec: SweepSpec, variants: int, devices: int) -> None:
    """Before anything is multiplied out: a slip of a file must not take all memory, nor keep the
    store busy for minutes."""
    scenarios = sum(len(choice.batch) for choice in spec.scenarios)
    runtimes = sum(len(choice.threads) for choice in spec.runtimes)
    asked = devices * scenarios * variants * runtimes * spec.rounds
    if asked > MOST_RUNS:
        raise SpecError(
            spec.name,
            [
                f"{devices} devices, {scenarios} scenarios, {variants} variants, {runtimes} "
                f"runtimes and threads and {spec.rounds} rounds make {asked} runs; a sweep has "
                f"{MOST_RUNS} at most: make several of it"
            ],
        )


def _choose_devices(spec: SweepSpec, devices: Sequence[DeviceRecord]) -> list[DeviceRecord]:
    chosen = [
        d for d in devices if d.state is DeviceState.ACTIVE and _matches_device(spec.devices, d)
    ]
    if not chosen:
        raise SpecError(
            spec.name,
            ["devices: no active device matches; `assay device list` shows what is enrolled"],
        )
    return sorted(chosen, key=lambda d: d.name)


def _matches_device(selector: DeviceSelector, device: DeviceRecord) -> bool:
    facts = device.facts
    device_class = facts.device_class if facts else ""
    return (
        (not selector.names or any(fnmatch.fnmatchcase(device.name, p) for p in selector.names))
        and (not selector.classes or device_class in selector.classes)
        and all(device.all_labels.get(key) == value for key, value in selector.labels.items())
        and set(selector.capabilities) <= set(facts.capabilities if facts else ())
        and (facts.memory_total_bytes if facts else 0) >= selector.memory_bytes
    )


def _group_cells(
    spec: SweepSpec,
    sweep_id: str,
    device: DeviceRecord,
    scenario: Scenario,
    variants: Sequence[VariantRecord],
    feeding: _Feeding,
    canary: VariantRecord,
) -> tuple[list[CellRecord], list[Skipped]]:
    """The cells of one group, canaries last, and what cannot be measured there."""
    group = (
        f"{device.name}/{scenario.kind.value}/{scenario.mode.value}/{scenario.samples_per_query}"
    )
    cells: list[CellRecord] = []
    skipped: list[Skipped] = []
    for runtime in _runtimes(spec, scenario):
        absent = _why_absent(device, runtime)
        for variant in variants:
            if _is_excluded(spec, variant, runtime, device, scenario):
                continue
            reason = absent or _why_unrunnable(variant, runtime, feeding)
            reason = reason or _why_too_large(variant, runtime, device)
            if reason:
                skipped.append(Skipped(device.name, variant.name, runtime.name, reason))
                continue
            run = _template(spec, variant, runtime, scenario, feeding, device)
            is_baseline = variant.name == spec.baseline
            cells.append(
                CellRecord(run.cell_key, sweep_id, device.device_id, group, run, is_baseline)
            )
    if cells and spec.canary:
        used = {cell.run.runtime.name: cell.run.runtime for cell in reversed(cells)}
        for runtime in used.values():
            run = _canary_template(spec, canary, runtime, scenario, device)
            cells.append(CellRecord(run.cell_key, sweep_id, device.device_id, group, run, False))
    return cells, skipped


def _runtimes(spec: SweepSpec, scenario: Scenario) -> list[RuntimeSpec]:
    """In paced runs idle threads would burn the pauses (onnxruntime: some 12 ms of a core after
    each query), so those whose runtime can rest do, unless the file says otherwise."""
    rests = _CAN_REST if scenario.mode is Mode.PACED else frozenset()
    return [
        RuntimeSpec(
            choice.name,
            choice.version,
            choice.provider,
            threads,
            choice.name not in rests if choice.allow_spinning is None else choice.allow_spinning,
            dict(choice.options),
        )
        for choice in spec.runtimes
        for threads in choice.threads
    ]


def _why_absent(device: DeviceRecord, runtime: RuntimeSpec) -> str:
    if device.facts is None:
        return "the device has not synced yet"
    found = next((r for r in device.facts.runtimes if r.name == runtime.name), None)
    if found is None:
        return f"the device has no working {runtime.name} (`assay-agent doctor` there says why)"
    if runtime.version and found.version != runtime.version:
        return f"the device has {runtime.name} {found.version}, the file asks for {runtime.version}"
    if runtime.provider and runtime.provider not in found.providers:
        return f"the device's {runtime.name} has no provider {runtime.provider}"
    return ""


def _why_unrunnable(variant: VariantRecord, runtime: RuntimeSpec, feeding: _Feeding) -> str:
    media = MEDIA_BY_RUNTIME[runtime.name]
    if media not in variant.files:
        return f"the variant has no {media.removeprefix('model/')} file"
    if feeding.inputs(variant, variant.files[media]) is None:
        return "nothing feeds it: name a dataset, or add it with --dataset or --inputs"
    return ""


def _why_too_large(variant: VariantRecord, runtime: RuntimeSpec, device: DeviceRecord) -> str:
    """Whether the disk has room the device itself knows best: its cache makes some."""
    size = variant.files[MEDIA_BY_RUNTIME[runtime.name]].artifact.size_bytes
    memory = device.facts.memory_total_bytes if device.facts else 0
    if not 0 < memory < size:
        return ""
    return f"its file has {size / 2**20:.0f} MiB, the device {memory / 2**20:.0f} MiB of memory"


def _is_excluded(
    spec: SweepSpec,
    variant: VariantRecord,
    runtime: RuntimeSpec,
    device: DeviceRecord,
    scenario: Scenario,
) -> bool:
    return any(
        fnmatch.fnmatchcase(variant.name, rule.variant)
        and fnmatch.fnmatchcase(runtime.name, rule.runtime)
        and fnmatch.fnmatchcase(device.name, rule.device)
        and rule.threads in (None, runtime.threads)
        and rule.batch in (None, scenario.samples_per_query)
        for rule in spec.exclude
    )


def _template(
    spec: SweepSpec,
    variant: VariantRecord,
    runtime: RuntimeSpec,
    scenario: Scenario,
    feeding: _Feeding,
    device: DeviceRecord,
) -> RunSpec:
    file = variant.files[MEDIA_BY_RUNTIME[runtime.name]]
    inputs = feeding.inputs(variant, file)
    assert inputs is not None, "cells that nothing feeds are left out"
    run = RunSpec(
        attempt_id="",
        cell_key="",
        variant_id=variant.variant_id,
        variant_name=variant.name,
        artifact=file.artifact,
        runtime=runtime,
        scenario=scenario,
        profile=spec.measuring,
        inputs=inputs,
        golden=file.golden,
    )
    return replace(run, cell_key=cell_key(run, device.device_id))


def _canary_template(
    spec: SweepSpec,
    canary: VariantRecord,
    runtime: RuntimeSpec,
    scenario: Scenario,
    device: DeviceRecord,
) -> RunSpec:
    file = canary.files[MEDIA_BY_RUNTIME[runtime.name]]
    assert file.golden is not None, "the canary carries its own inputs"
    run = RunSpec(
        attempt_id="",
        cell_key="",
        variant_id=canary.variant_id,
        variant_name=canary.name,
        artifact=file.artifact,
        runtime=replace(runtime, options={}),
        scenario=replace(scenario, samples_per_query=1),
        profile=spec.measuring,
        inputs=InputSpec("canary", file.golden.artifact, "{}"),
        golden=file.golden,
        canary=True,
    )
    return replace(run, cell_key=cell_key(run, device.device_id))
