"""Results brought together by round, so that they can be compared."""

from __future__ import annotations

from collections.abc import Iterable

from assay.controller.records import ResultRecord
from assay.core.comparing.factors import undeclared_factors
from assay.core.comparing.meters import meter_of
from assay.core.comparing.paired import PairedRound, Statistic, differences, figure_of
from assay.core.model import Result, VerdictKind

_Grant = tuple[str, int]
"""A round and the fence of its grant."""


def pair_rounds(
    baseline: Iterable[ResultRecord],
    candidate: Iterable[ResultRecord],
    canaries: Iterable[ResultRecord],
    statistic: Statistic = Statistic.P50,
) -> list[PairedRound]:
    """The rounds in which both took part, oldest first; of energies only those that were read as
    the newest was. Of a round that was granted more than once the newest grant that both have a
    result of: results of two grants were not taken side by side."""
    left, right = _by_grant(baseline), _by_grant(candidate)
    seen: dict[_Grant, dict[str, float]] = {}
    for record in canaries:
        value = valid_statistic(record.result, statistic)
        if value is not None:
            seen.setdefault(_grant(record), {})[record.result.run.runtime.name] = value
    newest = dict(sorted(left.keys() & right.keys()))
    shared = sorted(newest.items(), key=lambda grant: (left[grant].recorded_ns, grant))
    if statistic is Statistic.ENERGY:
        meters = {
            grant: [m for one in (left[grant], right[grant]) if (m := meter_of(one.result))]
            for grant in shared
        }
        last = next((meters[grant][-1] for grant in reversed(shared) if meters[grant]), {})
        shared = [grant for grant in shared if all(meter == last for meter in meters[grant])]
    return [
        PairedRound(
            valid_statistic(left[grant].result, statistic),
            valid_statistic(right[grant].result, statistic),
            seen.get(grant, {}),
        )
        for grant in shared
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


def _by_grant(records: Iterable[ResultRecord]) -> dict[_Grant, ResultRecord]:
    """The newest result of each grant of a round."""
    ordered = sorted(records, key=lambda r: (r.recorded_ns, r.seq))
    return {_grant(record): record for record in ordered}


def _grant(record: ResultRecord) -> _Grant:
    return record.result.round_id, record.result.fence
