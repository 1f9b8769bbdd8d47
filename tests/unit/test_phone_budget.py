"""A phone's bytes of a day: kept over restarts, never too few, new with each day."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.agent.cli import agent
from assay.agent.phones.budget import DailyBudget
from assay.core.errors import DiskFull

DAY_S = 86_400.0


def budget(folder: Path, now_s: float = DAY_S, limit: int | None = 100) -> DailyBudget:
    return DailyBudget(folder / "home/sent.json", limit, lambda: now_s)


def test_it_is_kept_over_restarts(tmp_path: Path) -> None:
    budget(tmp_path).charge(60)
    assert budget(tmp_path).spent_bytes() == 60
    with pytest.raises(DiskFull, match="60 are sent"):
        budget(tmp_path).charge(41)
    budget(tmp_path).charge(40)


def test_what_was_not_sent_is_given_back(tmp_path: Path) -> None:
    one = budget(tmp_path)
    one.charge(100)
    one.give_back(70)
    assert one.spent_bytes() == 30


def test_a_new_day_is_a_new_budget(tmp_path: Path) -> None:
    budget(tmp_path).charge(100)
    assert budget(tmp_path, 2 * DAY_S - 1).spent_bytes() == 100
    budget(tmp_path, 2 * DAY_S).charge(100)


def test_without_a_limit_it_only_counts(tmp_path: Path) -> None:
    budget(tmp_path, limit=None).charge(10**12)
    assert budget(tmp_path).spent_bytes() == 10**12


@pytest.mark.parametrize("kept", ["", "[]", "{}", '{"day": "1970-01-02", "bytes": "many"}'])
def test_a_file_that_is_broken_counts_as_empty(tmp_path: Path, kept: str) -> None:
    one = budget(tmp_path)
    one.charge(1)
    one.file.write_text(kept)
    assert one.spent_bytes() == 0


def test_a_budget_that_is_no_size_is_named() -> None:
    done = CliRunner().invoke(agent, ["phones", "run", "--daily-bytes", "lots"])
    assert done.exit_code == 2 and "'lots' is not a size" in done.output
