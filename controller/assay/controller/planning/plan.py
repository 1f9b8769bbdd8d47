"""From a sweep file to cells and rounds: pure, so that a plan can be shown before it is run.

A *group* is what shares a device and a scenario; all its cells, plus one canary per runtime, run
once in every round, in an order drawn from the sweep's seed. Later rounds (:func:`more_rounds`)
hold only what still lacks VALID results, together with the baseline and the canaries, so that every
comparison stays within a round (docs/decisions/rounds.md).
"""

from __future__ import annotations

import fnmatch
import json
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from assay.controller.planning.spec import RUNTIME_MEDIA, DeviceSelector, SweepSpec
from assay.controller.records import (
    CellRecord,
    DatasetRecord,
    DeviceRecord,
    DeviceState,
    ResultRecord,
    RoundRecord,
    RoundState,
    SweepRecord,
    SweepState,
    VariantRecord,
)
from assay.core import digest
from assay.core.errors import SpecError
from assay.core.jsonable import jsonable
from assay.core.model import (
    FailureClass,
    InputSpec,
    Profile,
    RunSpec,
    RuntimeSpec,
    Scenario,
    VerdictKind,
)

_PROCESS_NS = 2_500_000_000  # start, load, floors and end of one run, as seen on x86
_EVALUATE_NS = 5_000_000_000  # accuracy over a test set of thousands of samples
_STEADY_BLOCKS = 5


@dataclass(frozen=True, slots=True)
class Skipped:
    """A cell the file asks for that cannot be, and why."""

    device: str
    variant: str
    runtime: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep will do; ``estimate_ns`` is the longest device's time, devices run at once."""

    sweep: SweepRecord
    cells: tuple[CellRecord, ...]
    rounds: tuple[RoundRecord, ...]
    skipped: tuple[Skipped, ...]
    estimate_ns: int


def make_plan(
    spec: SweepSpec,
    *,
    sweep_id: str,
    now_ns: int,
    dataset: DatasetRecord,
    variants: Sequence[VariantRecord],
    devices: Sequence[DeviceRecord],
    canary: VariantRecord,
) -> Plan:
    """Multiplies the file out over what is there; :class:`SpecError` where nothing would be left.

    ``variants`` and ``devices`` are everything the store holds; the file selects among them.
    """
    chosen_variants = _choose_variants(spec, variants)
    chosen_devices = _choose_devices(spec, devices)
    cells: list[CellRecord] = []
    skipped: list[Skipped] = []
    for device in chosen_devices:
        for scenario in (s for choice in spec.scenarios for s in choice.scenarios()):
            found, left_out = _group_cells(
                spec, sweep_id, device, scenario, chosen_variants, dataset, canary
            )
            cells += found
            skipped += left_out
    measured = [cell for cell in cells if not cell.run.canary]
    if not measured:
        reasons = sorted({f"{s.runtime} on {s.device}: {s.reason}" for s in skipped})
        raise SpecError(spec.name, ["no cell is left to measure", *reasons])
    sweep = SweepRecord(
        sweep_id=sweep_id,
        name=spec.name,
        spec_json=json.dumps(spec.model_dump(mode="json"), sort_keys=True),
        seed=spec.seed,
        rounds=spec.rounds,
        state=SweepState.RUNNING,
        created_ns=now_ns,
    )
    rounds = tuple(
        _round(sweep, group, index, members, evaluate=spec.accuracy and index == 0)
        for group, members in _by_group(cells).items()
        for index in range(spec.rounds)
    )
    return Plan(sweep, tuple(cells), rounds, tuple(skipped), estimate_ns(rounds))


def more_rounds(
    sweep: SweepRecord,
    cells: Sequence[CellRecord],
    rounds: Sequence[RoundRecord],
    results: Sequence[ResultRecord],
) -> list[RoundRecord]:
    """The rounds a sweep still needs so that every cell has its VALID results.

    Empty when nothing is lacking. Cells that failed because of the model itself are not tried
    again: they would fail again.
    """
    valid = Counter(
        r.result.run.cell_key for r in results if r.result.verdict.kind is VerdictKind.VALID
    )
    evaluated = {r.result.run.cell_key for r in results if r.result.quality is not None}
    hopeless = {r.result.run.cell_key for r in results if _is_models_fault(r)}
    queued = Counter(
        run.cell_key
        for r in rounds
        if r.state in (RoundState.QUEUED, RoundState.LEASED)
        for run in r.runs
    )
    wants_accuracy = bool(json.loads(sweep.spec_json).get("accuracy", True))
    added: list[RoundRecord] = []
    for group, members in _by_group(cells).items():
        lacking = {
            cell.cell_key: sweep.rounds - valid[cell.cell_key] - queued[cell.cell_key]
            for cell in members
            if not cell.run.canary and cell.cell_key not in hopeless
        }
        first = 1 + max((r.index for r in rounds if r.group == group), default=-1)
        for offset in range(max(lacking.values(), default=0)):
            short = {key for key, count in lacking.items() if count > offset}
            again = [c for c in members if c.cell_key in short or c.baseline or c.run.canary]
            unrated = short - evaluated if wants_accuracy and offset == 0 else set()
            added.append(_round(sweep, group, first + offset, again, evaluate_only=unrated))
    return added


def retries_left(
    sweep: SweepRecord, cells: Sequence[CellRecord], rounds: Sequence[RoundRecord]
) -> bool:
    """Whether the file's ``retries`` allow another set of added rounds."""
    allowed = int(json.loads(sweep.spec_json).get("retries", 0))
    groups = {cell.group for cell in cells}
    return len(rounds) < sweep.rounds * len(groups) * (1 + allowed)


def estimate_ns(rounds: Iterable[RoundRecord]) -> int:
    """How long the rounds will take: the sum over runs on each device, the slowest device's."""
    per_device: Counter[str] = Counter()
    for round_ in rounds:
        per_device[round_.device_id] += sum(_run_ns(run) for run in round_.runs)
    return max(per_device.values(), default=0)


def lease_ns(runs: Iterable[RunSpec]) -> int:
    """The time box of a round: every run at its longest, and room to fetch and report."""
    longest = sum(
        run.profile.settle_max_ns
        + run.profile.warmup_max_ns
        + run.profile.t_max_ns
        + 4 * (_PROCESS_NS + _EVALUATE_NS)
        for run in runs
    )
    return longest + 120_000_000_000


def _run_ns(run: RunSpec) -> int:
    profile: Profile = run.profile
    warmup = profile.warmup_min_ns + _STEADY_BLOCKS * profile.warmup_block_ns
    return warmup + profile.t_min_ns + _PROCESS_NS + (_EVALUATE_NS if run.evaluate else 0)


def _choose_variants(spec: SweepSpec, variants: Sequence[VariantRecord]) -> list[VariantRecord]:
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
    device_class = device.facts.device_class if device.facts else ""
    return (
        (not selector.names or any(fnmatch.fnmatchcase(device.name, p) for p in selector.names))
        and (not selector.classes or device_class in selector.classes)
        and all(device.all_labels.get(key) == value for key, value in selector.labels.items())
    )


def _group_cells(
    spec: SweepSpec,
    sweep_id: str,
    device: DeviceRecord,
    scenario: Scenario,
    variants: Sequence[VariantRecord],
    dataset: DatasetRecord,
    canary: VariantRecord,
) -> tuple[list[CellRecord], list[Skipped]]:
    """The cells of one group, canaries last, and what cannot be measured there."""
    group = (
        f"{device.name}/{scenario.kind.value}/{scenario.mode.value}/{scenario.samples_per_query}"
    )
    cells: list[CellRecord] = []
    skipped: list[Skipped] = []
    for runtime in _runtimes(spec):
        absent = _why_absent(device, runtime)
        for variant in variants:
            if _is_excluded(spec, variant, runtime, device, scenario):
                continue
            reason = absent or _why_unrunnable(variant, runtime)
            if reason:
                skipped.append(Skipped(device.name, variant.name, runtime.name, reason))
                continue
            run = _template(spec, variant, runtime, scenario, dataset, device)
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


def _runtimes(spec: SweepSpec) -> list[RuntimeSpec]:
    return [
        RuntimeSpec(
            choice.name,
            choice.version,
            choice.provider,
            threads,
            choice.allow_spinning,
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


def _why_unrunnable(variant: VariantRecord, runtime: RuntimeSpec) -> str:
    media = RUNTIME_MEDIA[runtime.name]
    if media not in variant.files:
        return f"the variant has no {media.removeprefix('model/')} file"
    return ""


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
    dataset: DatasetRecord,
    device: DeviceRecord,
) -> RunSpec:
    file = variant.files[RUNTIME_MEDIA[runtime.name]]
    run = RunSpec(
        attempt_id="",
        cell_key="",
        variant_id=variant.variant_id,
        variant_name=variant.name,
        artifact=file.artifact,
        runtime=runtime,
        scenario=scenario,
        profile=spec.measuring,
        inputs=InputSpec(dataset.name, dataset.splits["test"], dataset.preprocessing_json),
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
    file = canary.files[RUNTIME_MEDIA[runtime.name]]
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


def cell_key(run: RunSpec, device_id: str) -> str:
    """The digest that names what is measured: everything of a run but when and in which order."""
    parts: Mapping[str, object] = {
        key: value
        for key, value in jsonable(run).items()
        if key not in {"attempt_id", "cell_key", "variant_name", "evaluate", "seed"}
    }
    return digest.of_json({**parts, "device": device_id})


def _by_group(cells: Iterable[CellRecord]) -> dict[str, list[CellRecord]]:
    groups: dict[str, list[CellRecord]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups


def _round(
    sweep: SweepRecord,
    group: str,
    index: int,
    members: Sequence[CellRecord],
    *,
    evaluate: bool = False,
    evaluate_only: Collection[str] = (),
) -> RoundRecord:
    rng = random.Random(f"{sweep.seed}/{group}/{index}")
    order = list(members)
    rng.shuffle(order)
    round_id = f"{sweep.sweep_id}-{digest.short(digest.of_bytes(group.encode()))[:6]}-{index}"
    runs = tuple(
        replace(
            cell.run,
            attempt_id=f"{round_id}-{position}",
            evaluate=not cell.run.canary and (evaluate or cell.cell_key in evaluate_only),
            seed=rng.randrange(2**32),
        )
        for position, cell in enumerate(order)
    )
    return RoundRecord(
        round_id=round_id,
        sweep_id=sweep.sweep_id,
        device_id=members[0].device_id,
        group=group,
        index=index,
        state=RoundState.QUEUED,
        fence=0,
        runs=runs,
    )


def _is_models_fault(record: ResultRecord) -> bool:
    failure = record.result.failure
    return failure is not None and failure.failure_class is FailureClass.MODEL
