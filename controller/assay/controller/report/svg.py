"""What the charts are drawn with: escaped SVG text, scales and their ticks.

Colours stand in the style sheet, by class, so that one drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


def element(name: str, *children: str, **attributes: object) -> str:
    """``<name …>children</name>``; children are markup already, attribute values are escaped.

    ``class_`` gives ``class``, ``text_anchor`` gives ``text-anchor``; None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def text(content: str, x: float, y: float, **attributes: object) -> str:
    """A text element; its content is escaped."""
    return element("text", escape(content), x=x, y=y, **attributes)


def path(points: Iterable[tuple[float, float]], **attributes: object) -> str:
    """An open polyline; relative moves keep it short."""
    parts: list[str] = []
    last = (0, 0)
    for x, y in points:
        here = (round(x * 10), round(y * 10))
        if not parts:
            parts.append(f"M{_tenths(here[0])} {_tenths(here[1])}l")
        elif here != last:
            parts.append(f"{_tenths(here[0] - last[0])} {_tenths(here[1] - last[1])} ")
        last = here
    return element("path", d="".join(parts).rstrip("l "), fill="none", **attributes)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values onto pixels, linearly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of ``value``, kept within the scale."""
        low, high, here = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        share = (here - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        """Round values inside the scale."""
        return _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high, about)


def padded(values: Sequence[float], start: float, end: float, *, log: bool, pad: float) -> Scale:
    """A scale around ``values`` with a margin of ``pad`` times their span on either side."""
    low, high = min(values), max(values)
    if log:
        margin = max(math.log(high / low) * pad, 0.05)
        return Scale(low * math.exp(-margin), high * math.exp(margin), start, end, True)
    margin = max((high - low) * pad, abs(high) * 0.002, 1e-12)
    return Scale(low - margin, high + margin, start, end)


def tick_text(value: float) -> str:
    """A tick's number, without digits it does not need."""
    return f"{value:.6g}"


def _ticks(low: float, high: float, about: int) -> list[float]:
    rough = (high - low) / max(about, 1)
    if rough <= 0:
        return [low]
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    for mantissas in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        found = [m * 10.0**e for e in range(first, last + 1) for m in mantissas]
        inside = [round(t, 12) for t in found if low <= t <= high]
        if len(inside) >= 4:
            return inside
    return _ticks(low, high, 5)


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return escape(str(value))


def _tenths(value: int) -> str:
    return f"{value / 10:.1f}".removesuffix(".0")
