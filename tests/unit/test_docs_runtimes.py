"""The page of the runtimes names each of them."""

from __future__ import annotations

import pytest

from assay.agent.runtimes import names, runtime
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
