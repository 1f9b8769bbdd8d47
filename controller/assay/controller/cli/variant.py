"""``assay variant``: models and what recipes make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import UsageError
from assay.core.jsonable import jsonable
from assay.core.listing import format_option, print_rows

if TYPE_CHECKING:
    from assay.controller.records import DatasetRecord, VariantRecord
    from assay.controller.variants.models import OwnModel
    from assay.controller.variants.own_inputs import Declared

_COLUMNS = ("name", "model", "formats", "parameters", "macs", "bytes", "transfer_bytes", "id")
_FILE_COLUMNS = (
    *("format", "bytes", "transfer_bytes", "parameters", "macs", "operators", "tolerance"),
    "digest",
)


@click.group()
def variant() -> None:
    """Models and what recipes make of them."""


@variant.command("list")
@click.option("--model", help="Only variants of this model.")
@format_option
def list_command(model: str | None, output_format: str) -> None:
    """List the variants; figures are of the first file (ONNX where there is one)."""
    records = open_store(Home.default()).variants()
    rows = [_row(record) for record in records if model in (None, record.model)]
    print_rows(rows, _COLUMNS, output_format)


@variant.command("show")
@click.argument("name")
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table")
def show_command(name: str, output_format: str) -> None:
    """Show variant NAME (or its id): recipe, files and what they cost."""
    record = open_store(Home.default()).variant(name)
    if output_format == "json":
        click.echo(json.dumps(jsonable(record), indent=2))
        return
    for key, value in _description(record).items():
        click.echo(f"{key}: {value}")
    click.echo()
    print_rows(_file_rows(record), _FILE_COLUMNS, "table")


@variant.command("build")
@click.argument("recipes", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dataset", "--data", "dataset_name", default="fashion-mnist", show_default=True)
@click.option(
    "--model",
    help="package.module:factory of your own torch module, in place of the recipes' model.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Its weights: a state_dict as .pt, .npz or .safetensors; the factory's unless given.",
)
@click.option("--jobs", type=click.IntRange(1, 64), help="Builds at a time, one thread each.")
@click.option("--dry-run", is_flag=True, help="Only check the recipes.")
def build_command(
    recipes: tuple[Path, ...],
    dataset_name: str,
    model: str | None,
    weights: Path | None,
    jobs: int | None,
    dry_run: bool,
) -> None:
    """Build variants from RECIPES, TOML files; `demo` means all recipes of the demo.

    A model of your own is looked for in the current folder, the recipe's folder and among what is
    installed. What was built before from the same recipe, data and tools is not built again.
    """
    from assay.controller.cli.bars import bars
    from assay.controller.demo_model import demo_recipes
    from assay.controller.variants import build_variants
    from assay.controller.variants.recipe import load_recipe

    paths = [p for r in recipes for p in (demo_recipes() if r == Path("demo") else [r])]
    own = _own_model(model, weights, paths)
    for path in paths:
        load_recipe(path, own)
    if dry_run:
        click.echo(f"{len(paths)} recipes are sound", err=True)
        return
    home = Home.default()
    store = open_store(home)
    with bars() as progress:
        records = build_variants(
            paths,
            store.dataset(dataset_name),
            store,
            ContentStore(home.artifacts),
            progress,
            jobs=jobs,
            own=own,
        )
    print_rows([_row(record) for record in records], _COLUMNS, "table")


@variant.command("add")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What to call the variant.")
@click.option("--dataset", "--data", "dataset_name", help="The dataset it is measured with.")
@click.option(
    "--inputs",
    "inputs_file",
    type=click.Path(path_type=Path),
    help="inputs.toml: sizes, ranges, real values, state; for models that no dataset feeds.",
)
@click.option("--model", help="The model it is a variant of; its own name unless given.")
@click.option(
    "--operators",
    type=click.Path(path_type=Path),
    help="A library of the model's own operators for ONNX Runtime, built for this machine.",
)
@click.option(
    "--signature",
    default="",
    help="Which signature of a .tflite file; the file's first subgraph unless given.",
)
@click.option(
    "--time-box",
    type=click.FloatRange(1, 86_400),
    default=120,
    show_default=True,
    help="Seconds that loading it, or one inference, may take here.",
)
def add_command(
    files: tuple[Path, ...],
    name: str,
    dataset_name: str | None,
    inputs_file: Path | None,
    model: str | None,
    operators: Path | None,
    signature: str,
    time_box: float,
) -> None:
    """Add a model made elsewhere: an .onnx file, a .tflite file, or one of each.

    Each is loaded and run first: on samples of the dataset, or on the inputs that inputs.toml
    declares. With neither, its inputs are made up from their shapes and types, and results over
    them are labelled synthetic_input. External data is taken along.
    """
    from assay.controller.cli.bars import bars
    from assay.controller.variants.add import add_variant
    from assay.controller.variants.inputs_file import load_inputs
    from assay.controller.variants.own_inputs import Declared

    if dataset_name and inputs_file:
        raise UsageError("--dataset and --inputs exclude each other: both say what a model is fed")
    home = Home.default()
    store = open_store(home)
    if dataset_name:
        source: DatasetRecord | Declared = store.dataset(dataset_name)
    else:
        source = load_inputs(inputs_file) if inputs_file else Declared()
    with bars() as progress:
        record = add_variant(
            files,
            name,
            model or name,
            source,
            store,
            ContentStore(home.artifacts),
            progress,
            time_box,
            operators,
            signature,
        )
    print_rows([_row(record)], _COLUMNS, "table")


def _own_model(model: str | None, weights: Path | None, recipes: list[Path]) -> OwnModel | None:
    from assay.controller.own_code.reference import parse_reference
    from assay.controller.variants.models import OwnModel

    if model is None:
        if weights is not None:
            raise UsageError("--weights goes with --model package.module:factory")
        return None
    folders = [Path.cwd(), *(path.resolve().parent for path in recipes)]
    return OwnModel(parse_reference(model, folders), weights.resolve() if weights else None)


def _row(record: VariantRecord) -> dict[str, Any]:
    costs = [record.files[media].cost for media in sorted(record.files)]
    cost = costs[0] if costs else None
    return {
        "name": record.name,
        "model": record.model,
        "dataset": record.dataset,
        "origin": record.origin,
        "formats": [media.partition("/")[2] for media in sorted(record.files)],
        "parameters": cost.parameters if cost else None,
        "macs": cost.macs if cost else None,
        "bytes": cost.file_bytes if cost else None,
        "transfer_bytes": cost.transfer_bytes if cost else None,
        "id": digest.short(record.variant_id),
        "variant_id": record.variant_id,
        "notes": dict(record.notes),
    }


def _description(record: VariantRecord) -> dict[str, str]:
    pipeline = record.identity.get("pipeline")
    steps = [_step(step) for step in pipeline] if isinstance(pipeline, list) else []
    return {
        "name": record.name,
        "id": record.variant_id,
        "model": record.model,
        "dataset": record.dataset,
        "origin": record.origin,
        "recipe": " → ".join(steps) or "-",
        **{f"note {key}": value for key, value in sorted(record.notes.items())},
    }


def _step(step: dict[str, Any]) -> str:
    given = {key: value for key, value in step.items() if key not in ("use", "version")}
    inside = ", ".join(f"{key} {value}" for key, value in given.items())
    return f"{step['use']}({inside})" if inside else str(step["use"])


def _file_rows(record: VariantRecord) -> list[dict[str, Any]]:
    return [
        {
            "format": media.partition("/")[2],
            "bytes": file.cost.file_bytes,
            "transfer_bytes": file.cost.transfer_bytes,
            "parameters": file.cost.parameters,
            "macs": file.cost.macs,
            "operators": [f"{name}×{count}" for name, count in file.cost.operators.items()],
            "tolerance": f"{file.golden.rtol:g} + {file.golden.atol:.3g}" if file.golden else None,
            "digest": digest.short(file.artifact.digest),
        }
        for media, file in sorted(record.files.items())
    ]
