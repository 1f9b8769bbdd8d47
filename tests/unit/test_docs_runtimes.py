"""The page of the runtimes names each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.agent.runtimes import names, runtime
from assay.controller.canary import canary_variant
from assay.core.cas import ContentStore
from assay.core.model.formats import FORMATS, Format
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/runtimes.md").read_text()


@pytest.mark.parametrize("name", names())
def test_a_runtime_has_its_row(name: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {name} | `.")]
    assert f"`{runtime(name).media_type}`" in row


@pytest.mark.parametrize("name", names())
def test_a_runtime_says_what_it_tells_of_its_operators(name: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| {name} | ")]
    assert len(rows) == 2


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.runtime)
def test_the_table_of_formats_and_the_runtimes_agree(known: Format) -> None:
    assert runtime(known.runtime).name == known.runtime
    assert runtime(known.runtime).media_type == known.media_type


def test_what_sweeps_may_name_has_a_canary(tmp_path: Path) -> None:
    canary = canary_variant(ContentStore(tmp_path))
    assert set(canary.files) == {known.media_type for known in FORMATS if known.swept}
