"""The dashboards as they are committed: fresh, described, linked, and asking for what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assay.core.metrics import METRICS
from tests.conftest import REPOSITORY, need
from tests.panel_queries import (
    alerting_rules,
    annotation_queries,
    dashboards,
    panel_queries,
    recording_rules,
)

BOARDS = dashboards()
TEST_RULES = (REPOSITORY / "dashboards/prometheus/tests/alerts_test.yml").read_text()


def test_the_committed_json_is_what_the_code_builds() -> None:
    need(module="grafana_foundation_sdk")
    from dashboards import build

    assert build.main(["--check"]) == 0


def test_a_stale_dashboard_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need(module="grafana_foundation_sdk")
    from dashboards import build

    monkeypatch.setattr(build, "JSON", tmp_path)
    assert build.main([]) == 0
    (tmp_path / "fleet.json").write_text("{}")
    assert build.main(["--check"]) == 1
    assert "fleet.json is stale" in capsys.readouterr().err


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_shows(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert panels
    for panel in panels:  # type: ignore[attr-defined]
        assert panel["title"] and len(panel["description"]) > 10
        assert panel["datasource"]["uid"] in ("assay-prometheus", "assay-sqlite")
        assert panel["targets"]


@pytest.mark.parametrize("name", BOARDS)
def test_dashboards_link_to_each_other_and_to_the_reports(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"assay-{name}" and board["tags"] == ["assay"]
    links = {link["type"]: link["url"] for link in board["links"]}  # type: ignore[attr-defined]
    assert links == {"dashboards": "", "link": "${live}/"}
    variables = {v["name"]: v for v in board["templating"]["list"]}  # type: ignore[index]
    assert variables["live"]["type"] == "textbox"
    assert variables["live"]["current"]["value"] == "http://127.0.0.1:9465"


@pytest.mark.parametrize(
    ("name", "title", "column", "url"),
    [
        ("sweep", "Sweeps", "sweep", "${live}/report/${__value.raw}"),
        ("raw-results", "Newest results", "attempt_id", "${live}/result/${__value.raw}"),
        ("fleet", "Devices", "device", "/d/assay-device?var-device=${__value.raw}"),
    ],
)
def test_cells_of_tables_lead_on(name: str, title: str, column: str, url: str) -> None:
    panels = {panel["title"]: panel for panel in BOARDS[name]["panels"]}  # type: ignore[attr-defined]
    overrides = panels[title]["fieldConfig"]["overrides"]
    (found,) = [
        each["properties"]
        for each in overrides
        if each["matcher"]["options"] == column and each["properties"][0]["id"] == "links"
    ]
    assert [link["url"] for link in found[0]["value"]] == [url]


def test_sweeps_findings_and_verdicts_are_marked_over_time() -> None:
    wanted = ["Sweeps started", "Sweeps ended", "Findings", "Results not VALID"]
    assert list(annotation_queries()) == wanted


def test_only_valid_results_are_counted_unless_asked_for() -> None:
    variables = {v["name"]: v for v in BOARDS["variants"]["templating"]["list"]}  # type: ignore[index]
    assert variables["verdict"]["current"]["value"] == "valid"
    wanted = {"model", "device_class", "device", "runtime", "scenario", "verdict"}
    assert wanted <= variables.keys()


@pytest.mark.parametrize(
    ("where", "query"), [*panel_queries(), *annotation_queries().items()], ids=str
)
def test_queries_name_metrics_and_labels_of_the_catalogue(where: str, query: str) -> None:
    for name, selector in re.findall(r"\b(assay_[a-z0-9_]+)(?:\{([^}]*)\})?", query):
        assert name in METRICS, f"{where}: no metric {name}"
        labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)
        assert set(labels) <= {*METRICS[name].labels}, f"{where}: {name} has no such label"
    assert set(re.findall(r"\bassay:[a-z0-9_:]+", query)) <= {*recording_rules()}


def test_what_is_recorded_is_shown() -> None:
    """A rule that no panel reads only costs."""
    queries = " ".join(query for _, query in panel_queries())
    assert [name for name in recording_rules() if name not in queries] == []


def test_every_alert_has_a_runbook_and_tests_both_ways() -> None:
    rules = (REPOSITORY / "dashboards/prometheus/rules/alerts.yml").read_text()
    pages = re.findall(r"runbook: (\S+)", rules)
    assert len(pages) == len(alerting_rules())
    for page in pages:
        assert (REPOSITORY / page).is_file(), page
    for alert in alerting_rules():
        parts = re.findall(
            rf"alertname: {alert}\b.*?(?=alertname: |- name: |\Z)", TEST_RULES, flags=re.S
        )
        quiet = [part for part in parts if "exp_alerts: []" in part]
        assert quiet and len(parts) > len(quiet), alert


def test_recording_rules_are_named_by_level_metric_and_unit() -> None:
    assert recording_rules()
    for name in recording_rules():
        assert re.fullmatch(r"assay:[a-z0-9_]+:(seconds|ratio)", name)
