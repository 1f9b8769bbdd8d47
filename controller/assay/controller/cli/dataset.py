"""``assay dataset``: real samples to measure with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.errors import NotFound, UsageError
from assay.core.listing import format_option, print_rows

_COLUMNS = ("name", "classes", "train", "calibration", "test", "bytes", "source")
_FASHION_MNIST = "fashion-mnist"


@click.group()
def dataset() -> None:
    """Real samples to measure with."""


@dataset.command("list")
@format_option
def list_command(output_format: str) -> None:
    """List the datasets that are held."""
    rows = [_row(record) for record in open_store(Home.default()).datasets()]
    print_rows(rows, _COLUMNS, output_format)


@dataset.command("kinds")
@format_option
def kinds_command(output_format: str) -> None:
    """List the kinds of datasets that `add` takes, with their options."""
    from assay.controller.datasets.kinds import registered

    rows = [
        {"kind": name, "takes": kind.takes, "options": list(kind.model_fields)}
        for name, kind in registered().items()
    ]
    print_rows(rows, ("kind", "takes", "options"), output_format)


@dataset.command("add")
@click.argument("what", nargs=-1, required=True)
@click.option("--name", help="What to call it; needed unless it is fashion-mnist.")
@click.option("--kind", help="How to read it; guessed unless given, see `assay dataset kinds`.")
@click.option("--option", "options", multiple=True, help="KEY=VALUE, an option of the kind.")
@click.option(
    "--classes", help="Names of the classes, with commas between, or @FILE with one a line."
)
@click.option(
    "--preprocessing",
    help="From a stored sample to the model's input: JSON or @FILE; see docs/datasets.md.",
)
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.2,
    show_default=True,
    help="Share of samples that become the test split where the data brings none.",
)
@click.option(
    "--calibration",
    type=click.IntRange(0, 1_000_000),
    default=256,
    show_default=True,
    help="Samples of the calibration split where the data brings none; a tenth at most.",
)
@click.option(
    "--split-seed",
    type=click.IntRange(0, 2**32 - 1),
    default=20,
    show_default=True,
    help="Draws both.",
)
def add_command(
    what: tuple[str, ...],
    name: str | None,
    kind: str | None,
    options: tuple[str, ...],
    classes: str | None,
    preprocessing: str | None,
    test_share: float,
    calibration: int,
    split_seed: int,
) -> None:
    """Add a dataset: `fashion-mnist`, files, a folder, or a class of your own.

    Taken are an .npz, IDX files, CSV files, a folder with a folder of images or of WAV files for
    each class, and package.module:Class. Nothing is sent anywhere.
    """
    from assay.controller.cli.bars import bars
    from assay.controller.datasets.add import add_dataset, choose_kind
    from assay.controller.datasets.splits import Splitting

    home = Home.default()
    store, blobs = open_store(home), ContentStore(home.artifacts)
    with bars() as progress:
        if what == (_FASHION_MNIST,):
            if name or kind or options or classes or preprocessing:
                raise UsageError(f"{_FASHION_MNIST} comes with its name, classes and preprocessing")
            from assay.controller.datasets.fashion_mnist import prepare_fashion_mnist

            record = prepare_fashion_mnist(store, blobs, progress)
        else:
            if not name:
                raise UsageError("give it a --name")
            record = add_dataset(
                choose_kind(what, kind, _pairs(options)),
                what,
                name,
                _names(classes),
                _text(preprocessing) if preprocessing else None,
                store,
                blobs,
                progress,
                Splitting(split_seed, test_share, calibration),
            )
    print_rows([_row(record)], _COLUMNS, "table")


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UsageError(f"--option {option}: KEY=VALUE is needed")
        found[key.strip()] = value
    return found


def _names(classes: str | None) -> list[str]:
    if not classes:
        return []
    names = _text(classes).splitlines() if classes.startswith("@") else classes.split(",")
    names = [name.strip() for name in names if name.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"--classes names {twice[0]!r} twice")
    return names


def _text(given: str) -> str:
    """What was given, or the content of the file that @ names."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"{given[1:]}: cannot be read: {error.strerror}") from error


def _row(record: Any) -> dict[str, Any]:
    return {
        "name": record.name,
        "classes": len(record.classes),
        **{split: record.counts.get(split) for split in ("train", "calibration", "test")},
        "bytes": sum(ref.size_bytes for ref in record.splits.values()),
        "source": record.source,
        "class_names": list(record.classes),
        "digests": {name: ref.digest for name, ref in record.splits.items()},
        "preprocessing": record.preprocessing_json,
    }
