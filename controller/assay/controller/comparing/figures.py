"""One cell's results as figures: the middle run and how far restarts spread around it.

A figure over several runs is always one that a run really had: the nearest-rank median. Nothing is
averaged. Report, ``/metrics`` and the terminal take their numbers from here, so they agree.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb

from assay.controller.comparing.pairing import environment_differences
from assay.controller.records import ResultRecord
from assay.core.comparing.meters import meter_differences, meter_of
from assay.core.model import Absent, Energy, Quality, Result, VerdictKind

QUANTILES = {0.5: "p50_ns", 0.9: "p90_ns", 0.95: "p95_ns", 0.99: "p99_ns", 0.999: "p999_ns"}
MEMORY_PARTS = {
    "runtime_base": "runtime_base_bytes",
    "model_load": "model_load_bytes",
    "infer_peak": "infer_peak_bytes",
    "process_peak": "process_peak_bytes",
}
# Guards that say the outputs themselves are in doubt, and with them the accuracy.
_DOUBTS_OUTPUTS = frozenset(
    {"output_mismatch", "model_hash_mismatch", "worker_crashed", "worker_oom"}
)
_ALPHA = 0.05


class Spread(enum.Enum):
    """What the bounds of an :class:`Estimate` are."""

    SINGLE = "single run"
    RANGE = "range"
    INTERVAL = "95 % interval"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over ``restarts`` fresh processes; below six of them the bounds are the range."""

    value: float
    low: float
    high: float
    restarts: int
    spread: Spread

    def clear_of(self, other: Estimate) -> bool:
        """Whether all of this lies below all of ``other``."""
        return self.high < other.low


@dataclass(frozen=True, slots=True)
class EnergyFigure:
    """Joules per inference; ``u2_j`` is two standard uncertainties of the middle run.

    All were read as ``meter`` says, the newest run's; ``apart`` names how runs that are left out
    (or were forced in) were read otherwise.
    """

    total: Estimate
    dynamic: Estimate
    u2_j: float
    tier: str
    scope: str
    inconclusive: bool
    meter: Mapping[str, str] = field(default_factory=dict)
    apart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CellFigures:
    """What one cell's results say.

    ``counted`` are the VALID results of one environment, the newest; where there are none the
    figures come from what there is, ``counts`` is False and nothing may be ranked by them.
    ``elsewhere`` are VALID results of an older environment, or of a runtime that was another
    version though the same was asked for; they are left out, unless that was forced.
    """

    counts: bool
    counted: tuple[ResultRecord, ...]
    elsewhere: tuple[ResultRecord, ...]
    latency: Mapping[float, Estimate]
    memory: Mapping[str, Estimate]
    load_ns: Estimate | None
    first_inference_ns: Estimate | None
    energy: EnergyFigure | Absent
    quality: Quality | None

    @property
    def p50(self) -> Estimate | None:
        """The median latency in nanoseconds."""
        return self.latency.get(0.5)


def estimate(values: Iterable[float]) -> Estimate | None:
    """The nearest-rank median with the range (below six values) or the exact 95 % interval of the
    median between two order statistics (sign test; Hollander & Wolfe ch. 3.6)."""
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        return None
    middle = ordered[(n - 1) // 2]
    k = _sign_test_k(n)
    if n == 1:
        return Estimate(middle, middle, middle, 1, Spread.SINGLE)
    if k is None:
        return Estimate(middle, ordered[0], ordered[-1], n, Spread.RANGE)
    return Estimate(middle, ordered[k], ordered[n - 1 - k], n, Spread.INTERVAL)


def cell_figures(results: Sequence[ResultRecord], *, force: bool = False) -> CellFigures:
    """The figures of one cell's results, in any order; with ``force`` of those of every
    environment."""
    ordered = sorted(results, key=lambda r: r.recorded_ns)
    valid = [r for r in ordered if is_valid(r.result)]
    here = [r for r in valid if force or not environment_differences(r.result, valid[-1].result)]
    used = here or [r for r in ordered if r.result.latency is not None]
    runs = [r.result for r in used]
    return CellFigures(
        counts=bool(here),
        counted=tuple(here),
        elsewhere=tuple(r for r in valid if r not in here),
        latency=_latency(runs),
        memory=_memory(runs),
        load_ns=estimate(r.cold.load_ns for r in runs if r.cold),
        first_inference_ns=estimate(r.cold.first_inference_ns for r in runs if r.cold),
        energy=_energy(runs or [r.result for r in ordered], force=force),
        quality=_quality([r.result for r in ordered]),
    )


def is_valid(result: Result) -> bool:
    """Whether a result may rank: VALID, with a latency."""
    return result.verdict.kind is VerdictKind.VALID and result.latency is not None


def middle_run(records: Sequence[ResultRecord]) -> ResultRecord | None:
    """The run whose p50 is the one shown."""
    ordered = sorted(
        (r for r in records if r.result.latency is not None),
        key=lambda r: r.result.latency.p50_ns if r.result.latency else 0.0,
    )
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def _latency(runs: Sequence[Result]) -> dict[float, Estimate]:
    found: dict[float, Estimate] = {}
    for quantile, attribute in QUANTILES.items():
        values = [getattr(r.latency, attribute) for r in runs if r.latency is not None]
        # A run too short for this percentile leaves the whole figure out: the rest would not be
        # a fair half of the runs.
        whole = estimate(values) if None not in values else None
        if whole is not None:
            found[quantile] = whole
    return found


def _memory(runs: Sequence[Result]) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for part, attribute in MEMORY_PARTS.items():
        values = (getattr(r.memory, attribute) for r in runs if r.memory is not None)
        whole = estimate(value for value in values if value is not None)
        if whole is not None:
            found[part] = whole
    return found


def _energy(runs: Sequence[Result], *, force: bool) -> EnergyFigure | Absent:
    """Of ``runs``, oldest first."""
    meters = [meter for run in runs if (meter := meter_of(run))]
    newest = meters[-1] if meters else {}
    apart = [name for meter in meters for name in meter_differences(meter, newest)]
    alike = [r.energy for r in runs if force or meter_of(r) == newest]
    measured = sorted((e for e in alike if isinstance(e, Energy)), key=lambda e: e.total_j)
    total = estimate(e.total_j for e in measured)
    dynamic = estimate(e.dynamic_j for e in measured)
    if total is None or dynamic is None:
        reasons = [r.energy.reason for r in runs if isinstance(r.energy, Absent)]
        return Absent(reasons[-1] if reasons else "nothing was measured")
    middle = measured[(len(measured) - 1) // 2]
    return EnergyFigure(
        total,
        dynamic,
        2 * middle.total_u_j,
        middle.tier.value,
        middle.scope,
        any(e.inconclusive for e in measured),
        newest,
        tuple(dict.fromkeys(apart)),
    )


def _quality(runs: Sequence[Result]) -> Quality | None:
    """The newest accuracy whose outputs no guard doubts; how fast the run was does not matter."""
    for run in reversed(runs):
        doubted = any(reason.code in _DOUBTS_OUTPUTS for reason in run.verdict.reasons)
        if run.quality is not None and not doubted:
            return run.quality
    return None


def _sign_test_k(n: int) -> int | None:
    """The largest k with P(Binomial(n, ½) < k+1) ≤ α/2, as a 0-based order statistic."""
    below, found = 0, None
    for k in range(n // 2):
        below += comb(n, k)
        if below / 2**n > _ALPHA / 2:
            break
        found = k
    return found
