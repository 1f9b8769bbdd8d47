"""How often is a comparison wrong where a board is noisier than the machine the benches ran on?

    python bench/measurement/simulated.py [--comparisons 2000]

Rounds are drawn, not measured: ln p50 of each run is noise with heavy tails (Student's t with three
degrees of freedom) of the standard deviation in the first column, which rates.py prints for real
runs. Each comparison is judged at 10, 20 and 40 rounds by the same code as every other. No targets:
it says how much noise the procedure bears and how much isolation is worth. Half a minute.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from statistics import fmean

from assay.core.comparing.compare import LOOKS, Finding, Rules, compare
from assay.core.comparing.paired import PairedRound

ROUNDS = LOOKS[-1].rounds
NOISE_SD = (0.002, 0.011, 0.015, 0.03, 0.06)
DEGREES = 3
SHOWN = (Finding.EQUIVALENT, Finding.LIKELY, Finding.CONFIRMED)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    print(f"| SD of ln p50 | B is slower by | {' | '.join(one.value for one in SHOWN)} | rounds |")
    print("|---|---|---|---|---|---|")
    for sd in NOISE_SD:
        for slower in (0.0, 0.03):
            _print_row(sd, slower, arguments.comparisons, rng)
    return 0


def _print_row(sd: float, slower: float, count: int, rng: random.Random) -> None:
    found: Counter[Finding] = Counter()
    rounds = []
    for _ in range(count):
        drawn = [
            PairedRound(_noisy(1.0, sd, rng), _noisy(1 + slower, sd, rng), {})
            for _ in range(ROUNDS)
        ]
        comparison = compare(drawn, Rules())
        found[comparison.finding] += 1
        rounds.append(comparison.look or ROUNDS)
    shares = " | ".join(f"{found[one] / count:.1%}" for one in SHOWN)
    print(f"| {sd:.1%} | {slower:.0%} | {shares} | {fmean(rounds):.1f} |", flush=True)


def _noisy(value: float, sd: float, rng: random.Random) -> float:
    """``value`` times exp of a draw of that standard deviation: Student's t has degrees / (degrees
    - 2) of variance."""
    t = rng.gauss(0.0, 1.0) / math.sqrt(rng.gammavariate(DEGREES / 2, 2.0) / DEGREES)
    return value * math.exp(sd * t / math.sqrt(DEGREES / (DEGREES - 2)))


if __name__ == "__main__":
    sys.exit(main())
