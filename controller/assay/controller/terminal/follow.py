"""Watches a sweep in the terminal until it ends; leaving it does not stop the sweep."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from assay.controller.admin.views import SweepLook
from assay.controller.records import ResultRecord


def follow(looks: Iterator[SweepLook]) -> SweepLook:
    """Shows ``looks``, at least one, on stderr until there are no more; returns the last one.

    A line per look with another number of results where stderr is no terminal.
    """
    console = Console(stderr=True)
    return _follow_live(looks, console) if console.is_terminal else _follow_plain(looks)


def _follow_live(looks: Iterator[SweepLook], console: Console) -> SweepLook:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=console, transient=False) as bar:
        row = bar.add_task("measuring", total=None, note="")
        for look in looks:
            bar.update(row, completed=look.runs_done, total=look.runs_total, note=_note(look))
    return look


def _follow_plain(looks: Iterator[SweepLook]) -> SweepLook:
    shown = -1
    for look in looks:
        if look.runs_done != shown:
            shown = look.runs_done
            said = f"measured {look.runs_done} of {look.runs_total} runs{_note(look)}"
            print(said, file=sys.stderr, flush=True)
    return look


def _note(look: SweepLook) -> str:
    parts = []
    if look.latest is not None:
        last = look.latest.result
        parts.append(f"{last.run.variant_name} in {last.run.runtime.name}: {_outcome(look.latest)}")
    if look.left_ns:
        parts.append(f"about {look.left_ns / 6e10:.1f} min left")
    return "  " + " · ".join(parts) if parts else ""


def _outcome(record: ResultRecord) -> str:
    result = record.result
    verdict = result.verdict.kind.name
    if result.latency is None:
        return verdict
    return f"{result.latency.p50_ns / 1e3:.1f} µs, {verdict}"
