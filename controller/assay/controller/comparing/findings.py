"""What a sweep says, in plain sentences; never more than its results hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from assay.controller.comparing.energy_findings import energies_apart, least_energy
from assay.controller.comparing.figures import Estimate, Spread
from assay.controller.comparing.integer_findings import slower_integers
from assay.controller.comparing.numbers import (
    duration,
    grouped,
    percent,
    ratio,
    signed,
    size,
)
from assay.controller.comparing.pareto import Standing, standings
from assay.controller.comparing.reasons import reason
from assay.controller.comparing.rows import Row, RowStatus, Section, Summary
from assay.controller.comparing.wording import Sentence, listed, row_name
from assay.core.comparing.compare import MIN_RESTARTS, Finding
from assay.core.model import Quality

_ACCURACY_LOSS = 0.01  # the non-inferiority margin: one percentage point
_SHOWN_REASONS = 4


def sentences(summary: Summary) -> list[Sentence]:
    """What the sweep says, section by section, then what limits it."""
    said: list[Sentence] = []
    several = len(summary.sections) > 1
    for section in summary.sections:
        where = f"{section.device}, {section.scenario}" if several else ""
        said += [_placed(s, where) for s in _section_sentences(section)]
    return [*said, *_limits(summary)]


def validity_sentence(summary: Summary) -> Sentence:
    """How many results hold, why the others do not, and what would cure it."""
    bad = summary.total - summary.valid
    if summary.total == 0:
        return Sentence("No result yet", "the sweep has measured nothing so far.", True)
    if bad == 0:
        return Sentence("Validity", f"all {summary.total} results are VALID.")
    shown = summary.reasons[:_SHOWN_REASONS]
    because = "; ".join(f"{reason(r.code).meaning} ({r.code}, {r.count}×)" for r in shown)
    more = len(summary.reasons) - len(shown)
    cures = list(dict.fromkeys(reason(r.code).cure for r in shown))
    return Sentence(
        "Validity",
        f"{bad} of {summary.total} results are not VALID because {because}"
        + (f"; and {more} more reasons" if more else "")
        + f". What would cure it: {'; '.join(cures)}.",
        True,
    )


def estimate_text(figure: Estimate, unit: Callable[[float], str] = duration) -> str:
    """``1.24 ms [1.21 ms to 1.30 ms, range of 3 restarts]``."""
    if figure.spread is Spread.SINGLE:
        return f"{unit(figure.value)} (one run)"
    what = "range of" if figure.spread is Spread.RANGE else "95 % interval from"
    bounds = f"{unit(figure.low)} to {unit(figure.high)}"
    return f"{unit(figure.value)} [{bounds}, {what} {figure.restarts} restarts]"


def accuracy_text(quality: Quality) -> str:
    """Top-1 accuracy with the digits its samples give."""
    return percent(quality.top1, quality.n)


def _placed(sentence: Sentence, where: str) -> Sentence:
    if not where:
        return sentence
    return Sentence(f"{sentence.lead} ({where})", sentence.text, sentence.caution)


def _section_sentences(section: Section) -> list[Sentence]:
    ranked = [row for row in section.rows if row.counts]
    found: list[Sentence | None] = []
    if section.differs and section.forced:
        found.append(
            Sentence(
                "Compared although conditions differ",
                f"what is said here may be the conditions' doing: {'; '.join(section.differs)}.",
                True,
            )
        )
    elif section.differs:
        found.append(
            Sentence(
                "Measured apart",
                "these results were taken under other conditions than the rest and are ranked "
                f"among themselves: {'; '.join(section.differs)}.",
                True,
            )
        )
    if not ranked:
        found.append(Sentence("No ranking", "no cell here has a VALID result.", True))
    else:
        found += [
            _reference_sentence(section),
            _fastest(section, ranked),
            _best_trade(section, ranked),
            _pareto(ranked),
            _smallest(ranked),
            _most_accurate(ranked),
            least_energy(ranked, forced=section.forced),
            slower_integers(ranked),
        ]
    return [sentence for sentence in found if sentence is not None]


def _reference_sentence(section: Section) -> Sentence | None:
    if section.reference is None:
        return Sentence(
            "No baseline",
            "the baseline has no VALID result here, so there are no ratios to it.",
            True,
        )
    return None


def _fastest(section: Section, ranked: Sequence[Row]) -> Sentence | None:
    first = min(ranked, key=lambda r: r.figures.p50.value if r.figures.p50 else math.inf)
    figure = first.figures.p50
    if figure is None:
        return None
    ties = [row_name(r) for r in ranked if r.rank == first.rank and r is not first]
    text = f"{row_name(first)}, p50 {estimate_text(figure)}"
    reference = section.reference
    if reference is not None and first is not reference and first.latency_ratio is not None:
        text += f", {ratio(first.latency_ratio)} the baseline’s"
        text += _confidence(first)
    if ties:
        text += f"; not told apart from {listed(ties)}, whose spreads overlap"
    elif figure.restarts < MIN_RESTARTS:
        text += "; no other range overlaps, but so few restarts confirm no winner"
    return Sentence("Fastest", text + ".")


def _confidence(row: Row) -> str:
    comparison = row.comparison
    if comparison is None or comparison.look is None:
        return ""
    if comparison.finding in (Finding.CONFIRMED, Finding.LIKELY, Finding.EQUIVALENT):
        return f" ({comparison.finding.value} over {comparison.look} paired rounds)"
    return f" (inconclusive: {', '.join(comparison.codes)})"


def _best_trade(section: Section, ranked: Sequence[Row]) -> Sentence | None:
    """The fastest of those that lose no more accuracy than the margin."""
    reference = section.reference
    if reference is None or reference.figures.quality is None:
        return None
    bar = reference.figures.quality.top1 - _ACCURACY_LOSS
    fine = [
        r
        for r in ranked
        if r.figures.quality is not None and r.figures.quality.top1 >= bar and r.figures.p50
    ]
    best = min(fine, key=lambda r: r.figures.p50.value if r.figures.p50 else math.inf, default=None)
    if best is None or best.figures.quality is None or best.latency_ratio is None:
        return None
    if best is reference:
        return Sentence(
            "Best trade",
            "no variant within one point of the baseline’s accuracy has a lower p50 than it.",
        )
    change = 100 * (best.figures.quality.top1 - reference.figures.quality.top1)
    return Sentence(
        "Best trade",
        f"of those within one point of the baseline’s accuracy, {row_name(best)} has the lowest "
        f"p50: {ratio(best.latency_ratio)} the baseline’s at {accuracy_text(best.figures.quality)} "
        f"({signed(change, 2)} points) and {size(best.size_bytes)}.",
    )


def _pareto(ranked: Sequence[Row]) -> Sentence | None:
    """What nothing beats in both latency and accuracy, as far as noise lets one say so."""
    standing = standings(ranked)
    if len(standing) < 2:
        return None
    by_pace = sorted(ranked, key=lambda r: r.figures.p50.value if r.figures.p50 else math.inf)
    front, near = (
        [row_name(r) for r in by_pace if standing.get(r.cell.cell_key) is kind]
        for kind in (Standing.FRONT, Standing.WITHIN_NOISE)
    )
    said = []
    if front:
        said.append(f"{listed(front)}: no other is both faster and more accurate")
    if near:
        lead = "within the noise of it" if front else "not told apart by noise"
        said.append(f"{lead}: {listed(near)}")
    return Sentence("Pareto front", "; ".join(said) + ".")


def _smallest(ranked: Sequence[Row]) -> Sentence:
    least = min(r.size_bytes for r in ranked)
    names = [f"{r.variant} ({r.format})" for r in ranked if r.size_bytes == least]
    row = next(r for r in ranked if r.size_bytes == least)
    text = f"{listed(list(dict.fromkeys(names)))}, {size(least)}"
    if row.size_ratio is not None:
        text += f", {ratio(row.size_ratio)} the baseline’s"
    return Sentence("Smallest file", text + ".")


def _most_accurate(ranked: Sequence[Row]) -> Sentence | None:
    rated = [(r, r.figures.quality) for r in ranked if r.figures.quality is not None]
    if not rated:
        return None
    best = max(quality.top1 for _, quality in rated if quality)
    names = [row_name(r) for r, quality in rated if quality and quality.top1 == best]
    quality = rated[0][1]
    n = quality.n if quality else 0
    error = math.sqrt(best * (1 - best) / n) if n else 0.0
    return Sentence(
        "Most accurate",
        f"{listed(names)}, {percent(best, n)} of {grouped(n)} samples "
        f"(standard error {100 * error:.2f} points).",
    )


def _limits(summary: Summary) -> list[Sentence]:
    said = [validity_sentence(summary)]
    several = len(summary.sections) > 1
    names = [
        row_name(row) + (f" on {section.device}" if several else "") + f" ({row.status.value})"
        for section in summary.sections
        for row in section.rows
        if not row.counts and row.status is not RowStatus.PENDING
    ]
    if names:
        said.append(Sentence("Left out of the ranking", f"{listed(names)}.", True))
    pending = sum(row.status is RowStatus.PENDING for row in summary.rows)
    if pending:
        said.append(Sentence("Still to measure", f"{pending} cells have no result yet.", True))
    said += energies_apart(summary)
    restarts = [r.figures.p50.restarts for r in summary.rows if r.counts and r.figures.p50]
    if restarts and min(restarts) < MIN_RESTARTS:
        said.append(
            Sentence(
                "Few restarts",
                f"some cells have only {min(restarts)} VALID; below {MIN_RESTARTS} there is a "
                "range but no 95 % interval, and below 10 rounds no decision is taken.",
                True,
            )
        )
    return said
