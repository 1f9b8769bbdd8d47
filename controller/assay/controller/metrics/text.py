"""Families of the catalogue as Prometheus text (format 0.0.4).

Our own because of its cost: the client library takes 20 µs a line, and the page has up to 50,000 of
them. It is held against the library's in tests/unit/test_metrics.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

from assay.core.metrics import METRICS, Metric

Labels = tuple[str, ...]
_SPECIAL = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
_NAMES_KEPT = 10_000


class Families:
    """Filled sample by sample; only families with samples are shown, in the catalogue's order."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, labels: Labels, value: float) -> None:
        """Adds a sample; its labels in the catalogue's order, as many as the metric has."""
        lines = self._lines.get(name)
        if lines is None:
            lines = self._lines[name] = [_head(METRICS[name])]
        number = repr(float(value))
        if number in _SPECIAL:
            number = _SPECIAL[number]
        lines.append(f"{_series(name)(labels)} {number}\n")

    def page(self) -> bytes:
        """The families as text."""
        shown = (line for name in METRICS for line in self._lines.get(name, ()))
        return "".join(shown).encode()


def _head(metric: Metric) -> str:
    text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {metric.name} {text}\n# TYPE {metric.name} {metric.kind.value}\n"


@cache
def _series(name: str) -> Callable[[Labels], str]:
    """What writes a sample's name and its labels, these sorted by name."""
    wanted = METRICS[name].labels
    places = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pairs = ",".join(f'{wanted[i]}="%s"' for i in places)
    form = f"{name}{{{pairs}}}" if wanted else name

    def written(labels: Labels) -> str:
        if len(labels) != len(wanted):
            raise ValueError(f"{name}: {len(labels)} labels where {len(wanted)} are wanted")
        return form % tuple([_escaped(labels[i]) for i in places])

    return written


@lru_cache(_NAMES_KEPT)
def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
