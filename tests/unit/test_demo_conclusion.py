"""How the demo ends: with the truth about its results, and a status that means something."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from assay.controller.comparing.summary import summarise
from assay.controller.demo.job import conclude
from assay.core.errors import EXIT_PARTIAL, Partial
from tests.factories import SUSPECT, make_sweep


def test_everything_valid_needs_no_word() -> None:
    talk = Console(file=io.StringIO())
    conclude(summarise(make_sweep(spoil=False)), talk)
    assert talk.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_result_that_does_not_hold_is_named_where_every_cell_still_ranks() -> None:
    data = make_sweep(spoil=False)
    spoiled = replace(data.results[0], result=replace(data.results[0].result, verdict=SUSPECT))
    talk = Console(file=io.StringIO(), width=1000)
    conclude(summarise(replace(data, results=(spoiled, *data.results[1:]))), talk)
    said = talk.file.getvalue()  # type: ignore[attr-defined]
    assert "note: 1 of 48 results are not VALID because" in said
    assert "--retry" in said


def test_a_cell_without_any_valid_result_makes_the_demo_partial() -> None:
    with pytest.raises(Partial, match="cells have no VALID result: 9 of 48 results") as caught:
        conclude(summarise(make_sweep()), Console(file=io.StringIO()))
    assert caught.value.meaning.exit_code == EXIT_PARTIAL
