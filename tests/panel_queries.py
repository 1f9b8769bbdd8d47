"""The queries of the committed dashboards and rules, as Prometheus is asked them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import REPOSITORY

DASHBOARDS = REPOSITORY / "dashboards/grafana/json"
RULES = REPOSITORY / "dashboards/prometheus/rules"


def dashboards() -> dict[str, dict[str, object]]:
    """Every committed dashboard by its file's name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panel_queries() -> Iterator[tuple[str, str]]:
    """(dashboard/panel, PromQL) of every target, variables put in as "all" would."""
    for name, board in dashboards().items():
        for panel in board["panels"]:  # type: ignore[attr-defined]
            for target in panel["targets"]:
                if "expr" in target:
                    yield f"{name}/{panel['title']}", substituted(target["expr"])


def annotation_queries() -> dict[str, str]:
    """PromQL by the annotation's name; every dashboard has the same."""
    marks = [board["annotations"]["list"] for board in dashboards().values()]  # type: ignore[index]
    assert all(each == marks[0] for each in marks)
    return {mark["name"]: mark["target"]["expr"] for mark in marks[0]}


def recording_rules() -> list[str]:
    """The names of every recorded series."""
    text = "".join(Path(path).read_text() for path in sorted(RULES.glob("*.yml")))
    return re.findall(r"record: (\S+)", text)


def alerting_rules() -> list[str]:
    """The names of every alert."""
    return re.findall(r"alert: (\S+)", (RULES / "alerts.yml").read_text())


def substituted(expression: str) -> str:
    """``$variable`` as "all", ``$__rate_interval`` as half a minute."""
    text = expression.replace("$__rate_interval", "30s")
    return re.sub(r"\$[a-z_]+", ".*", text)
