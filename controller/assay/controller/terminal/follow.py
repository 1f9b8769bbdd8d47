"""Watches a sweep in the terminal until it ends; leaving it does not stop the sweep."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from assay.controller.planning.progress import Progress, measure_progress
from assay.controller.store.base import Store

_POLL_S = 0.5


def follow(
    store: Store,
    sweep_id: str,
    *,
    alive: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> Progress:
    """Shows progress on stderr until the sweep ended or ``alive`` (the controller) says no.

    Returns the last state seen. A line per result where stderr is no terminal.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        return _follow_live(store, sweep_id, console, alive, sleep)
    return _follow_plain(store, sweep_id, alive, sleep)


def _follow_live(
    store: Store,
    sweep_id: str,
    console: Console,
    alive: Callable[[], bool],
    sleep: Callable[[float], None],
) -> Progress:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=console, transient=False) as bar:
        row = bar.add_task("measuring", total=None, note="")
        while True:
            seen = _look(store, sweep_id)
            bar.update(
                row, completed=seen.runs_done, total=seen.runs_total, note=_note(seen, left=True)
            )
            if seen.ended or not alive():
                return seen
            sleep(_POLL_S)


def _follow_plain(
    store: Store, sweep_id: str, alive: Callable[[], bool], sleep: Callable[[float], None]
) -> Progress:
    shown = -1
    while True:
        seen = _look(store, sweep_id)
        if seen.runs_done != shown:
            shown = seen.runs_done
            note = _note(seen, left=True)
            print(f"measured {seen.runs_done} of {seen.runs_total} runs{note}", file=sys.stderr)
        if seen.ended or not alive():
            return seen
        sleep(_POLL_S)


def _look(store: Store, sweep_id: str) -> Progress:
    return measure_progress(
        store.sweep(sweep_id), store.rounds(sweep_id), store.results(sweep_id=sweep_id)
    )


def _note(seen: Progress, *, left: bool) -> str:
    parts = []
    if seen.latest:
        last = seen.latest[-1].result
        parts.append(f"{last.run.variant_name} in {last.run.runtime.name}: {_outcome(seen)}")
    if left and seen.left_ns:
        parts.append(f"about {seen.left_ns / 6e10:.1f} min left")
    return "  " + " · ".join(parts) if parts else ""


def _outcome(seen: Progress) -> str:
    result = seen.latest[-1].result
    verdict = result.verdict.kind.name
    if result.latency is None:
        return verdict
    return f"{result.latency.p50_ns / 1e3:.1f} µs, {verdict}"
