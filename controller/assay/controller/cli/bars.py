"""Progress bars on stderr: one per piece of work, none where stderr is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

    from assay.controller.datasets.base import OnProgress


@contextlib.contextmanager
def bars() -> Iterator[OnProgress]:
    """Yields what takes (name, done, total, note) and draws it."""
    if not sys.stderr.isatty():
        yield lambda _name, _done, _total, _note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        known: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int, note: str) -> None:
            if name not in known:
                known[name] = drawn.add_task(name, note=note, total=total or None)
            drawn.update(known[name], completed=done, total=total or None, note=note)

        yield progress
