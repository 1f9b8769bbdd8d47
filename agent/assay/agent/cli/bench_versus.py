"""``assay-agent bench A B``: two models, or one under two settings, in interleaved rounds."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from assay.core.errors import CheckFailed
from assay.core.listing import print_rows

if TYPE_CHECKING:
    from assay.agent.measuring.contest import Contest, RoundSeen, Run

_FIELDS = (
    "baseline",
    "candidate",
    "finding",
    "codes",
    "ratio",
    "low",
    "high",
    "confidence",
    "rounds",
    "held",
)
_WORDS: Mapping[str, tuple[str, str, float, str]] = {
    "p50": ("as long as", "p50", 1e3, "µs"),
    "p90": ("as long as", "p90", 1e3, "µs"),
    "p99": ("as long as", "p99", 1e3, "µs"),
    "energy": ("the energy of", "an inference, idle included", 1e-3, "mJ"),
    "peak_memory": ("the memory of", "peak of the process", 1e6, "MB"),
}
"""By statistic: how the ratio is said, of what, and in which unit a figure is shown."""


def versus(
    names: tuple[str, str],
    measure: Callable[[int, int], Run],
    *,
    same_runtime: bool,
    margin: float,
    max_rounds: int,
    seed: int,
    force: bool,
    statistic: str,
    output_format: str,
) -> None:
    """Holds the contest and prints it; :class:`CheckFailed` where it is inconclusive."""
    from assay.agent.measuring.contest import hold_contest
    from assay.core.comparing.compare import Finding, Rules, looks_for
    from assay.core.comparing.paired import Statistic

    compared = Statistic(statistic)
    rules = Rules(margin=margin)
    first = min(looks_for(rules)[0].rounds, max_rounds)
    begin = time.monotonic()

    def told(seen: RoundSeen) -> None:
        minutes = (time.monotonic() - begin) / 60
        click.echo(f"{_round_text(names, seen, statistic)} ({minutes:.1f} min)", err=True)

    click.echo(f"{first} to {max_rounds} rounds of both, in a drawn order", err=True)
    contest = hold_contest(
        measure,
        rules,
        max_rounds=max_rounds,
        seed=seed,
        same_runtime=same_runtime,
        force=force,
        statistic=compared,
        on_round=told,
    )
    said = sentence(names, contest, margin)
    _print(names, contest, said, output_format)
    if contest.comparison.finding is Finding.INCONCLUSIVE:
        raise CheckFailed(said)


def sentence(names: tuple[str, str], contest: Contest, margin: float) -> str:
    """What holds, in one sentence with the interval; never a winner that was not confirmed."""
    from assay.core.comparing.compare import Finding

    comparison = contest.comparison
    one, two = names
    if comparison.ratio is None:
        return (
            f"inconclusive ({', '.join(_codes(contest))}): no round held; {_faults(names, contest)}"
        )
    bounds = f"{_interval(contest)}, {comparison.look or comparison.rounds} rounds"
    statistic = comparison.statistic.value
    much, what, _, _ = _WORDS[statistic]
    takes = f"{two} takes {comparison.ratio:.3f} times {much} {one} ({what}; {bounds})"
    if comparison.finding is Finding.EQUIVALENT:
        return f"equivalent: {takes}, no difference beyond ± {100 * margin:g}%"
    if comparison.finding is Finding.INCONCLUSIVE:
        why = "; ".join(filter(None, (comparison.detail, _faults(names, contest))))
        return f"inconclusive ({', '.join(_codes(contest))}): {takes}; {why}"
    return f"{comparison.finding.value}: {takes}"


def _codes(contest: Contest) -> list[str]:
    """Why nothing may be said; what spoilt the runs first where that ended it, hard reasons before
    soft ones, the most frequent before others."""
    from assay.agent.measuring.reasons import BY_CODE

    codes = list(contest.comparison.codes)
    if contest.gave_up:
        counts: dict[str, int] = {}
        for side in contest.faults:
            for code, count in side.items():
                counts[code] = counts.get(code, 0) + count
        hard = {code for code in counts if code in BY_CODE and BY_CODE[code].hard}
        codes = sorted(counts, key=lambda c: (c not in hard, -counts[c], c))[:3] + codes
    return codes


def _interval(contest: Contest) -> str:
    comparison = contest.comparison
    if comparison.low is None or comparison.high is None:
        return "no interval"
    low, high = math.exp(comparison.low), math.exp(comparison.high)
    if comparison.confidence is None:
        return f"range {low:.3f} to {high:.3f}"
    return f"{100 * comparison.confidence:g} % interval {low:.3f} to {high:.3f}"


def _faults(names: tuple[str, str], contest: Contest) -> str:
    ran = len(contest.rounds)
    parts = []
    for side, name in enumerate(names):
        faults: Mapping[str, int] = contest.faults[side]
        if faults:
            listed = ", ".join(f"{code} ×{n}" for code, n in sorted(faults.items()))
            parts.append(f"{name} in {ran} rounds: {listed}")
    return "; ".join(parts)


def _round_text(names: tuple[str, str], seen: RoundSeen, statistic: str) -> str:
    _, _, divisor, unit = _WORDS[statistic]
    sides = []
    held = (seen.pair.baseline, seen.pair.candidate)
    for name, figure, kept in zip(names, seen.figures, held, strict=True):
        shown = "no number" if figure is None else f"{figure / divisor:.4g} {unit}"
        sides.append(f"{name} {shown}" + ("" if kept is not None else " (does not hold)"))
    return f"round {seen.number + 1}: " + ", ".join(sides)


def _print(names: tuple[str, str], contest: Contest, said: str, output_format: str) -> None:
    comparison = contest.comparison
    row: dict[str, Any] = {
        "baseline": names[0],
        "candidate": names[1],
        "finding": comparison.finding.value,
        "codes": _codes(contest),
        "ratio": comparison.ratio,
        "low": None if comparison.low is None else math.exp(comparison.low),
        "high": None if comparison.high is None else math.exp(comparison.high),
        "confidence": comparison.confidence,
        "rounds": len(contest.rounds),
        "held": comparison.rounds,
        "sentence": said,
        "faults": [dict(side) for side in contest.faults],
        "doubts": list(contest.doubts),
        "differs": list(contest.differs),
        "statistic": comparison.statistic.value,
        "figures": [list(seen.figures) for seen in contest.rounds],
    }
    if output_format == "json":
        json.dump(row, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif output_format == "csv":
        print_rows([row], _FIELDS, "csv")
    else:
        click.echo(said)
        for text in _asides(contest):
            click.echo(text)


def _asides(contest: Contest) -> list[str]:
    said = []
    if contest.differs:
        said.append(f"Compared although conditions differ: {'; '.join(contest.differs)}.")
    if "background_load" in contest.doubts and contest.comparison.rounds:
        said.append(
            "Other CPUs were busy beside both (background_load): this is the ratio under such load."
        )
    if "synthetic_input" in contest.doubts:
        said.append("Inputs were made up from the declared shapes (--inputs takes real ones).")
    if "outputs_unchecked" in contest.doubts:
        said.append("Outputs were compared with no reference (--golden, or labels in --inputs).")
    return said
