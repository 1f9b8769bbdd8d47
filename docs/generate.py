"""Writes the reference pages that come from the code; ``--check`` says whether they are fresh.

Run by ``make docs`` and ``make docs-check``.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from assay.agent.cli import agent
from assay.agent.measuring.reasons import reference
from assay.controller.cli import assay
from assay.controller.exporting.schema import result_schema
from assay.controller.planning import spec
from assay.controller.variants import inputs_file
from assay.core.errors import TABLE
from assay.core.metrics import AGENT_METRICS, CONTROLLER_METRICS, LABELS, Metric

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py; change the code and run `make docs`. -->\n"


def cli_page() -> str:
    """Every command of both programs, from its own help."""
    parts = [
        "# Command line\n",
        NOTE,
        "Results go to stdout, everything else to stderr. Every option can be given by an "
        "environment variable: `ASSAY_` (or `ASSAY_AGENT_`), the command's path and the option, in "
        "capitals, e.g. `ASSAY_SWEEP_RUN_FOLLOW=false`.\n",
        *_exit_codes(),
    ]
    for program in (assay, agent):
        for context in _walk(click.Context(program, info_name=program.name)):
            parts.append(f"\n## `{context.command_path}`\n\n```\n{context.get_help()}\n```")
    return "\n".join(parts) + "\n"


def sweep_page() -> str:
    """Every key of the sweep file, from the models that check it."""
    sections: list[tuple[str, type[BaseModel]]] = [
        ("The file", spec.SweepSpec),
        ("`[devices]`", spec.DeviceSelector),
        ("`[[runtimes]]`", spec.RuntimeChoice),
        ("`[[scenarios]]`", spec.ScenarioChoice),
        ("`[[exclude]]`", spec.Exclusion),
        ("`[limits]`", spec.Limits),
    ]
    parts = [
        "# The sweep file\n",
        NOTE,
        "A TOML file says what to measure, where and how often. `assay sweep plan FILE` prints the "
        "matrix and a time estimate, `assay sweep run FILE` starts it; running the same file again "
        "resumes it: a cell that has its rounds, all VALID, is skipped. Unknown keys are "
        "errors, and all errors are reported at once with their path into the file.\n",
        "```toml\n" + (Path(__file__).parent / "examples/sweep.toml").read_text() + "```\n",
    ]
    for title, model in sections:
        parts += [f"## {title}\n", *_keys(model), ""]
    return "\n".join(parts)


def metrics_page() -> str:
    """Every Prometheus metric and label, from the catalogue."""
    parts = [
        "# Metrics\n",
        NOTE,
        "`/metrics` of the controller, Prometheus text format, base units. Latency is exported as "
        "exact quantiles, never as buckets; their type is `summary` because Prometheus's linter "
        "keeps the label `quantile` for it. Figures of a cell come from its newest VALID "
        "results and are those the report shows. Labels are bounded: no id and no digest is ever "
        "one. Over the series budget (50,000) results lose their `device` label first, each device "
        "class showing its newest result; `assay_series_dropped` says how many series went.\n",
        "## Controller\n",
        *_metrics(CONTROLLER_METRICS),
        "\n## Agent\n\nServed by the device itself, off unless `assay-agent run --metrics-port` "
        "asks for it; inside a timed block the page from before it is served again.\n",
        *_metrics(AGENT_METRICS),
        "\n## Labels\n\n| label | meaning |\n|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in LABELS.items()),
    ]
    return "\n".join(parts) + "\n"


def _metrics(metrics: Iterable[Metric]) -> Iterator[str]:
    yield "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|"
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        kind, unit = metric.kind.value, metric.unit or "–"
        yield f"| `{metric.name}` | {kind} | {unit} | {labels} | {metric.help} |"


def _exit_codes() -> Iterator[str]:
    yield "| exit status | meaning |\n|---|---|\n| 0 | done |"
    by_code: dict[int, list[str]] = {}
    for name, meaning in TABLE.items():
        by_code.setdefault(meaning.exit_code, []).append(name)
    for code, names in sorted(by_code.items()):
        yield f"| {code} | {', '.join(names)} |"
    yield "| 130 | interrupted |"


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _walk(click.Context(child, info_name=name, parent=context))


def _keys(model: type[BaseModel]) -> Iterator[str]:
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_default(field)}`"
        yield f"| `{name}` | {_type(field.annotation)} | {default} | {field.description} |"


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return "[{}]"
    if isinstance(value, (bool, type(None))):
        return {None: "none", True: "true", False: "false"}[value]
    return repr(value)


def _type(annotation: Any) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(args[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(f"`{a}`" for a in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(a) for a in args if a is not type(None))
    if origin is list:
        return f"list of {_type(args[0])}"
    if origin is dict:
        kind = _type(args[1])
        return f"table of {kind}{'s' * (kind != 'text')}"
    if origin is tuple:
        return f"two {_type(args[0])}s"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}[
        annotation.__name__
    ]


def inputs_page() -> str:
    """Every key of inputs.toml, from the models that check it."""
    parts = [
        "# inputs.toml\n",
        NOTE,
        "What is put into a model that no dataset feeds: `assay variant add FILE --inputs "
        "inputs.toml`. How to write one is in [models](../models.md). Unknown keys are errors, and "
        "all errors are reported at once with their path into the file.\n",
        "```toml\n" + (Path(__file__).parent / "examples/inputs.toml").read_text() + "```\n",
    ]
    for title, model in inputs_file.pages():
        parts += [f"## {title}\n", *_keys(model), ""]
    return "\n".join(parts)


def reasons_page() -> str:
    """Every reason of a verdict, from the catalogue."""
    title, rest = reference().split("\n\n", 1)
    return f"{title}\n\n{NOTE}\n{rest}"


def result_schema_page() -> str:
    """The JSON Schema of exported results."""
    return json.dumps(result_schema(), indent=1) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "inputs.md": inputs_page,
    "metrics.md": metrics_page,
    "reasons.md": reasons_page,
    "result.schema.json": result_schema_page,
    "sweep-file.md": sweep_page,
}


def main(check: bool) -> int:
    """Writes the pages, or returns 1 if one is not what the code says."""
    stale = []
    for name, write in PAGES.items():
        path, text = REFERENCE / name, write()
        if check and (not path.exists() or path.read_text() != text):
            stale.append(name)
        elif not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for name in stale:
        print(
            f"error: docs/reference/{name} is not what the code says; run make docs",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
