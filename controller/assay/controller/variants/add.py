"""Takes models made elsewhere: checks that they load, run and fit their inputs, registers them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from assay.controller.datasets.base import OnProgress, silent
from assay.controller.records import DatasetRecord, VariantRecord
from assay.controller.store.base import Store
from assay.controller.variants import publish
from assay.controller.variants.orders import FilesOrder, read_file_reports
from assay.controller.variants.own_inputs import Declared
from assay.controller.variants.process import BuildProcesses, build_folder
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import BuildFailed, NotFound, RuntimeRejected, UsageError

TIME_BOX_S = 120.0
"""How long loading a model, or one inference of it, may take on the controller."""

_FORMATS = {".onnx": "onnx", ".tflite": "tflite"}


def add_variant(
    paths: Sequence[Path],
    name: str,
    model: str,
    source: DatasetRecord | Declared,
    store: Store,
    blobs: ContentStore,
    progress: OnProgress = silent,
    time_box_s: float = TIME_BOX_S,
    operators: Path | None = None,
    signature: str = "",
) -> VariantRecord:
    """The variant of these files, one per format (.onnx, .tflite), named by their content.

    Each file is loaded and run in a process of its own, since a damaged one can take the runtime
    down: on samples of a dataset, or on inputs as they are declared. :class:`RuntimeRejected` where
    that fails or says nothing for ``time_box_s``, :class:`WorkerOom` where it takes too much
    memory, :class:`NotFound` where ``operators``, a library of operators, is not there,
    :class:`BadInputs` and :class:`UsageError` where the inputs do not fit or the .tflite file has
    no such ``signature``,
    :class:`AlreadyExists` where the name belongs to another variant.
    """
    sources = _by_format(paths)
    if signature and "tflite" not in sources:
        raise UsageError(f"--signature {signature}: only .tflite files have signatures")
    library = _library(operators)
    processes = BuildProcesses()
    order = replace(files_order(sources, source, blobs, library), signature=signature)
    with build_folder() as folder:
        try:
            processes.run(
                order,
                folder,
                lambda done, note: progress(name, done, order.units, note),
                silence_s=time_box_s,
            )
        except BuildFailed as error:
            listed = ", ".join(str(path) for path in paths)
            raise RuntimeRejected(f"{listed}: loading it ended badly: {error}") from error
        finally:
            processes.close()
        state = source.state if isinstance(source, Declared) else {}
        files, notes = publish.publish_files(blobs, read_file_reports(folder), state)
    formats = {media: short for short, media in publish.MEDIA.items()}
    identity: dict[str, object] = {
        "files": {formats[media]: file.artifact.digest for media, file in sorted(files.items())},
        "name": name,
    }
    if isinstance(source, Declared):
        identity["inputs"] = source.identity()
    if library:
        identity["operators"] = digest.of_file(Path(library))
        notes["operators"] = library
    if signature:
        notes["signature"] = signature
    record = VariantRecord(
        variant_id=digest.of_json(identity),
        name=name,
        model=model,
        dataset="" if isinstance(source, Declared) else source.name,
        origin="added",
        identity=identity,
        files=files,
        notes={"source": ", ".join(path.name for path in paths), **notes},
        created_ns=time.time_ns(),
    )
    store.add_variant(record)
    return store.variant(record.variant_id)


def files_order(
    sources: Mapping[str, Path],
    source: DatasetRecord | Declared,
    blobs: ContentStore,
    operators: str = "",
) -> FilesOrder:
    """The order to run files, by format, on a dataset's samples or on declared inputs."""
    test, preprocessing_json, own_inputs_json = "", "{}", ""
    if isinstance(source, Declared):
        own_inputs_json = source.to_json()
    else:
        test = str(blobs.path(source.splits["test"].digest))
        preprocessing_json = source.preprocessing_json
    return FilesOrder(
        sources={f: str(path.resolve()) for f, path in sources.items()},
        steps=(),
        arithmetic={},
        test=test,
        calibration=None,
        preprocessing_json=preprocessing_json,
        own_inputs_json=own_inputs_json,
        operators=operators,
    )


def _library(operators: Path | None) -> str:
    if operators is None:
        return ""
    if not operators.is_file():
        raise NotFound(f"{operators}: no such library of operators")
    return str(operators.resolve())


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
