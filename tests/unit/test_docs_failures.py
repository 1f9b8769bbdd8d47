"""The pages that name tests name tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("failure-modes.md", "security.md", "protocol.md")
NAMED = re.compile(r"`(?:tests/\w+/)?(test_\w+\.py)((?:::\w+)*)`")
BARE = re.compile(r"`(test_[a-z0-9_]+)`")


@cache
def names_in(file: str) -> frozenset[str]:
    """Every test and class of the test file of that name, with ``Class::test`` for methods; empty
    where there is none."""
    found: set[str] = set()
    for path in REPOSITORY.glob(f"tests/*/{file}"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
                found |= {f"{node.name}::{each.name}" for each in methods}
    return frozenset(found)


@cache
def every_name() -> frozenset[str]:
    """Every test of every file, without its class."""
    files = {path.name for path in REPOSITORY.glob("tests/*/test_*.py")}
    return frozenset(name.rpartition("::")[2] for file in files for name in names_in(file))


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_it_names_are_there(page: str) -> None:
    text = (REPOSITORY / "docs" / page).read_text()
    named = NAMED.findall(text)
    assert named, "nothing is named, or not as this test reads it"
    missing = [file + place for file, place in named if not names_in(file)]
    missing += [
        file + place for file, place in named if place and place.strip(":") not in names_in(file)
    ]
    missing += [name for name in BARE.findall(text) if name not in every_name()]
    assert missing == []
