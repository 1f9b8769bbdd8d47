"""Figures for people: three digits that mean something, with a unit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

THIN_SPACE = "\u202f"
_TIME = ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_BYTES = ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"))
_COUNT = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))
_JOULES = ((1e-9, "nJ"), (1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J"))
_HERTZ = ((1.0, "Hz"), (1e3, "kHz"), (1e6, "MHz"), (1e9, "GHz"))


@dataclass(frozen=True, slots=True)
class Unit:
    """``scale`` base units make one of ``name``; numbers of a column share ``places`` decimals."""

    scale: float
    name: str
    places: int

    def number(self, value: float) -> str:
        """``value`` in this unit, no unit behind it."""
        return f"{value / self.scale:,.{self.places}f}".replace(",", THIN_SPACE)


def digits(value: float, significant: int = 3) -> str:
    """``value`` to so many significant digits; never in exponent form, no digit dropped before
    the decimal point."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    places = max(0, significant - 1 - _magnitude(value, significant))
    return f"{value:,.{places}f}".replace(",", THIN_SPACE)


def time_unit(values_ns: Iterable[float]) -> Unit:
    """One unit for a column of nanoseconds, so that its numbers can be compared by eye."""
    return _column(values_ns, _TIME)


def energy_unit(values_j: Iterable[float]) -> Unit:
    """One unit for a column of joules."""
    return _column(values_j, _JOULES)


def duration(ns: float) -> str:
    """Nanoseconds as ``812 ns``, ``1.24 ms``, ``12.3 s``."""
    return _with_unit(ns, _TIME)


def size(n: float) -> str:
    """Bytes as ``312 kB``, ``1.24 MB`` (powers of ten)."""
    return f"{int(n)} B" if abs(n) < 1e3 else _with_unit(n, _BYTES)


def count(n: float) -> str:
    """A count as ``12.5 M``."""
    return str(int(n)) if abs(n) < 1e3 else _with_unit(n, _COUNT)


def joules(value: float) -> str:
    """Joules as ``3.21 mJ``."""
    return _with_unit(value, _JOULES)


def hertz(value: float) -> str:
    """Hertz as ``1.80 GHz``."""
    return _with_unit(value, _HERTZ)


def ratio(value: float) -> str:
    """A ratio as ``0.41×``."""
    if 0 < value < 0.995:
        return f"{digits(value, 2)}×"
    return f"{value:.2f}×" if value < 9.95 else f"{digits(value)}×"


def percent(share: float, n: int = 1000) -> str:
    """A share of ``n`` samples in percent, with no digit that ``n`` samples cannot give."""
    places = 2 if n >= 10_000 else 1 if n >= 500 else 0
    return f"{100 * share:.{places}f} %"


def signed(value: float, places: int) -> str:
    """A change, always with its sign; a true minus, and no sign on nothing."""
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def grouped(n: int) -> str:
    """A whole number in groups of three."""
    return f"{n:,}".replace(",", THIN_SPACE)


def _column(values: Iterable[float], units: tuple[tuple[float, str], ...]) -> Unit:
    """The largest unit that leaves the greatest value at least 1 and the least at least 0.01; as
    many decimals as give the least three digits and the greatest no more than five."""
    ordered = sorted(abs(v) for v in values if v)
    if not ordered:
        return Unit(*units[0], 0)
    least, greatest = ordered[0], ordered[-1]
    fitting = [u for u in units if greatest >= u[0] and least >= u[0] / 100]
    scale, name = fitting[-1] if fitting else units[0]
    wanted = 2 - _magnitude(least / scale)
    allowed = 4 - max(0, _magnitude(greatest / scale))
    return Unit(scale, name, max(0, min(wanted, allowed)))


def _with_unit(value: float, units: tuple[tuple[float, str], ...]) -> str:
    rounded = abs(float(f"{value:.2e}"))
    fitting = [unit for unit in units if rounded >= unit[0]]
    scale, name = fitting[-1] if fitting else units[0]
    return f"{digits(value / scale)} {name}".rstrip()


def _magnitude(value: float, significant: int = 3) -> int:
    return math.floor(math.log10(abs(float(f"{value:.{significant - 1}e}"))))
