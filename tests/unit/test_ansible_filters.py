"""The collection's filters: TOML that TOML readers read, tables, rows of the status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomllib
from hypothesis import given
from hypothesis import strategies as st

from tests.collection import load

text = load("ansible/plugins/filter/text.py")

_PLAIN = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
)
_VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), inner),
    ),
    max_leaves=6,
)


@given(_VALUES)
def test_what_is_written_as_toml_is_read_as_it_was(value: Any) -> None:
    assert tomllib.loads(f"key = {text.toml(value)}\n")["key"] == value


def test_a_table_lines_up_and_shows_what_is_missing() -> None:
    rows = [{"host": "pi", "state": "in sync"}, {"host": "jetson", "state": None}]
    assert text.table(rows, ["host", "state"]).splitlines() == [
        "host    state",
        "pi      in sync",
        "jetson  -",
    ]


_HOST = {
    "releases": {"current": "0.1.0-0123456789ab"},
    "agent": {"name": "pi", "not_after_unix_s": 1_000_000 + 86_400 * 29, "rounds_held": 1},
    "unit": {"ActiveState": "active", "StatusText": "in sync with bench:7401; measuring"},
    "clock_synchronised": True,
    "unix_s": 1_000_000,
}


def test_a_host_becomes_a_row() -> None:
    doctor = '[{"name": "governor", "status": "warn"}, {"name": "python", "status": "ok"}]'
    assert text.status_row(_HOST, doctor) == {
        "device": "pi",
        "version": "0.1.0",
        "state": "in sync with bench:7401; measuring",
        "rounds": 1,
        "certificate": "29 d",
        "clock": "ok",
        "findings": "governor",
    }


@pytest.mark.parametrize(
    ("changed", "column", "shown"),
    [
        ({"unix_s": 2_000_000_000}, "certificate", "ended"),
        ({"agent": {"rounds_held": 0}}, "certificate", "-"),
        ({"agent": {"rounds_held": 0}}, "device", "not enrolled"),
        ({"unit": {"ActiveState": "failed", "StatusText": "in sync"}}, "state", "failed"),
        ({"releases": {"current": ""}}, "state", "not installed"),
        ({"unreachable": True}, "state", "unreachable"),
        ({"clock_synchronised": None}, "clock", "unknown"),
        ({}, "findings", "busy: not asked"),
    ],
)
def test_what_is_wrong_with_a_host_is_shown(
    changed: dict[str, Any], column: str, shown: str
) -> None:
    assert text.status_row({**_HOST, **changed})[column] == shown


def test_a_doctor_that_fails_is_not_taken_for_health() -> None:
    assert text.status_row(_HOST, "Traceback")["findings"] == "the doctor gave no answer"


def test_files_are_copied_under_their_names(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text("groups: []\n")
    assert text.copied_to([str(tmp_path / "alerts.yml")], "/etc/prometheus/assay") == [
        {"path": "/etc/prometheus/assay/alerts.yml", "content": "groups: []\n"}
    ]
