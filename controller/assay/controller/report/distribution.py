"""How a cell's latencies spread: one small ECDF each, all on one scale so that shapes compare.

The share axis is stretched towards the tail (even steps of the share *above* a latency, each a
tenth of the one before), because the tail is where two variants with one p50 differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assay.controller.comparing.numbers import duration
from assay.controller.report.svg import Scale, element, path, text, tick_text

WIDTH, HEIGHT = 250.0, 164.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 10.0, 8.0, 26.0
_MOST_RUNS = 8
_TOP_SHARE = 0.999


@dataclass(frozen=True, slots=True)
class RunQuantiles:
    """One run's quantile function: ``latency_ns[i]`` at ``shares[i]``."""

    shares: Sequence[float]
    latency_ns: Sequence[float]
    valid: bool
    middle: bool

    def at(self, share: float) -> float:
        """The latency at the grid point nearest to ``share``."""
        index = min(range(len(self.shares)), key=lambda i: abs(self.shares[i] - share))
        return self.latency_ns[index]


def common_scale(groups: Sequence[tuple[float, Sequence[RunQuantiles]]]) -> Scale:
    """One scale of latency over the own p50, from the fastest to nearly every p99.5."""
    lows, highs = [1.0], [1.05]
    for p50_ns, runs in groups:
        lows += [run.at(0.002) / p50_ns for run in runs]
        highs += [run.at(0.995) / p50_ns for run in runs]
    highs.sort()
    low = max(0.5, min(lows) - 0.01)
    high = min(3.0, highs[int(0.9 * (len(highs) - 1))] + 0.02)
    return Scale(low, high, _LEFT, WIDTH - _RIGHT)


def small_ecdf(
    name: str, p50_ns: float, runs: Sequence[RunQuantiles], across: Scale, series: int
) -> str:
    """One panel: each run a line over latency ÷ p50, the middle run bold, invalid ones dashed."""
    upwards = Scale(0.0, _nines(_TOP_SHARE), HEIGHT - _BOTTOM, _TOP)
    shown = sorted(runs, key=lambda r: (r.middle, r.valid))[-_MOST_RUNS:]
    lines = [_line(run, p50_ns, across, upwards, series) for run in shown]
    label = f"Latency distribution of {name}, p50 {duration(p50_ns)}, {len(runs)} runs"
    return element(
        "svg",
        element("title", label.replace("&", "&amp;").replace("<", "&lt;")),
        *_frame(across, upwards),
        *lines,
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=label,
        class_="chart ecdf",
    )


def _frame(across: Scale, upwards: Scale) -> list[str]:
    floor = HEIGHT - _BOTTOM
    drawn = []
    for share in (0.0, 0.5, 0.9, 0.99, _TOP_SHARE):
        y = upwards(_nines(share))
        drawn.append(path([(_LEFT, y), (WIDTH - _RIGHT, y)], class_="grid"))
        drawn.append(
            text(f"{100 * share:g} %", _LEFT - 5, y + 3.5, text_anchor="end", class_="tick small")
        )
    for tick in across.ticks(4):
        x = across(tick)
        drawn.append(path([(x, _TOP), (x, floor)], class_="grid"))
        drawn.append(
            text(f"{tick_text(tick)}×", x, floor + 15, text_anchor="middle", class_="tick small")
        )
    return drawn


def _line(run: RunQuantiles, p50_ns: float, across: Scale, upwards: Scale, series: int) -> str:
    points = []
    for latency, share in _inside(run, across.high * p50_ns):
        points.append((across(latency / p50_ns), upwards(_nines(share))))
    kind = f"line s{series % 6}" if run.valid else "line out"
    return path(points, class_=kind + (" middle" if run.middle and run.valid else ""))


def _inside(run: RunQuantiles, limit_ns: float) -> Iterator[tuple[float, float]]:
    """The run's points up to ``limit_ns``; the line is cut where it crosses that."""
    before = (run.latency_ns[0], run.shares[0])
    for latency, share in zip(run.latency_ns, run.shares, strict=True):
        if latency > limit_ns:
            way = (limit_ns - before[0]) / (latency - before[0]) if latency > before[0] else 0.0
            yield limit_ns, before[1] + max(0.0, way) * (share - before[1])
            return
        yield latency, share
        before = (latency, share)


def _nines(share: float) -> float:
    """0 at nothing, 1 at 90 %, 2 at 99 %, 3 at 99.9 %."""
    return -math.log10(max(1.0 - share, 1e-9))
