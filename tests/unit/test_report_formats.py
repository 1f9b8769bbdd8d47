"""The report as Markdown, results as LoadGen's summaries, and the mirror for SQL."""

from __future__ import annotations

import re
import sqlite3
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from assay.controller.comparing.findings import sentences
from assay.controller.comparing.summary import summarise
from assay.controller.exporting.export import export_results
from assay.controller.exporting.mirror import VIEWS, write_mirror
from assay.controller.report import build_markdown, write_report
from assay.core.cas import ContentStore
from assay.core.errors import UsageError
from tests.conftest import REPOSITORY
from tests.factories import SHAPES, FakeStore, make_result, make_sweep


def test_markdown_says_what_the_html_says() -> None:
    data = make_sweep()
    text = build_markdown(FakeStore(data), "demo")  # type: ignore[arg-type]
    for sentence in sentences(summarise(data)):
        assert sentence.lead in text
    rows = [line for line in text.splitlines() if re.match(r"\| (=?\d+|–) \|", line)]
    assert len(rows) == len(summarise(data).rows)
    assert "## Not VALID" in text and "cpu\\_contended" in text
    assert "assay sweep run" in text


def test_markdown_cannot_be_broken_by_a_name() -> None:
    shape = replace(SHAPES[0], name="a|b*<x>")
    text = build_markdown(FakeStore(make_sweep(shapes=[shape], spoil=False)), "demo")  # type: ignore[arg-type]
    assert "a\\|b\\*\\<x\\>" in text and "<x>" not in text.replace("\\<x\\>", "")


def test_a_name_with_md_gives_markdown(tmp_path: Path) -> None:
    store, blobs = FakeStore(make_sweep(shapes=SHAPES[:2])), ContentStore(tmp_path / "blobs")
    write_report(store, blobs, "demo", tmp_path / "r.md")  # type: ignore[arg-type]
    write_report(store, blobs, "demo", tmp_path / "r.html")  # type: ignore[arg-type]
    assert (tmp_path / "r.md").read_text().startswith("# demo\n")
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_summaries_are_in_loadgens_words(tmp_path: Path) -> None:
    data = make_sweep(shapes=SHAPES[:3])
    export_results(data.results, data.variants, "mlperf", tmp_path / "out")
    text = (tmp_path / "out").read_text()
    measured = [r for r in data.results if not r.result.run.canary]
    assert text.count("SUT name : ") == len(measured)
    valid = sum(r.result.verdict.kind.value == "valid" for r in measured)
    assert text.count("Result is : VALID") == valid
    assert text.count("Result is : INVALID") == len(measured) - valid > 0
    first = measured[0].result.latency
    assert first is not None
    assert f"90th percentile latency (ns) : {first.p90_ns:.0f}" in text
    with pytest.raises(UsageError, match="no place for raw samples"):
        export_results([], {}, "mlperf", tmp_path / "x", samples_from=ContentStore(tmp_path))


# the mirror


def rows(path: Path, sql: str) -> list[dict[str, object]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(sql)]
    finally:
        connection.close()


def test_the_mirror_holds_every_result_and_takes_only_what_is_new(tmp_path: Path) -> None:
    data = make_sweep(shapes=SHAPES[:4])
    store, path = FakeStore(data), tmp_path / "mirror.sqlite"
    assert write_mirror(store, path) == len(data.results)  # type: ignore[arg-type]
    assert write_mirror(store, path) == 0  # type: ignore[arg-type]
    more = make_result(data.cells[0], round_index=9)
    store.put(replace(data, results=(*data.results, more)))
    assert write_mirror(store, path) == 1  # type: ignore[arg-type]
    assert rows(path, "SELECT count(*) AS n FROM results")[0]["n"] == len(data.results) + 1


def test_a_result_that_was_superseded_since_leaves_the_views(tmp_path: Path) -> None:
    data = make_sweep(shapes=SHAPES[:1], spoil=False)
    store, path = FakeStore(data), tmp_path / "mirror.sqlite"
    write_mirror(store, path)  # type: ignore[arg-type]
    before = rows(path, "SELECT count(*) AS n FROM result_overview")[0]["n"]
    first, *rest = data.results
    store.put(replace(data, results=(replace(first, superseded=True), *rest)))
    write_mirror(store, path)  # type: ignore[arg-type]
    assert rows(path, "SELECT count(*) AS n FROM result_overview")[0]["n"] == int(str(before)) - 1


def test_the_views_agree_with_the_report(tmp_path: Path) -> None:
    data = make_sweep(shapes=SHAPES[:4])
    path = tmp_path / "mirror.sqlite"
    write_mirror(FakeStore(data), path)  # type: ignore[arg-type]
    found = {
        (row["variant"], row["runtime"]): row["p50_s"]
        for row in rows(path, "SELECT * FROM cell_latency")
    }
    shown = {
        (row.variant, row.runtime): row.figures.p50.value / 1e9
        for row in summarise(data).rows
        if row.counts and row.figures.p50
    }
    assert found == pytest.approx(shown)
    share = rows(path, "SELECT valid_ratio FROM device_validity")[0]["valid_ratio"]
    kinds = [r.result.verdict.kind.value == "valid" for r in data.results]
    assert share == pytest.approx(statistics.mean(kinds))


def test_every_query_of_the_raw_dashboard_has_rows(tmp_path: Path) -> None:
    from dashboards.raw import PANELS

    path = tmp_path / "mirror.sqlite"
    write_mirror(FakeStore(make_sweep()), path)  # type: ignore[arg-type]
    for title, (_, sql, _) in PANELS.items():
        assert rows(path, sql), title


def test_every_view_is_described() -> None:
    page = (REPOSITORY / "docs/watching.md").read_text()
    assert all(f"`{name}`" in page for name in VIEWS)
