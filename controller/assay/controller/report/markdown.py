"""The report as Markdown: the same sentences and figures, for a pull request or a wiki."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assay.controller.comparing.figures import EnergyFigure, Estimate, Spread
from assay.controller.comparing.findings import accuracy_text, sentences
from assay.controller.comparing.numbers import duration, joules, ratio, size
from assay.controller.comparing.rows import Row, Section, Summary
from assay.controller.comparing.sweep_data import SweepData
from assay.controller.records import ResultRecord
from assay.controller.report.reproduce import sweep_toml
from assay.core.comparing.compare import Comparison
from assay.core.model import VerdictKind
from assay.core.version import __version__

_HEAD = ("#", "variant", "runtime", "p50 [spread]", "× base", "paired rounds say", "p99")
_TAIL = ("accuracy", "size", "peak memory", "energy", "verdict")
_DASH = "–"
_MOST_SPOILT = 50


def markdown(summary: Summary, data: SweepData) -> str:
    """The whole document; equal inputs give equal text."""
    parts = [
        f"# {_escaped(summary.name)}",
        f"{summary.valid} of {summary.total} results are VALID; only those rank.",
        "\n".join(f"- **{_escaped(s.lead)}**: {_escaped(s.text)}" for s in sentences(summary)),
        *(_section(section) for section in summary.sections),
        *_spoilt(data.results),
        f"## How to reproduce\n\n```toml\n{sweep_toml(data.sweep.spec_json).strip()}\n```\n\n"
        "```\nassay sweep run sweep.toml\n```",
        f"Assay {__version__}, sweep seed {data.sweep.seed}, {data.sweep.rounds} rounds.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section) -> str:
    title = f"## {_escaped(section.device)} ({section.device_class}), {section.scenario}"
    how = "Compared although these differ" if section.forced else "Apart from the rest"
    apart = f"\n\n{how}: {_escaped('; '.join(section.differs))}." * bool(section.differs)
    table = _table([*_HEAD, *_TAIL], [_cells(row) for row in section.rows])
    return f"{title}{apart}\n\n{table}"


def _cells(row: Row) -> list[str]:
    figures = row.figures
    p99, peak = figures.latency.get(0.99), figures.memory.get("process_peak")
    energy = figures.energy
    codes = " ".join(dict.fromkeys(r.code for r in row.reasons))
    return [
        _DASH if row.rank is None else f"={row.rank}" if row.tied else str(row.rank),
        _escaped(row.variant) + (" (baseline)" if row.baseline else ""),
        _escaped(row.runtime),
        _spread(figures.p50),
        _DASH if row.latency_ratio is None else ratio(row.latency_ratio),
        _DASH if row.comparison is None else said_by_rounds(row.comparison),
        duration(p99.value) if p99 else _DASH,
        accuracy_text(figures.quality) if figures.quality else _DASH,
        size(row.size_bytes),
        size(peak.value) if peak else _DASH,
        f"{joules(energy.total.value)} ± {joules(energy.u2_j)}"
        if isinstance(energy, EnergyFigure)
        else _DASH,
        f"{row.status.value} {row.valid}/{row.total} {codes}".strip(),
    ]


def said_by_rounds(comparison: Comparison) -> str:
    """``confirmed; not VALID 1/12 and 3/12 (baseline, candidate)``: both rates, always."""
    rates = comparison.invalid
    return (
        f"{comparison.finding.value}; not VALID {rates.baseline}/{rates.rounds} and "
        f"{rates.candidate}/{rates.rounds} (baseline, candidate)"
    )


def _spread(figure: Estimate | None) -> str:
    if figure is None:
        return _DASH
    if figure.spread is Spread.SINGLE:
        return duration(figure.value)
    return f"{duration(figure.value)} [{duration(figure.low)}, {duration(figure.high)}]"


def _spoilt(results: Sequence[ResultRecord]) -> Iterator[str]:
    bad = [r for r in results if r.result.verdict.kind is not VerdictKind.VALID]
    if not bad:
        return
    rows = []
    for record in bad[:_MOST_SPOILT]:
        result = record.result
        why = [f"{r.code}: {r.detail}" for r in result.verdict.reasons]
        why += [f"{result.failure.code}: {result.failure.message}"] if result.failure else []
        rows.append(
            [
                _escaped(result.run.variant_name),
                result.provenance.device_name,
                str(result.round_index + 1),
                result.verdict.kind.value.upper(),
                _escaped("; ".join(why)),
            ]
        )
    more = len(bad) - len(rows)
    note = f"\n\nAnd {more} more; the export holds all." if more else ""
    yield f"## Not VALID\n\n{_table(['variant', 'device', 'round', 'verdict', 'why'], rows)}{note}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Text that Markdown must not read as markup or as a table's edge."""
    for character in "\\`*_|<>#[]":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
