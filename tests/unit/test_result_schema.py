"""Exported results are what their published schema says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from assay.controller.exporting.export import SCHEMA, export_results
from assay.controller.exporting.schema import result_schema
from assay.core.cas import ContentStore
from tests.conftest import REPOSITORY
from tests.factories import SHAPES, make_cell, make_energy, make_failure, make_result, make_sweep

PUBLISHED = REPOSITORY / "docs/reference/result.schema.json"


@pytest.fixture
def document(tmp_path: Path) -> Any:
    blobs = ContentStore(tmp_path / "artifacts")
    data = make_sweep(shapes=SHAPES[2:4], rounds=2, blobs=blobs, scratch=tmp_path)
    records = [
        *data.results,
        make_result(energy=make_energy()),
        make_failure(make_cell()),
    ]
    path = tmp_path / "r.json"
    export_results(records, data.variants, "json", path, samples_from=blobs)
    return json.loads(path.read_text())


def measured(document: Any) -> Any:
    """A result of a run that came to its end."""
    return next(one["result"] for one in document["results"] if one["result"]["latency"])


def test_what_is_exported_fits_the_schema(document: Any) -> None:
    Draft202012Validator.check_schema(result_schema())
    errors = [str(error) for error in Draft202012Validator(result_schema()).iter_errors(document)]
    assert errors == []
    assert any("samples" in one for one in document["results"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict", "kind"), "fine"),
        (("latency", "p50_ns"), "fast"),
        (("energy",), 0),
        (("run", "runtime", "threads"), 1.5),
    ],
)
def test_what_is_not_a_result_does_not(document: Any, path: tuple[str, ...], value: object) -> None:
    *parents, name = path
    part = measured(document)
    for parent in parents:
        part = part[parent]
    part[name] = value
    (error, *_) = Draft202012Validator(result_schema()).iter_errors(document)
    assert error


def test_a_field_of_a_later_minor_version_is_no_fault(document: Any) -> None:
    measured(document)["latency"]["p42_ns"] = 1.0
    assert Draft202012Validator(result_schema()).is_valid(document)


def test_the_published_schema_is_the_one_of_the_code() -> None:
    published = json.loads(PUBLISHED.read_text())
    assert published == result_schema()
    assert published["properties"]["schema"]["const"] == SCHEMA
