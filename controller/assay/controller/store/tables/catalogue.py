"""Datasets and variants: what is measured, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from assay.controller.records import DatasetRecord, VariantFile, VariantRecord
from assay.controller.store.codec import from_jsonable
from assay.controller.store.schema import datasets, variants
from assay.core.digest import short
from assay.core.errors import AlreadyExists, NotFound
from assay.core.jsonable import jsonable
from assay.core.model import ArtifactRef


def add_dataset(tx: Connection, dataset: DatasetRecord) -> None:
    """Adding the same content again is no error."""
    row = tx.execute(select(datasets).where(datasets.c.name == dataset.name)).first()
    if row is None:
        tx.execute(
            insert(datasets).values(
                name=dataset.name,
                source=dataset.source,
                classes=list(dataset.classes),
                splits=jsonable(dataset.splits),
                counts=dict(dataset.counts),
                preprocessing_json=dataset.preprocessing_json,
                added_ns=dataset.added_ns,
            )
        )
        return
    held = _dataset(row)
    if replace(dataset, added_ns=held.added_ns, source=held.source) != held:
        raise AlreadyExists(
            f"a dataset named {dataset.name!r} with other content is there; choose another name"
        )


def all_datasets(tx: Connection) -> list[DatasetRecord]:
    """By name."""
    return [_dataset(row) for row in tx.execute(select(datasets).order_by(datasets.c.name))]


def dataset(tx: Connection, name: str) -> DatasetRecord:
    """One dataset."""
    row = tx.execute(select(datasets).where(datasets.c.name == name)).first()
    if row is None:
        raise NotFound(f"no dataset {name!r}; `assay dataset list` names them")
    return _dataset(row)


def add_variant(tx: Connection, variant: VariantRecord) -> None:
    """Same id: files and notes are merged in; same name with another id: AlreadyExists."""
    _refuse_taken_name(tx, variant)
    held = _by_id(tx, variant.variant_id)
    if held is None:
        _insert(tx, variant)
        return
    files = {**held.files, **variant.files}
    _put(tx, replace(held, files=files, notes={**held.notes, **variant.notes}))


def replace_variant(tx: Connection, variant: VariantRecord) -> None:
    """Gives the name to this record; see :meth:`Store.replace_variant`."""
    owner = tx.execute(select(variants).where(variants.c.name == variant.name)).first()
    if owner is not None and owner.variant_id != variant.variant_id:
        former = f"{variant.name}@{short(owner.variant_id)}"
        tx.execute(
            update(variants).where(variants.c.variant_id == owner.variant_id).values(name=former)
        )
    if _by_id(tx, variant.variant_id) is None:
        _insert(tx, variant)
    else:
        _put(tx, variant)


def all_variants(tx: Connection) -> list[VariantRecord]:
    """Oldest first."""
    rows = tx.execute(select(variants).order_by(variants.c.created_ns, variants.c.name))
    return [_variant(row) for row in rows]


def variant(tx: Connection, name_or_id: str) -> VariantRecord:
    """One variant; the id wins over a name that looks like one."""
    for column in (variants.c.variant_id, variants.c.name):
        row = tx.execute(select(variants).where(column == name_or_id)).first()
        if row is not None:
            return _variant(row)
    raise NotFound(f"no variant {name_or_id!r}; `assay variant list` names them")


def _refuse_taken_name(tx: Connection, variant: VariantRecord) -> None:
    owner = tx.execute(select(variants.c.variant_id).where(variants.c.name == variant.name))
    owner_id = owner.scalar()
    if owner_id is not None and owner_id != variant.variant_id:
        raise AlreadyExists(
            f"a variant named {variant.name!r} is there with another content "
            f"({short(owner_id)}); choose another name, or replace it"
        )


def _by_id(tx: Connection, variant_id: str) -> VariantRecord | None:
    row = tx.execute(
        select(variants).where(variants.c.variant_id == variant_id).with_for_update()
    ).first()
    return None if row is None else _variant(row)


def _insert(tx: Connection, variant: VariantRecord) -> None:
    tx.execute(insert(variants).values(variant_id=variant.variant_id, **_values(variant)))


def _put(tx: Connection, variant: VariantRecord) -> None:
    tx.execute(
        update(variants)
        .where(variants.c.variant_id == variant.variant_id)
        .values(**_values(variant))
    )


def _values(variant: VariantRecord) -> dict[str, Any]:
    return {
        "name": variant.name,
        "model": variant.model,
        "dataset": variant.dataset,
        "origin": variant.origin,
        "identity": dict(variant.identity),
        "files": jsonable(variant.files),
        "notes": dict(variant.notes),
        "created_ns": variant.created_ns,
    }


def _variant(row: Row[Any]) -> VariantRecord:
    return VariantRecord(
        variant_id=row.variant_id,
        name=row.name,
        model=row.model,
        dataset=row.dataset,
        origin=row.origin,
        identity=row.identity,
        files=_map(row.files, VariantFile),
        notes=row.notes,
        created_ns=row.created_ns,
    )


def _dataset(row: Row[Any]) -> DatasetRecord:
    return DatasetRecord(
        name=row.name,
        source=row.source,
        classes=tuple(row.classes),
        splits=_map(row.splits, ArtifactRef),
        counts=row.counts,
        preprocessing_json=row.preprocessing_json,
        added_ns=row.added_ns,
    )


def _map(values: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    return {key: from_jsonable(value, cls) for key, value in values.items()}
