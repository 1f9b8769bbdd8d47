"""Two sides measured in interleaved rounds on this device until the rounds decide.

In a round both run once, in a drawn order, each in a fresh process; what differs is judged as a
sweep is (:mod:`assay.core.comparing.compare`). There is no canary: what both sides of a round share
plays its part, since a device that drifts moves both.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from assay.core.comparing.compare import Comparison, Finding, Rules, compare, looks_for
from assay.core.comparing.meters import meter_differences, meter_of
from assay.core.comparing.paired import Figures, PairedRound, Statistic, differences, figure_of
from assay.core.errors import CheckFailed
from assay.core.model import Absent, Conditions, Verdict, VerdictKind

ABOUT_OUTPUTS = frozenset({"synthetic_input", "outputs_unchecked"})
"""Doubts about what was computed, not about how long it took: they bar a result from ranking in a
fleet, and are said beside a comparison made by hand."""
SHARED = frozenset({"background_load"})
"""Doubts that bar nothing where both sides of a round had them: a ratio formed under the same load
is one, and what the load does to it widens the interval. Said beside the comparison."""
TRIES = 4
"""A round that does not hold is run again, at most three times; then the device is not fit."""
COMMON = "both sides"


class Run(Figures, Protocol):
    """What was measured, as far as a contest looks at it."""

    @property
    def verdict(self) -> Verdict:
        """Whether it holds."""
        ...

    @property
    def conditions(self) -> Conditions | None:
        """What the board was like, with the run's notes."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """What must match."""
        ...

    @property
    def factors(self) -> Mapping[str, str]:
        """What may differ."""
        ...


@dataclass(frozen=True, slots=True)
class RoundSeen:
    """One round as it came out: both figures, whether or not they hold."""

    number: int
    pair: PairedRound
    figures: tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Contest:
    """What the rounds say. ``faults`` counts by side the reasons of what did not hold, ``doubts``
    are those that barred nothing, ``differs`` is what of the environments differs where that was
    forced."""

    comparison: Comparison
    rounds: tuple[RoundSeen, ...]
    faults: tuple[Mapping[str, int], Mapping[str, int]]
    doubts: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    gave_up: bool = False


@dataclass(slots=True)
class _Tally:
    rounds: list[RoundSeen] = field(default_factory=list)
    faults: tuple[Counter[str], Counter[str]] = field(
        default_factory=lambda: (Counter(), Counter())
    )
    doubts: set[str] = field(default_factory=set)
    differs: set[str] = field(default_factory=set)


def hold_contest(
    measure: Callable[[int, int], Run],
    rules: Rules,
    *,
    max_rounds: int,
    seed: int,
    same_runtime: bool,
    force: bool = False,
    statistic: Statistic = Statistic.P50,
    on_round: Callable[[RoundSeen], None] = lambda seen: None,
) -> Contest:
    """Measures ``measure(side, round)`` for the sides 0 and 1 until a look of ``rules`` decides,
    ``max_rounds`` held, or one round failed to hold four times in a row.

    Raises :class:`CheckFailed` where the sides were measured under unlike conditions, by name
    (``force`` compares all the same), and where a run that holds has no such figure, with why.
    """
    rng = random.Random(seed)
    looks = {look.rounds for look in looks_for(rules)}
    tally = _Tally()
    whole = failed = 0
    comparison = compare([], rules, statistic)
    while whole < max_rounds and failed < TRIES:
        order = rng.sample((0, 1), 2)
        number = len(tally.rounds)
        runs = {side: measure(side, number) for side in order}
        for side in order:
            _check_figure(runs[side], statistic)
        seen = _seen(number, runs[0], runs[1], statistic, tally)
        tally.rounds.append(seen)
        on_round(seen)
        held = seen.pair.baseline is not None and seen.pair.candidate is not None
        if held:
            found = _unlike(runs[0], runs[1], statistic, same_runtime=same_runtime)
            if found and not force:
                told = "; ".join(found)
                raise CheckFailed(f"not compared, unlike conditions: {told} (--force does)")
            tally.differs |= set(found)
        whole, failed = whole + held, 0 if held else failed + 1
        comparison = compare([one.pair for one in tally.rounds], rules, statistic)
        decided = comparison.finding in (Finding.CONFIRMED, Finding.EQUIVALENT)
        if held and whole in looks and decided:
            break
    return Contest(
        comparison,
        tuple(tally.rounds),
        tally.faults,
        tuple(sorted(tally.doubts)),
        tuple(sorted(tally.differs)),
        gave_up=failed >= TRIES,
    )


def holds(verdict: Verdict, other: Verdict) -> bool:
    """Whether a latency may be compared by hand with that of the round's other side: VALID, but
    for doubts about outputs and those that both share."""
    return verdict.kind is not VerdictKind.INVALID and not (
        _codes(verdict) - ABOUT_OUTPUTS - (SHARED & _codes(other))
    )


def _codes(verdict: Verdict) -> frozenset[str]:
    return frozenset(reason.code for reason in verdict.reasons)


def _check_figure(run: Run, statistic: Statistic) -> None:
    """Raises :class:`CheckFailed` where another try would not have the figure either."""
    if run.verdict.kind is VerdictKind.INVALID or figure_of(run, statistic) is not None:
        return
    if statistic is Statistic.ENERGY:
        if not isinstance(run.energy, Absent):
            return  # too uncertain this time, which the verdict says
        why = run.energy.reason
    elif statistic is Statistic.PEAK_MEMORY:
        why = "the peak could not be read"
    else:
        why = "too few samples for it; a longer profile has more"
    raise CheckFailed(f"nothing to compare: no {statistic.value} here ({why})")


def _seen(
    number: int, baseline: Run, candidate: Run, statistic: Statistic, tally: _Tally
) -> RoundSeen:
    values: list[float | None] = []
    both = SHARED & _codes(baseline.verdict) & _codes(candidate.verdict)
    for side, (run, other) in enumerate(((baseline, candidate), (candidate, baseline))):
        codes = _codes(run.verdict)
        tally.doubts |= codes & (ABOUT_OUTPUTS | both)
        tally.faults[side].update(codes - ABOUT_OUTPUTS - both)
        kept = holds(run.verdict, other.verdict)
        values.append(figure_of(run, statistic) if kept else None)
    left, right = values
    common = {COMMON: math.sqrt(left * right)} if left and right else {}
    figures = figure_of(baseline, statistic), figure_of(candidate, statistic)
    return RoundSeen(number, PairedRound(left, right, common), figures)


def _unlike(left: Run, right: Run, statistic: Statistic, *, same_runtime: bool) -> list[str]:
    """What differs between the sides of a round and was asked for by nobody, by name."""
    found = differences(left.environment, right.environment, same_runtime=same_runtime)
    versions = [run.factors.get("runtime", "") for run in (left, right)]
    if same_runtime and versions[0] != versions[1]:
        found.append(f"runtime: {', '.join(versions)}")
    if statistic is Statistic.ENERGY:
        found += meter_differences(meter_of(left), meter_of(right))
    return found
