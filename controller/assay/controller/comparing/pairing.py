"""Results brought together by round, so that they can be compared."""

from __future__ import annotations

from collections.abc import Iterable

from assay.controller.records import ResultRecord
from assay.core.comparing.factors import undeclared_factors
from assay.core.comparing.meters import meter_of
from assay.core.comparing.paired import PairedRound, Statistic, differences, figure_of
from assay.core.model import Result, VerdictKind


def pair_rounds(
    baseline: Iterable[ResultRecord],
    candidate: Iterable[ResultRecord],
    canaries: Iterable[ResultRecord],
    statistic: Statistic = Statistic.P50,
) -> list[PairedRound]:
    """The rounds in which both took part, oldest first; of energies only those that were read as
    the newest was."""
    left, right = _by_round(baseline), _by_round(candidate)
    seen: dict[str, dict[str, float]] = {}
    for record in canaries:
        value = valid_statistic(record.result, statistic)
        if value is not None:
            seen.setdefault(record.result.round_id, {})[record.result.run.runtime.name] = value
    shared = sorted(left.keys() & right.keys(), key=lambda r: (left[r].recorded_ns, r))
    if statistic is Statistic.ENERGY:
        meters = {
            r: [m for one in (left[r], right[r]) if (m := meter_of(one.result))] for r in shared
        }
        newest = next((meters[r][-1] for r in reversed(shared) if meters[r]), {})
        shared = [r for r in shared if all(meter == newest for meter in meters[r])]
    return [
        PairedRound(
            valid_statistic(left[r].result, statistic),
            valid_statistic(right[r].result, statistic),
            seen.get(r, {}),
        )
        for r in shared
    ]


def environment_differences(left: Result, right: Result) -> list[str]:
    """The parts of the environment key that differ, and the factors that do although the same was
    asked; results are compared only where there are none."""
    one, two = left.run.runtime, right.run.runtime
    found = differences(left.environment, right.environment, same_runtime=one.name == two.name)
    return found + undeclared_factors(left.factors, right.factors, one, two)


def valid_statistic(result: Result, statistic: Statistic) -> float | None:
    """The figure of a VALID result; None where it is not VALID or has no such figure."""
    return figure_of(result, statistic) if result.verdict.kind is VerdictKind.VALID else None


def _by_round(records: Iterable[ResultRecord]) -> dict[str, ResultRecord]:
    """The newest result of each round; a round may hold one of an earlier grant as well."""
    ordered = sorted(records, key=lambda r: (r.recorded_ns, r.seq))
    return {record.result.round_id: record for record in ordered}
