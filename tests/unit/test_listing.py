"""What a listing does with text from elsewhere."""

from __future__ import annotations

import pytest

from assay.core.listing import print_rows


def test_what_a_device_says_cannot_move_a_cursor_in_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"name": "a\x1b[2J\x07", "parts": ["b\x9b1m", "c"], "note": "[bold]d"}]
    print_rows(rows, ["name", "parts", "note"], "table")
    shown = capsys.readouterr().out
    assert not set("\x1b\x07\x9b") & set(shown)
    assert "a�[2J�" in shown and "b�1m c" in shown and "[bold]d" in shown
