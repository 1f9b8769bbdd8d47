"""The summary as a table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from assay.controller.comparing.figures import EnergyFigure, Estimate, Spread
from assay.controller.comparing.findings import accuracy_text, sentences
from assay.controller.comparing.numbers import Unit, count, duration, joules, ratio, size, time_unit
from assay.controller.comparing.rows import CanaryRow, Row, RowStatus, Section, Summary

_STYLES = {
    RowStatus.VALID: "green",
    RowStatus.SUSPECT: "yellow",
    RowStatus.INVALID: "red",
    RowStatus.FAILED: "red",
    RowStatus.PENDING: "dim",
}
_DASH = "–"


def render_summary(summary: Summary, console: Console) -> None:
    """Prints the tables and what they say."""
    render_table(summary, console)
    console.print()
    render_findings(summary, console)


def render_table(summary: Summary, console: Console) -> None:
    """Prints every section as a table, then the canaries."""
    for section in summary.sections:
        console.print(_table(section, console.width))
    for canary in summary.canaries:
        console.print(_canary_line(canary), style="dim", highlight=False)


def render_findings(summary: Summary, console: Console) -> None:
    """Prints what the sweep says, a sentence or two a line."""
    for sentence in sentences(summary):
        style = "yellow" if sentence.caution else "bold"
        console.print(
            f"[{style}]{escape(sentence.lead)}:[/] {escape(sentence.text)}", highlight=False
        )


@dataclass(frozen=True, slots=True)
class _Column:
    """A column; ``from_width`` is the narrowest terminal that shows it."""

    title: str
    cell: Callable[[Row], Text | str]
    from_width: int = 0
    left: bool = False


def _table(section: Section, width: int) -> Table:
    title = f"{section.device} ({section.device_class}), {section.scenario}"
    if section.differs:
        how = "compared although these differ" if section.forced else "apart"
        title += f" — {how}: {'; '.join(section.differs)}"
    columns = _columns(section, width)
    shown = [column for column in columns if width >= column.from_width]
    hidden = [column.title for column in columns if width < column.from_width]
    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        caption=Text(_caption(section.rows, hidden)),
        caption_justify="left",
    )
    for column in shown:
        table.add_column(
            Text(column.title),
            justify="left" if column.left else "right",
            no_wrap=not column.left,
            overflow="fold",
        )
    for row in section.rows:
        style = "bold" if row is section.reference else "" if row.counts else "dim"
        table.add_row(*(column.cell(row) for column in shown), style=style)
    return table


def _columns(section: Section, width: int) -> list[_Column]:
    unit = _latency_unit(section)
    reference = section.reference

    def name(row: Row) -> str:
        return row.variant + (" (baseline)" if row is reference else "")

    def file_size(row: Row) -> str:
        text = size(row.size_bytes)
        if row is reference or row.size_ratio is None or width < 150:
            return text
        return f"{text} {ratio(row.size_ratio)}"

    def runtime(row: Row) -> str:
        return f"{row.runtime} ({row.format})" if width >= 150 else row.runtime

    return [
        _Column("#", _rank),
        _Column("variant", name, left=True),
        _Column("runtime", runtime, left=True),
        _Column("size", file_size, 90),
        _Column("MACs", _macs, 150),
        _Column("accuracy", _accuracy, 100),
        _Column(f"p50 {unit.name} [spread]", lambda row: _spread(row.figures.p50, unit)),
        _Column("× base", _latency_ratio),
        _Column(f"p99 {unit.name}", lambda row: _p99(row, unit), 110),
        _Column("peak mem", _peak, 130),
        _Column("energy", _energy, 140),
        _Column("verdict", lambda row: Text(verdict_text(row), _STYLES[row.status]), left=True),
    ]


def _macs(row: Row) -> str:
    return count(row.macs) if row.macs is not None else _DASH


def _accuracy(row: Row) -> str:
    return accuracy_text(row.figures.quality) if row.figures.quality else _DASH


def _latency_ratio(row: Row) -> str:
    return ratio(row.latency_ratio) if row.latency_ratio is not None else _DASH


def _p99(row: Row, unit: Unit) -> str:
    p99 = row.figures.latency.get(0.99)
    return unit.number(p99.value) if p99 else _DASH


def _peak(row: Row) -> str:
    peak = row.figures.memory.get("process_peak")
    return size(peak.value) if peak else _DASH


def _energy(row: Row) -> str:
    energy = row.figures.energy
    return joules(energy.total.value) if isinstance(energy, EnergyFigure) else _DASH


def verdict_text(row: Row) -> str:
    """``VALID 3/3``, ``VALID 2/3 steal``, ``SUSPECT 0/3 drift steal``."""
    if row.status is RowStatus.PENDING:
        return "PENDING"
    codes = " ".join(dict.fromkeys(r.code for r in row.reasons))
    return f"{row.status.value} {row.valid}/{row.total} {codes}".rstrip()


def _rank(row: Row) -> str:
    if row.rank is None:
        return _DASH
    return f"={row.rank}" if row.tied else str(row.rank)


def _spread(figure: Estimate | None, unit: Unit) -> str:
    if figure is None:
        return _DASH
    if figure.spread is Spread.SINGLE:
        return unit.number(figure.value)
    bounds = f"{unit.number(figure.low)}–{unit.number(figure.high)}"
    return f"{unit.number(figure.value)} [{bounds}]"


def _latency_unit(section: Section) -> Unit:
    return time_unit(r.figures.p50.value for r in section.rows if r.figures.p50)


def _caption(rows: Sequence[Row], hidden: Sequence[str]) -> str:
    spreads = {r.figures.p50.spread for r in rows if r.figures.p50}
    parts = ["= tied: spreads overlap"]
    if Spread.RANGE in spreads:
        parts.append("[spread] is the range over restarts (below 6 of them)")
    if Spread.INTERVAL in spreads:
        parts.append("[spread] is the 95 % interval over restarts")
    if any(not r.counts for r in rows):
        parts.append("dim rows have no VALID result and do not rank")
    if hidden:
        parts.append(f"left out at this width: {', '.join(hidden)}")
    return "; ".join(parts)


def _canary_line(canary: CanaryRow) -> str:
    p50 = duration(canary.p50.value) if canary.p50 and canary.figures.counts else _DASH
    moved = f", moved {canary.shift:+.1%}" if canary.shift is not None else ""
    return (
        f"canary in {canary.runtime} on {canary.device}: p50 {p50}{moved}, "
        f"VALID {canary.valid}/{canary.total}"
    )
