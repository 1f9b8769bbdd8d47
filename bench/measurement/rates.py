"""How often is a comparison wrong, and how often does it see what is there?

From a pool of real runs:

    python bench/measurement/rates.py FILE.json [--comparisons 2000]

FILE is pool.py's. Neighbouring runs are a round; which of the two is A is drawn anew for every
comparison. Comparisons begin at places spread evenly over the pool and take the rounds from there
on, in their order, until 40 hold (what does not hold is run again, so it costs a round and none of
the 40), and are judged as every comparison is, at 10, 20 and 40. All runs are of one model, so what
is found between A and B is false. Then B is made 3 % slower, and then everything slows down by 8 %
over the rounds instead, as a board that heats up does. A run counts as it does in `bench A B`.

Comparisons from one pool resemble each other, so each rate has a 95 % interval by a bootstrap over
blocks of places. A target for what is false fails only if the interval lies above it, one for what
is to be seen only if it lies below. Exit code 1 where one does. A minute; no measuring.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, quantiles, stdev
from typing import Any

from assay.agent.measuring.contest import SHARED
from assay.core.comparing.compare import LOOKS, Finding, Rules, compare
from assay.core.comparing.paired import PairedRound

ROUNDS = LOOKS[-1].rounds
RESAMPLES = 2000
MAX_SD = 0.015


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to the pool, and the shares of findings it is held to: at most, or at least."""

    name: str
    slower: float = 0.0
    ramp: float = 0.0
    at_most: Mapping[Finding, float] | None = None
    at_least: Mapping[Finding, float] | None = None


CASES = (
    Case("A/A", at_most={Finding.LIKELY: 0.06, Finding.CONFIRMED: 0.01}),
    Case("B 3 % slower", slower=0.03, at_least={Finding.CONFIRMED: 0.95}),
    Case("A/A, 8 % ramp", ramp=0.08, at_most={Finding.LIKELY: 0.08}),
)
Pair = tuple[float, float] | None


def main() -> int:
    """Prints the rates; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = json.loads(arguments.file.read_text())["runs"]
    pairs = [_pair(a, b) for a, b in zip(runs[::2], runs[1::2], strict=False)]
    held = sum(pair is not None for pair in pairs)
    if held < ROUNDS:
        raise SystemExit(f"{held} of {len(pairs)} rounds hold; a comparison takes up to {ROUNDS}")
    rng = random.Random(arguments.seed)
    missed = _print_spread(runs, pairs)
    print("| pool | finding | share (95 % interval) | target | mean rounds |")
    print("|---|---|---|---|---|")
    for case in CASES:
        missed += _print_case(case, pairs, arguments.comparisons, rng)
    return 1 if missed else 0


def _pair(one: dict[str, Any], other: dict[str, Any]) -> Pair:
    """Both, where both hold: nothing speaks against either but what may be shared and is."""
    codes = {*one["codes"]}, {*other["codes"]}
    if not codes[0] == codes[1] <= SHARED or None in (one["p50_ns"], other["p50_ns"]):
        return None
    return one["p50_ns"], other["p50_ns"]


def _print_spread(runs: Sequence[dict[str, Any]], pairs: Sequence[Pair]) -> int:
    logs = [math.log(value) for pair in pairs if pair is not None for value in pair]
    levels = ", ".join(sorted({row["isolation"] for row in runs}))
    held = sum(pair is not None for pair in pairs)
    sd = stdev(logs)
    word = "≤ 1.5 %" if sd <= MAX_SD else "≤ 1.5 % MISSED"
    print(f"{len(runs)} runs ({levels}), {held} of {len(pairs)} rounds hold; "
          f"SD of ln p50 from run to run {sd:.2%} (target {word})\n")  # fmt: skip
    return int(sd > MAX_SD)


def _print_case(case: Case, pairs: Sequence[Pair], count: int, rng: random.Random) -> int:
    windows = _windows(pairs)
    places = len(windows)
    found: list[list[Finding]] = [[] for _ in range(places)]
    rounds: list[int] = []
    for number in range(count):
        place = number * places // count
        comparison = compare(_drawn(case, windows[place], rng), Rules())
        found[place].append(comparison.finding)
        rounds.append(comparison.look or ROUNDS)
    missed = 0
    for finding in (Finding.LIKELY, Finding.CONFIRMED, Finding.EQUIVALENT):
        share, low, high = _share(found, finding, rng)
        word, bad = _target(case, finding, low, high)
        missed += bad
        print(f"| {case.name} | {finding.value} | {share:.1%} ({low:.1%}–{high:.1%}) | {word} | "
              f"{fmean(rounds):.1f} |")  # fmt: skip
    return missed


def _windows(pairs: Sequence[Pair]) -> list[Sequence[Pair]]:
    """From each place on, as many rounds as it takes until 40 hold."""
    windows: list[Sequence[Pair]] = []
    for begin in range(len(pairs)):
        held = 0
        for end in range(begin, len(pairs)):
            held += pairs[end] is not None
            if held == ROUNDS:
                windows.append(pairs[begin : end + 1])
                break
    return windows


def _drawn(case: Case, pairs: Sequence[Pair], rng: random.Random) -> list[PairedRound]:
    made = []
    for index, pair in enumerate(pairs):
        if pair is None:
            made.append(PairedRound(None, None, {}))
            continue
        first, second = (
            value * (1 + case.ramp * (2 * index + k) / (2 * len(pairs)))
            for k, value in enumerate(pair)
        )
        a, b = (first, second) if rng.random() < 0.5 else (second, first)
        made.append(PairedRound(a, b * (1 + case.slower), {}))
    return made


def _share(
    found: Sequence[Sequence[Finding]], finding: Finding, rng: random.Random
) -> tuple[float, float, float]:
    """The share and its interval: whole stretches of as many places as a comparison has rounds are
    drawn, the pool's end joined to its beginning."""
    hits = [(sum(one is finding for one in here), len(here)) for here in found]
    places = len(hits)
    block = min(ROUNDS, places)
    shares = []
    for _ in range(RESAMPLES):
        drawn = [0, 0]
        for _ in range(max(1, round(places / block))):
            begin = rng.randrange(places)
            for step in range(block):
                hit, all_ = hits[(begin + step) % places]
                drawn[0] += hit
                drawn[1] += all_
        shares.append(drawn[0] / drawn[1] if drawn[1] else 0.0)
    cuts = quantiles(shares, n=40)
    whole = sum(hit for hit, _ in hits) / sum(all_ for _, all_ in hits)
    return whole, cuts[0], cuts[-1]


def _target(case: Case, finding: Finding, low: float, high: float) -> tuple[str, bool]:
    most, least = (case.at_most or {}).get(finding), (case.at_least or {}).get(finding)
    if most is not None:
        return f"≤ {most:.0%}{' MISSED' if low > most else ''}", low > most
    if least is not None:
        return f"≥ {least:.0%}{' MISSED' if high < least else ''}", high < least
    return "", False


if __name__ == "__main__":
    sys.exit(main())
