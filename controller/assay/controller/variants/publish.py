"""Puts finished files into the content store and their record into the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from assay.controller.records import StaticCost, VariantFile, VariantRecord
from assay.controller.store.base import Store
from assay.controller.variants.orders import FileReport
from assay.core.cas import ContentStore
from assay.core.errors import NotFound
from assay.core.model import MEDIA_NPZ, GoldenSpec, InputSpec
from assay.core.model.formats import FORMATS

MEDIA: Mapping[str, str] = MappingProxyType(
    {known.suffix.removeprefix("."): known.media_type for known in FORMATS if known.swept}
)
"""Format of a recipe → media type, by which a record names its files."""

_NO_STATE: Mapping[str, str] = MappingProxyType({})


def held_formats(store: Store, blobs: ContentStore, variant_id: str) -> frozenset[str]:
    """The formats of a variant that are registered and whose artifacts are held."""
    try:
        record = store.variant(variant_id)
    except NotFound:
        return frozenset()
    return frozenset(
        name
        for name, media in MEDIA.items()
        if media in record.files and _is_held(blobs, record.files[media])
    )


def publish_files(
    blobs: ContentStore, reports: Mapping[str, FileReport], state: Mapping[str, str] = _NO_STATE
) -> tuple[dict[str, VariantFile], dict[str, str]]:
    """Stores the files of a build, by media type, with notes named ``<format>.<note>``; ``state``
    is what models with inputs of their own pass on."""
    files: dict[str, VariantFile] = {}
    notes: dict[str, str] = {}
    for name, report in reports.items():
        media = MEDIA[name]
        golden = blobs.add_file(Path(report.golden), MEDIA_NPZ)
        artifact = blobs.add_file(Path(report.path), media)
        cost = StaticCost(
            parameters=report.parameters,
            macs=report.macs,
            file_bytes=artifact.size_bytes,
            transfer_bytes=report.transfer_bytes,
            operators=report.operators,
        )
        spec = GoldenSpec(golden, report.rtol, report.atol)
        files[media] = VariantFile(artifact, cost, spec, _own_inputs(blobs, report, state))
        notes |= {f"{name}.{key}": value for key, value in report.notes.items()}
    return files, notes


def register(store: Store, record: VariantRecord) -> None:
    """Adds the record or its new files, and gives it its name whoever had that before."""
    try:
        known = store.variant(record.variant_id)
    except NotFound:
        store.replace_variant(record)
        return
    merged = replace(
        record,
        files={**known.files, **record.files},
        notes={**known.notes, **record.notes},
        created_ns=known.created_ns,
    )
    store.replace_variant(merged)


def claim_name(store: Store, variant_id: str, name: str) -> VariantRecord:
    """The variant under ``name``: it may have lost it to another version of its recipe since."""
    record = store.variant(variant_id)
    if record.name != name:
        record = replace(record, name=name)
        store.replace_variant(record)
    return record


def _own_inputs(
    blobs: ContentStore, report: FileReport, state: Mapping[str, str]
) -> InputSpec | None:
    if not report.inputs:
        return None
    held = blobs.add_file(Path(report.inputs), MEDIA_NPZ)
    return InputSpec(report.dataset, held, state=dict(state), made_json=report.made_json)


def _is_held(blobs: ContentStore, file: VariantFile) -> bool:
    held = blobs.has(file.artifact.digest)
    return held and (file.golden is None or blobs.has(file.golden.artifact.digest))
