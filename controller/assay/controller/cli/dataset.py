"""``assay dataset``: real samples to measure with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.errors import UsageError
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


@dataset.command("add")
@click.argument("what", nargs=-1, required=True)
@click.option("--name", help="What to call it; needed for files.")
@click.option("--classes", help="Names of the classes, with commas between; else 0, 1, 2, ...")
@click.option(
    "--preprocessing",
    help="From a stored sample to the model's input: a JSON object, see docs/datasets.md.",
)
def add_command(
    what: tuple[str, ...], name: str | None, classes: str | None, preprocessing: str | None
) -> None:
    """Add a dataset: `fashion-mnist`, or files.

    Files are one .npz (x, y, or x_train, y_train, x_test, y_test), two IDX files (images, labels),
    or four (train images, train labels, test images, test labels). Nothing is sent anywhere.
    """
    from assay.controller.cli.bars import bars

    home = Home.default()
    store, blobs = open_store(home), ContentStore(home.artifacts)
    with bars() as progress:
        if what == (_FASHION_MNIST,):
            if name or classes or preprocessing:
                raise UsageError(f"{_FASHION_MNIST} comes with its name, classes and preprocessing")
            from assay.controller.datasets.fashion_mnist import prepare_fashion_mnist

            record = prepare_fashion_mnist(store, blobs, progress)
        else:
            from assay.controller.datasets.files import add_files

            if not name:
                raise UsageError("files need a --name")
            record = add_files(
                [Path(path) for path in what],
                name,
                [one.strip() for one in classes.split(",")] if classes else [],
                preprocessing,
                store,
                blobs,
                progress,
            )
    print_rows([_row(record)], _COLUMNS, "table")


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
