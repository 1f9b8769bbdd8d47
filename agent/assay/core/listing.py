"""One way to print a list: ``--format table|json|csv`` on every listing of both programs."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

# Control characters of ASCII and Latin-1 but for the tabulator and the end of a line.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def format_option(function: F) -> F:
    """Adds ``--format`` to a click command, as the parameter ``output_format``."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="How to print the list.",
    )(function)


def print_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], output_format: str
) -> None:
    """Prints ``rows`` to stdout; JSON holds every key of a row, table and CSV the ``columns``.

    ``None`` is an empty cell in CSV, ``null`` in JSON and a dash in a table.
    """
    listed = list(rows)
    if output_format == "json":
        json.dump(listed, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif output_format == "csv":
        _print_csv(listed, columns)
    else:
        _print_table(listed, columns)


def _print_csv(rows: list[Mapping[str, Any]], columns: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(row.get(column)) for column in columns] for row in rows)


def _csv_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _print_table(rows: list[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        # As text: brackets in a value are no markup.
        table.add_row(*(Text(_table_cell(row.get(column))) for column in columns))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def _table_cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, (list, tuple)):
        return plain(" ".join(str(item) for item in value))
    return plain(str(value))


def plain(text: str) -> str:
    """``text`` for a terminal: what a device or a model file says cannot move its cursor."""
    return _CONTROL.sub("�", text)
