"""``assay inspect``: what a model file is, before anything is done with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from assay.core.jsonable import jsonable
from assay.core.listing import format_option, print_rows


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--time-box",
    type=click.FloatRange(1, 86_400),
    default=120,
    show_default=True,
    help="Seconds that reading or loading it may take.",
)
@format_option
def inspect_command(file: Path, time_box: float, output_format: str) -> None:
    """Say what FILE (.onnx, .tflite, .ncnn) takes and gives, holds and costs, and what each runtime
    here says about loading it.

    It is read and loaded in processes of their own. Exit status 1: it cannot be read; what a
    runtime refuses is told and no error.
    """
    from assay.controller.inspection.facts import facts_of
    from assay.controller.inspection.tried import words

    facts = {**jsonable(facts_of(file, time_box)), "file_bytes": file.stat().st_size}
    tried = [jsonable(word) for word in words(file, time_box)]
    if output_format == "json":
        click.echo(json.dumps({"file": file.name, **facts, "runtimes": tried}, indent=2))
        return
    rows = [{"what": key, "value": line} for key, value in facts.items() for line in _lines(value)]
    rows += [{"what": "runtime", "value": f"{one['runtime']} {one['says']}"} for one in tried]
    print_rows(rows, ["what", "value"], output_format)


def _lines(value: Any) -> list[str]:
    """A line for each entry; none for what is not there."""
    if isinstance(value, dict):
        return [f"{key}: {one}" for key, one in value.items()]
    if isinstance(value, list):
        return [str(one) for one in value]
    unknown = "unknown: an operator has no rule, or its sizes are open"
    return [unknown] if value is None else [str(value)]
