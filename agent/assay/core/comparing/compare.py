"""Whether one variant differs from another: paired by round, exact, and slow to say so.

Method (docs/measurement.md): in every round both sides ran once on one device in a drawn order, so
d_r = ln stat_B - ln stat_A holds what differs and little of what drifts. The effect is the
Hodges–Lehmann estimate, its interval the exact signed-rank one. Decisions fall only at looks of 10,
20 and 40 rounds, whose error rates add up to 5 %; with c comparisons made each look's is divided by
c. Everything here is pure.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assay.core.comparing.paired import PairedRound, Statistic, canary_shift
from assay.core.comparing.signed_rank import hodges_lehmann, interval

MIN_RESTARTS = 6  # below, no 95 % interval exists: 2 * 2**-5 > 0.05
ASYMMETRY_ALPHA = 0.10  # docs/decisions/asymmetric-validity.md
_DESCRIPTIVE_ALPHA = 0.05


class Finding(enum.Enum):
    """What may be said. Only CONFIRMED has a winner."""

    CONFIRMED = "confirmed"
    LIKELY = "likely"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Look:
    """A number of rounds at which a decision may fall, and the error rate it may spend."""

    rounds: int
    alpha: float


LOOKS = (Look(10, 0.01), Look(20, 0.015), Look(40, 0.025))


@dataclass(frozen=True, slots=True)
class Rules:
    """``margin`` is δ: what is too small to matter, as a ratio; ``comparisons`` is c."""

    margin: float = 0.01
    comparisons: int = 1
    looks: tuple[Look, ...] = LOOKS


@dataclass(frozen=True, slots=True)
class InvalidRates:
    """Results that are not VALID on either side, out of ``rounds`` both took part in; ``both``
    counts the rounds in which neither side's was."""

    baseline: int
    candidate: int
    rounds: int
    both: int = 0

    @property
    def probability(self) -> float:
        """How often chance alone would split the rounds that spoilt one side only at least as
        unevenly: McNemar's exact test, two-sided."""
        baseline_only, candidate_only = self.baseline - self.both, self.candidate - self.both
        n, least = baseline_only + candidate_only, min(baseline_only, candidate_only)
        tail = sum(math.comb(n, k) for k in range(least + 1))
        return min(1.0, 2 * tail * 0.5**n)

    @property
    def asymmetric(self) -> bool:
        """Whether one side is not VALID more often than chance explains."""
        return self.probability <= ASYMMETRY_ALPHA


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the rounds say of the candidate against the baseline, in natural logarithms.

    ``low`` and ``high`` are the bounds at ``confidence``, or the plain range of the rounds where
    ``confidence`` is None. ``look`` is the number of rounds decided on; None before the first look.
    ``codes`` say why an INCONCLUSIVE one is.
    """

    statistic: Statistic
    finding: Finding
    codes: tuple[str, ...]
    effect: float | None
    low: float | None
    high: float | None
    confidence: float | None
    rounds: int
    look: int | None
    canary_shift: float | None
    invalid: InvalidRates
    detail: str = ""

    @property
    def ratio(self) -> float | None:
        """Candidate over baseline."""
        return None if self.effect is None else math.exp(self.effect)

    @property
    def candidate_wins(self) -> bool:
        """Whether the candidate is confirmed to need less."""
        return self.finding is Finding.CONFIRMED and self.effect is not None and self.effect < 0


def looks_for(rules: Rules) -> tuple[Look, ...]:
    """The looks at α_look/c; none earlier than c comparisons allow (R ≥ ⌈1 + log2(c/α)⌉).

    A look pushed up to the next one's rounds falls away: its share of the error is not spent.
    """
    count = max(1, rules.comparisons)
    moved = [
        Look(max(look.rounds, math.ceil(1 + math.log2(count / look.alpha))), look.alpha / count)
        for look in rules.looks
    ]
    later = [look.rounds for look in moved[1:]] + [math.inf]
    return tuple(look for look, bound in zip(moved, later, strict=True) if look.rounds < bound)


def compare(
    rounds: Sequence[PairedRound], rules: Rules, statistic: Statistic = Statistic.P50
) -> Comparison:
    """Judges rounds given in the order they were run.

    The first look that gives ``confirmed`` or ``equivalent`` is the last: rounds beyond it, or
    between two looks, do not change what was found.
    """
    whole = [r for r in rounds if r.baseline is not None and r.candidate is not None]
    invalid = _invalid_rates(rounds)
    verdict = _before_first_look(whole, invalid, rules, statistic)
    for look in looks_for(rules):
        if len(whole) < look.rounds:
            break
        verdict = _at_look(whole[: look.rounds], look, invalid, rules, statistic)
        if verdict.finding in (Finding.CONFIRMED, Finding.EQUIVALENT):
            break
    return replace(verdict, rounds=len(whole))


def _differences(whole: Sequence[PairedRound]) -> list[float]:
    return [
        math.log(r.candidate) - math.log(r.baseline)
        for r in whole
        if r.baseline is not None and r.candidate is not None
    ]


def _before_first_look(
    whole: Sequence[PairedRound], invalid: InvalidRates, rules: Rules, statistic: Statistic
) -> Comparison:
    first = looks_for(rules)[0].rounds
    code = "too_few_rounds"
    detail = f"{len(whole)} of the {first} rounds a first decision needs"
    values = _differences(whole)
    if not values:
        empty = (None, None, None, None)
        return Comparison(
            statistic, Finding.INCONCLUSIVE, (code,), *empty, 0, None, None, invalid, detail
        )
    low, high, confidence = min(values), max(values), None
    alpha = _DESCRIPTIVE_ALPHA / max(1, rules.comparisons)
    bounds = interval(values, alpha) if len(values) >= MIN_RESTARTS else None
    if bounds is not None:
        (low, high), confidence = bounds, 1 - alpha
    return Comparison(
        statistic=statistic,
        finding=Finding.INCONCLUSIVE,
        codes=(code,),
        effect=hodges_lehmann(values),
        low=low,
        high=high,
        confidence=confidence,
        rounds=len(values),
        look=None,
        canary_shift=_largest_shift(whole),
        invalid=invalid,
        detail=detail,
    )


def _at_look(
    whole: Sequence[PairedRound],
    look: Look,
    invalid: InvalidRates,
    rules: Rules,
    statistic: Statistic,
) -> Comparison:
    values = _differences(whole)
    bounds = interval(values, look.alpha)
    assert bounds is not None, "looks_for() leaves only looks with enough rounds"
    shift = _largest_shift(whole)
    margin = math.log1p(rules.margin)
    effect = hodges_lehmann(values)
    finding = _finding(effect, bounds, margin)
    codes, details = _objections(shift, margin, invalid)
    if codes:
        finding = Finding.INCONCLUSIVE
    elif finding is Finding.INCONCLUSIVE:
        codes = ["wide_interval"]
        details = ["the interval neither leaves nor stays within the margin"]
    return Comparison(
        statistic=statistic,
        finding=finding,
        codes=tuple(codes),
        effect=effect,
        low=bounds[0],
        high=bounds[1],
        confidence=1 - look.alpha,
        rounds=len(values),
        look=look.rounds,
        canary_shift=shift,
        invalid=invalid,
        detail="; ".join(details),
    )


def _finding(effect: float, bounds: tuple[float, float], margin: float) -> Finding:
    low, high = bounds
    if low > margin or high < -margin:
        return Finding.CONFIRMED
    if -margin < low and high < margin:
        return Finding.EQUIVALENT
    if (low > 0 or high < 0) and abs(effect) > margin:
        return Finding.LIKELY
    return Finding.INCONCLUSIVE


def _objections(
    shift: float | None, margin: float, invalid: InvalidRates
) -> tuple[list[str], list[str]]:
    codes, details = [], []
    if invalid.asymmetric:
        codes.append("asymmetric_validity")
        details.append(
            f"not VALID: baseline {invalid.baseline} of {invalid.rounds}, "
            f"candidate {invalid.candidate} of {invalid.rounds} (exact p {invalid.probability:.3f})"
        )
    if shift is not None and abs(shift) > margin:
        codes.append("device_drift")
        details.append(f"the canary moved by {math.expm1(shift):+.1%} between the halves")
    return codes, details


def _largest_shift(whole: Sequence[PairedRound]) -> float | None:
    runtimes = {name for r in whole for name in r.canaries}
    series = ([r.canaries[name] for r in whole if name in r.canaries] for name in runtimes)
    shifts = [shift for shift in map(canary_shift, series) if shift is not None]
    return max(shifts, key=abs, default=None)


def _invalid_rates(rounds: Sequence[PairedRound]) -> InvalidRates:
    return InvalidRates(
        sum(r.baseline is None for r in rounds),
        sum(r.candidate is None for r in rounds),
        len(rounds),
        sum(r.baseline is None and r.candidate is None for r in rounds),
    )
