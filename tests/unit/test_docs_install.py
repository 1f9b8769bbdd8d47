"""docs/install.md tells of every extra there is, and of none that is not."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_each_extra_has_its_row() -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    section = pyproject.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))
    page = (REPOSITORY / "docs" / "install.md").read_text()
    table = page.partition("| extra | for |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == extras
