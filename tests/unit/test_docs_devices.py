"""A page per board and phone, each with what the samplers themselves say."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.agent.samplers import all_samplers
from tests.boards import names
from tests.collection import load
from tests.conftest import REPOSITORY

boards = load("docs/boards.py")
PAGES: list[Path] = boards.pages()


def test_every_composed_board_has_its_page() -> None:
    told = [board for page in PAGES for board in boards.boards_of(page.read_text())]
    # The bare one is no board: it stands for whatever is missing.
    assert sorted(told) == [name for name in names() if name != "bare"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_what_the_samplers_say(page: Path) -> None:
    text = page.read_text()
    assert boards.written(text) == text, "run python docs/boards.py"
    assert all(
        text.count(f"| `{name}` |") == len(boards.boards_of(text)) for name in all_samplers()
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_was_never_run(page: Path) -> None:
    assert "\n## Never run\n" in page.read_text() and "\n## What is measured\n" in page.read_text()


def test_the_overview_names_every_page() -> None:
    overview = (REPOSITORY / "docs/devices.md").read_text()
    assert all(f"devices/{page.name})" in overview for page in PAGES)
