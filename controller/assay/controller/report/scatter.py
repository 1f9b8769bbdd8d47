"""Accuracy against latency, the file's size as area, and the Pareto front in its noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.controller.comparing.figures import Estimate
from assay.controller.comparing.findings import accuracy_text, estimate_text
from assay.controller.comparing.numbers import size, time_unit
from assay.controller.comparing.pareto import Standing, accuracy_span, standings
from assay.controller.comparing.rows import Row, Section
from assay.controller.report.svg import Scale, element, padded, path, text, tick_text
from assay.core.model import Quality

WIDTH, HEIGHT = 1040.0, 540.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 24.0, 18.0, 52.0
_SMALLEST, _LARGEST = 5.0, 19.0
_CHAR = 6.4  # width of a character of a label, in pixels
_LINE = 14.0


@dataclass(frozen=True, slots=True)
class _Mark:
    row: Row
    p50: Estimate
    quality: Quality
    x: float
    y: float
    left: float
    right: float
    radius: float
    series: int


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)


def runtimes_of(section: Section) -> list[str]:
    """The runtimes of a section; the position of each is its colour and shape."""
    return list(dict.fromkeys(sorted(row.runtime for row in section.rows)))


def scatter(section: Section) -> str | None:
    """The chart as SVG; None where no row has both a latency and an accuracy."""
    shown = [
        (row, row.figures.p50, row.figures.quality)
        for row in section.rows
        if row.figures.p50 is not None and row.figures.quality is not None
    ]
    if not shown:
        return None
    unit = time_unit(p50.value for _, p50, _ in shown)
    spans = [v / unit.scale for _, p50, _ in shown for v in (p50.low, p50.high)]
    shares = [100 * v for _, _, quality in shown for v in accuracy_span(quality)]
    log = max(spans) / min(spans) > 3
    across = padded(spans, _LEFT, WIDTH - _RIGHT, log=log, pad=0.07)
    upwards = padded(shares, HEIGHT - _BOTTOM, _TOP, log=False, pad=0.08)
    names = runtimes_of(section)
    largest = max(row.size_bytes for row, _, _ in shown)
    marks = [
        _Mark(
            row,
            p50,
            quality,
            across(p50.value / unit.scale),
            upwards(100 * quality.top1),
            across(p50.low / unit.scale),
            across(p50.high / unit.scale),
            _radius(row.size_bytes, largest),
            names.index(row.runtime),
        )
        for row, p50, quality in shown
    ]
    marks.sort(key=lambda m: -m.radius)
    title = f"Accuracy against latency on {section.device}"
    return element(
        "svg",
        element("title", title),
        *_axes(across, upwards, unit.name),
        *_front(marks, upwards, standings(section.rows)),
        *(_whiskers(m, upwards) for m in marks),
        *(_mark(m, section) for m in marks),
        *_labels(marks),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="group",
        aria_label=title,
        class_="chart scatter",
    )


def shape(series: int, x: float, y: float, radius: float, **attributes: object) -> str:
    """The mark of a series: circle, diamond, square, triangle, each of equal area."""
    if series % 4 == 0:
        return element("circle", cx=x, cy=y, r=radius, **attributes)
    corners = {1: (4, 0.0, 1.253), 2: (4, 45.0, 1.253), 3: (3, -90.0, 1.555)}[series % 4]
    count, turn, scale = corners
    points = " ".join(
        f"{x + radius * scale * math.cos(math.radians(turn + 360 * i / count)):.1f},"
        f"{y + radius * scale * math.sin(math.radians(turn + 360 * i / count)):.1f}"
        for i in range(count)
    )
    return element("polygon", points=points, **attributes)


def legend_mark(series: int) -> str:
    """A small mark for the legend beside the chart."""
    return element(
        "svg",
        shape(series, 8.0, 8.0, 5.0, class_=f"mark s{series % 6}"),
        viewBox="0 0 16 16",
        width=16,
        height=16,
        class_="key",
        aria_hidden="true",
    )


def _radius(size_bytes: int, largest: int) -> float:
    return max(_SMALLEST, _LARGEST * math.sqrt(size_bytes / largest))


def _axes(across: Scale, upwards: Scale, unit: str) -> list[str]:
    floor = HEIGHT - _BOTTOM
    drawn: list[str] = []
    for tick in across.ticks(8):
        x = across(tick)
        drawn.append(path([(x, _TOP), (x, floor)], class_="grid"))
        drawn.append(text(tick_text(tick), x, floor + 18, text_anchor="middle", class_="tick"))
    for tick in upwards.ticks(6):
        y = upwards(tick)
        drawn.append(path([(_LEFT, y), (WIDTH - _RIGHT, y)], class_="grid"))
        drawn.append(text(tick_text(tick), _LEFT - 8, y + 4, text_anchor="end", class_="tick"))
    kind = ", log scale" if across.log else ""
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    drawn += [
        path([(_LEFT, floor), (WIDTH - _RIGHT, floor)], class_="axis"),
        text(
            f"p50 latency ({unit}{kind})",
            middle,
            HEIGHT - 10,
            text_anchor="middle",
            class_="axis-title",
        ),
        text(
            "top-1 accuracy (%)",
            -(_TOP + floor) / 2,
            14.0,
            text_anchor="middle",
            transform="rotate(-90)",
            class_="axis-title",
        ),
    ]
    return drawn


def _front(marks: Sequence[_Mark], upwards: Scale, standing: Mapping[str, Standing]) -> list[str]:
    """The front as steps (the best accuracy to be had at a latency), and as a band between the
    steps of the best and the worst corners of all that may belong to it."""
    out = (None, Standing.DOMINATED)
    members = [m for m in marks if standing.get(m.row.cell.cell_key) not in out]
    if not members:
        return []
    spans = [accuracy_span(m.quality) for m in members]
    ends = [(upwards(100 * low), upwards(100 * high)) for low, high in spans]
    best = _steps([(m.left, high) for m, (_, high) in zip(members, ends, strict=True)])
    worst = _steps([(m.right, low) for m, (low, _) in zip(members, ends, strict=True)])
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*best, *reversed(worst)])
    return [
        element("polygon", points=outline, class_="front-band"),
        path(_steps([(m.x, m.y) for m in members]), class_="front"),
    ]


def _steps(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """From the fastest to the right edge, up wherever something more accurate begins; ``y`` grows
    downwards."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(corners):
        if not found:
            found.append((x, y))
        elif y < found[-1][1]:
            found += [(x, found[-1][1]), (x, y)]
    return [*found, (WIDTH - _RIGHT, found[-1][1])]


def _whiskers(mark: _Mark, upwards: Scale) -> str:
    low, high = (upwards(100 * v) for v in accuracy_span(mark.quality))
    left, right = mark.left, mark.right
    kind = f"whisker s{mark.series % 6}" if mark.row.counts else "whisker out"
    return element(
        "g",
        path([(left, mark.y), (right, mark.y)]),
        path([(left, mark.y - 3), (left, mark.y + 3)]),
        path([(right, mark.y - 3), (right, mark.y + 3)]),
        path([(mark.x, low), (mark.x, high)], class_="thin"),
        class_=kind,
    )


def _mark(mark: _Mark, section: Section) -> str:
    row = mark.row
    reference = section.reference is row
    verdict = "" if row.counts else f"; {row.status.value}, left out of the ranking"
    said = (
        f"{row.variant} in {row.runtime}: p50 {estimate_text(mark.p50)}, accuracy "
        f"{accuracy_text(mark.quality)}, {size(row.size_bytes)}{verdict}"
    )
    ring = [shape(mark.series, mark.x, mark.y, mark.radius + 4, class_="ring")] if reference else []
    kind = f"mark s{mark.series % 6}" if row.counts else "mark out"
    return element(
        "g",
        element("title", _escaped(said)),
        *ring,
        shape(mark.series, mark.x, mark.y, mark.radius, class_=kind),
        class_="point",
        tabindex=0,
        role="img",
        aria_label=said,
        data_row=row.cell.cell_key[7:19],
    )


def _labels(marks: Sequence[_Mark]) -> list[str]:
    """Names beside the marks, each where it covers the least of what is there already."""
    taken = [_Box(m.x - m.radius, m.y - m.radius, m.x + m.radius, m.y + m.radius) for m in marks]
    taken += [_Box(m.left, m.y - 2, m.right, m.y + 2) for m in marks]
    drawn: list[str] = []
    for mark in sorted(marks, key=lambda m: (m.y, m.x)):
        label = mark.row.variant + ("" if mark.row.counts else f" ({mark.row.status.value})")
        x, y, anchor, box = min(_places(mark, label), key=lambda p: _cost(p[3], taken))
        taken.append(box)
        kind = "label" if mark.row.counts else "label out"
        drawn.append(text(label, x, y, text_anchor=anchor, class_=kind))
    return drawn


def _places(mark: _Mark, label: str) -> list[tuple[float, float, str, _Box]]:
    wide, gap = _CHAR * len(label), mark.radius + 5
    found = []
    for shift in (0.0, -1.0, 1.0, -2.0, 2.0):
        y = mark.y + shift * _LINE
        found.append((mark.x + gap, y, "start"))
        found.append((mark.x - gap, y, "end"))
    found.append((mark.x, mark.y - gap - _LINE / 2, "middle"))
    found.append((mark.x, mark.y + gap + _LINE / 2, "middle"))
    places = []
    for x, y, anchor in found:
        left = {"start": x, "end": x - wide, "middle": x - wide / 2}[anchor]
        box = _Box(left, y - _LINE / 2, left + wide, y + _LINE / 2)
        places.append((x, y + 4, anchor, box))
    return places


def _cost(box: _Box, taken: Sequence[_Box]) -> float:
    outside = box.left < _LEFT or box.right > WIDTH - 4 or box.top < 2
    below = box.bottom > HEIGHT - _BOTTOM
    return sum(box.overlap(other) for other in taken) + 1e6 * (outside or below)


def _escaped(content: str) -> str:
    return content.replace("&", "&amp;").replace("<", "&lt;")
