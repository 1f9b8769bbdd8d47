"""From a sweep file to cells and rounds: pure, so that a plan can be shown before it is run.

A *group* is what shares a device and a scenario; all its cells, plus one canary per runtime, run
once in every round, in an order drawn from the sweep's seed. Later rounds (:func:`more_rounds`)
hold only what still lacks VALID results, together with the baseline and the canaries, so that every
comparison stays within a round (docs/decisions/rounds.md).
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.controller.planning.cells import Skipped, make_cells
from assay.controller.planning.spec import Limits, SweepSpec
from assay.controller.records import (
    CellRecord,
    DatasetRecord,
    DeviceRecord,
    ResultRecord,
    RoundRecord,
    RoundState,
    SweepRecord,
    SweepState,
    VariantRecord,
)
from assay.core import digest
from assay.core.model import (
    FailureClass,
    Profile,
    Result,
    RunSpec,
    VerdictKind,
)

_PROCESS_NS = 2_500_000_000  # start, load, floors and end of one run, as seen on x86
_EVALUATE_NS = 5_000_000_000  # accuracy over a test set of thousands of samples

POISON_DEVICES = 3
"""A variant whose runs failed for no reason of its own on so many devices is not retried."""
# Of `[devices]`, since a later version.
_LATER = ("capabilities", "memory_bytes")
_STEADY_BLOCKS = 5
_LABELS = frozenset({"synthetic_input", "outputs_nonfinite"})


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
    dataset: DatasetRecord | None,
    variants: Sequence[VariantRecord],
    devices: Sequence[DeviceRecord],
    canary: VariantRecord,
    datasets: Sequence[DatasetRecord] = (),
) -> Plan:
    """Multiplies the file out over what is there; :class:`SpecError` where nothing would be left.

    ``variants``, ``devices`` and ``datasets`` are everything the store holds; the file selects
    among them, and may leave each variant to its own dataset.
    """
    cells, skipped = make_cells(
        spec,
        sweep_id=sweep_id,
        dataset=dataset,
        variants=variants,
        devices=devices,
        canary=canary,
        datasets={one.name: one for one in datasets},
    )
    sweep = SweepRecord(
        sweep_id=sweep_id,
        name=spec.name,
        spec_json=json.dumps(_normalised(spec), sort_keys=True),
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

    Empty when nothing is lacking. Cells that failed because of the model itself, or ran under an
    emulator, are not tried again: they would end the same. Nor are those whose results are only
    labelled (:func:`holds`), nor variants that are :func:`poison`.
    """
    valid = Counter(r.result.run.cell_key for r in results if holds(r.result))
    evaluated = {r.result.run.cell_key for r in results if r.result.quality is not None}
    hopeless = {r.result.run.cell_key for r in results if _is_hopeless(r.result)}
    poisonous = poison(results)
    hopeless |= {c.cell_key for c in cells if c.run.variant_id in poisonous}
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


def poison(results: Iterable[ResultRecord]) -> frozenset[str]:
    """Variants that brought down what ran them on :data:`POISON_DEVICES` devices and ran to the end
    on none: it is not the devices."""
    failed: dict[str, set[str]] = {}
    sound: set[str] = set()
    for result in (record.result for record in results):
        if result.failure is None:
            sound.add(result.run.variant_id)
        elif result.failure.failure_class is FailureClass.INFRA:
            devices = failed.setdefault(result.run.variant_id, set())
            devices.add(result.provenance.device_name)
    return frozenset(v for v, on in failed.items() if len(on) >= POISON_DEVICES) - sound


def holds(result: Result) -> bool:
    """Whether a result is as good as its cell's can be: VALID, or SUSPECT for nothing but what the
    inputs are, which another run would not change."""
    kind, reasons = result.verdict.kind, result.verdict.reasons
    labelled = bool(reasons) and all(one.code in _LABELS for one in reasons)
    return kind is VerdictKind.VALID or (kind is VerdictKind.SUSPECT and labelled)


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


def lease_ns(runs: Iterable[RunSpec], fetch_ns: int = 0, start_ns: int = 0) -> int:
    """The time box of a round: all files fetched and the first run begun as late as may be, every
    run at its longest, and room to report."""
    longest = sum(
        run.profile.settle_max_ns
        + run.profile.warmup_max_ns
        + run.profile.t_max_ns
        + 4 * (_PROCESS_NS + _EVALUATE_NS)
        for run in runs
    )
    return longest + fetch_ns + start_ns + 120_000_000_000


def _run_ns(run: RunSpec) -> int:
    profile: Profile = run.profile
    warmup = profile.warmup_min_ns + _STEADY_BLOCKS * profile.warmup_block_ns
    return warmup + profile.t_min_ns + _PROCESS_NS + (_EVALUATE_NS if run.evaluate else 0)


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
    round_id = f"{sweep.sweep_id}-{digest.short(digest.of_bytes(group.encode()))}-{index}"
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
        since_ns=sweep.created_ns,
    )


def _normalised(spec: SweepSpec) -> dict[str, object]:
    """The file as it is compared with another: what stands in it only since a later version is not
    there where nobody set it."""
    told: dict[str, Any] = spec.model_dump(mode="json")
    told["devices"] = {
        key: value for key, value in told["devices"].items() if value or key not in _LATER
    }
    unset = {"dims": not spec.dims, "limits": spec.limits == Limits()}
    return {key: value for key, value in told.items() if not unset.get(key, False)}


def _is_hopeless(result: Result) -> bool:
    failure = result.failure
    models_fault = failure is not None and failure.failure_class is FailureClass.MODEL
    return models_fault or any(one.code == "emulated" for one in result.verdict.reasons)
