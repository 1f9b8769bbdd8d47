"""The demo's progress on stderr: a bar per step on a terminal, a line per change elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

OnProgress = Callable[[str, int, int, str], None]


class Steps:
    """A context in which :meth:`named` gives each step a function to tell its progress to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def named(self, step: str) -> OnProgress:
        """A function (name, done, total, note) for one step; each name gets a bar of its own."""
        rows: dict[str, TaskID] = {}
        last: dict[str, str] = {}

        def tell(name: str, done: int, total: int, note: str) -> None:
            if name not in rows:
                rows[name] = self._bar.add_task(f"{step} {name}", total=None, note="")
            self._bar.update(rows[name], completed=done, total=total or None, note=note)
            if not self._console.is_terminal and last.get(name) != note:
                last[name] = note
                self._console.print(f"{step} {name}: {note}", highlight=False)

        return tell
