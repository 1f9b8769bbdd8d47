"""Variants with inputs of their own, at the sizes a sweep asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.controller.records import VariantFile, VariantRecord
from assay.controller.variants import publish
from assay.controller.variants.add import TIME_BOX_S, files_order
from assay.controller.variants.orders import read_file_reports
from assay.controller.variants.own_inputs import Declared
from assay.controller.variants.process import BuildProcesses, build_folder
from assay.core import bundle
from assay.core.cas import ContentStore
from assay.core.errors import (
    BadInputs,
    BuildFailed,
    RuntimeRejected,
    SpecError,
    UsageError,
    WorkerOom,
)
from assay.core.model import MEDIA_ONNX

_REFUSALS = (BadInputs, BuildFailed, RuntimeRejected, UsageError, WorkerOom)


def at_dims(
    variants: Sequence[VariantRecord], dims: Mapping[str, int], blobs: ContentStore, source: str
) -> list[VariantRecord]:
    """The variants with inputs and golden outputs of these sizes, where a model leaves them open;
    others as they are. :class:`SpecError`, in the name of ``source``, for sizes that no model has
    and where a model does not run with them."""
    unknown = sorted(set(dims) - {name for variant in variants for name in _open(variant)})
    if unknown:
        problem = "no variant with inputs of its own has such an open dimension"
        raise SpecError(source, [f"dims.{name}: {problem}" for name in unknown])
    return [_resized(variant, dims, blobs, source) for variant in variants]


def _resized(
    variant: VariantRecord, dims: Mapping[str, int], blobs: ContentStore, source: str
) -> VariantRecord:
    files = dict(variant.files)
    for media, file in variant.files.items():
        told = _made(file)
        wanted = {name: size for name, size in dims.items() if name in told.get("open", ())}
        if any(told["dims"].get(name) != size for name, size in wanted.items()):
            try:
                files[media] = _file_at(variant, media, wanted, blobs)
            except _REFUSALS as error:
                asked = ", ".join(f"{name}={size}" for name, size in wanted.items())
                raise SpecError(source, [f"dims: {variant.name} at {asked}: {error}"]) from error
    return replace(variant, files=files)


def _file_at(
    variant: VariantRecord, media: str, dims: Mapping[str, int], blobs: ContentStore
) -> VariantFile:
    file = variant.files[media]
    assert file.inputs is not None
    kind = next(name for name, known in publish.MEDIA.items() if known == media)
    processes = BuildProcesses()
    with build_folder() as folder:
        model = _unpacked(blobs.path(file.artifact.digest), media, folder)
        declared = _declared(variant, file, dims, blobs)
        order = files_order({kind: model}, declared, blobs, variant.notes.get("operators", ""))
        try:
            processes.run(order, folder, lambda _done, _note: None, silence_s=TIME_BOX_S)
        finally:
            processes.close()
        made, _ = publish.publish_files(blobs, read_file_reports(folder), declared.state)
    return replace(file, golden=made[media].golden, inputs=made[media].inputs)


def _declared(
    variant: VariantRecord, file: VariantFile, dims: Mapping[str, int], blobs: ContentStore
) -> Declared:
    """What was declared when the variant was added; real values lie in its inputs by now."""
    assert file.inputs is not None
    told = json.loads(json.dumps(variant.identity["inputs"]))
    held = str(blobs.path(file.inputs.artifact.digest))
    told["files"] = {
        name: {"path": held, "array": name, "digest": one["digest"]}
        for name, one in told["files"].items()
    }
    declared = Declared.from_json(json.dumps(told))
    return replace(declared, dims={**declared.dims, **dims})


def _unpacked(held: Path, media: str, folder: Path) -> Path:
    """The model under a name of its kind, with its external data beside it."""
    place = folder / "model"
    place.mkdir()
    if media == MEDIA_ONNX and bundle.is_bundle(held):
        return bundle.unpack(held, place)
    model = place / f"model.{media.rpartition('/')[2]}"
    model.symlink_to(held.resolve())
    return model


def _open(variant: VariantRecord) -> set[str]:
    return {name for file in variant.files.values() for name in _made(file).get("open", ())}


def _made(file: VariantFile) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.inputs.made_json) if file.inputs else {}
    return found
