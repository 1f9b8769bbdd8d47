"""One run over its own time: the latency's band, and temperature and clock beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.controller.comparing.numbers import Unit, duration, time_unit
from assay.controller.report.svg import Scale, element, padded, path, text, tick_text

WIDTH = 520.0
_LEFT, _RIGHT, _TOP = 56.0, 16.0, 16.0
_MAIN, _SIDE, _GAP, _BOTTOM = 110.0, 36.0, 22.0, 30.0


@dataclass(frozen=True, slots=True)
class LatencyBins:
    """Latency over time: per bin its middle (s) and the 5th, 50th and 95th percentile (ns)."""

    t_s: Sequence[float]
    low_ns: Sequence[float]
    mid_ns: Sequence[float]
    high_ns: Sequence[float]


@dataclass(frozen=True, slots=True)
class SideSeries:
    """A sensor beside it: seconds since the run's start, values in ``unit``."""

    name: str
    unit: str
    t_s: Sequence[float]
    value: Sequence[float]


def timeline(name: str, bins: LatencyBins, sides: Sequence[SideSeries], series: int) -> str:
    """The drawing; latency on top, one strip per sensor below."""
    height = _TOP + _MAIN + len(sides) * (_GAP + _SIDE) + _BOTTOM
    ends = [*bins.t_s, *(t for side in sides for t in side.t_s[-1:])]
    across = Scale(0.0, max(ends), _LEFT, WIDTH - _RIGHT)
    unit = time_unit(bins.mid_ns)
    drawn = _latency(bins, across, unit, series)
    top = _TOP + _MAIN + _GAP
    for side in sides:
        drawn += _strip(side, across, top)
        top += _SIDE + _GAP
    floor = height - _BOTTOM
    for tick in across.ticks(5):
        drawn.append(
            text(
                f"{tick_text(tick)} s",
                across(tick),
                floor + 17,
                text_anchor="middle",
                class_="tick small",
            )
        )
    label = f"Latency over the middle run of {name}, median {duration(_median(bins.mid_ns))}"
    return element(
        "svg",
        element("title", label.replace("&", "&amp;").replace("<", "&lt;")),
        *drawn,
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=label,
        class_="chart timeline",
    )


def _latency(bins: LatencyBins, across: Scale, unit: Unit, series: int) -> list[str]:
    values = [v / unit.scale for v in (*bins.low_ns, *bins.high_ns)]
    upwards = padded(values, _TOP + _MAIN, _TOP, log=False, pad=0.08)
    drawn = [
        text(f"latency ({unit.name}): median and 5–95 % band", _LEFT, 10.0, class_="tick small")
    ]
    for tick in upwards.ticks(4):
        y = upwards(tick)
        drawn.append(path([(_LEFT, y), (WIDTH - _RIGHT, y)], class_="grid"))
        drawn.append(
            text(tick_text(tick), _LEFT - 6, y + 3.5, text_anchor="end", class_="tick small")
        )
    there = [
        (across(t), upwards(v / unit.scale)) for t, v in zip(bins.t_s, bins.high_ns, strict=True)
    ]
    back = [
        (across(t), upwards(v / unit.scale)) for t, v in zip(bins.t_s, bins.low_ns, strict=True)
    ]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*there, *reversed(back)])
    middle = [
        (across(t), upwards(v / unit.scale)) for t, v in zip(bins.t_s, bins.mid_ns, strict=True)
    ]
    drawn.append(element("polygon", points=outline, class_=f"band s{series % 6}"))
    drawn.append(path(middle, class_=f"line s{series % 6} middle"))
    return drawn


def _strip(side: SideSeries, across: Scale, top: float) -> list[str]:
    low, high = min(side.value), max(side.value)
    upwards = padded([low, high], top + _SIDE, top, log=False, pad=0.1)
    points = [(across(t), upwards(v)) for t, v in zip(side.t_s, side.value, strict=True)]
    span = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return [
        text(f"{side.name}: {span} {side.unit}", _LEFT, top - 6, class_="tick small"),
        path([(_LEFT, top + _SIDE), (WIDTH - _RIGHT, top + _SIDE)], class_="grid"),
        path(points, class_="line side"),
    ]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]
