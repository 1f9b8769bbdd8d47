"""Takes models made elsewhere: checks that they load, run and fit the dataset, registers them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from assay.controller.datasets.base import OnProgress, silent
from assay.controller.records import DatasetRecord, VariantRecord
from assay.controller.store.base import Store
from assay.controller.variants import publish
from assay.controller.variants.orders import FilesOrder, read_file_reports
from assay.controller.variants.process import BuildProcesses, build_folder
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import BuildFailed, NotFound, RuntimeRejected, UsageError

_FORMATS = {".onnx": "onnx", ".tflite": "tflite"}


def add_variant(
    paths: Sequence[Path],
    name: str,
    model: str,
    dataset: DatasetRecord,
    store: Store,
    blobs: ContentStore,
    progress: OnProgress = silent,
) -> VariantRecord:
    """The variant of these files, one per format (.onnx, .tflite), named by their content.

    Each file is loaded and run on samples of the dataset in a process of its own, since a damaged
    one can take the runtime down. :class:`RuntimeRejected` where that fails, :class:`BadInputs`
    where the samples do not fit, :class:`AlreadyExists` where the name belongs to another variant.
    """
    sources = _by_format(paths)
    identity: dict[str, object] = {
        "files": {f: digest.of_file(path) for f, path in sorted(sources.items())},
        "name": name,
    }
    order = FilesOrder(
        sources={f: str(path.resolve()) for f, path in sources.items()},
        steps=(),
        arithmetic={},
        test=str(blobs.path(dataset.splits["test"].digest)),
        calibration=None,
        preprocessing_json=dataset.preprocessing_json,
    )
    processes = BuildProcesses()
    with build_folder() as folder:
        try:
            processes.run(order, folder, lambda done, note: progress(name, done, order.units, note))
        except BuildFailed as error:
            listed = ", ".join(str(path) for path in paths)
            raise RuntimeRejected(f"{listed}: loading it ended badly: {error}") from error
        finally:
            processes.close()
        files, notes = publish.publish_files(blobs, read_file_reports(folder))
    record = VariantRecord(
        variant_id=digest.of_json(identity),
        name=name,
        model=model,
        dataset=dataset.name,
        origin="added",
        identity=identity,
        files=files,
        notes={"source": ", ".join(path.name for path in paths), **notes},
        created_ns=time.time_ns(),
    )
    store.add_variant(record)
    return store.variant(record.variant_id)


def _by_format(paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        file_format = _FORMATS.get(path.suffix.lower())
        if file_format is None:
            raise UsageError(f"{path}: neither .onnx nor .tflite")
        if not path.is_file():
            raise NotFound(f"{path}: no such file")
        if file_format in found:
            other = found[file_format]
            raise UsageError(f"{path}: a variant has one file per format, and {other} is one")
        found[file_format] = path
    return found
