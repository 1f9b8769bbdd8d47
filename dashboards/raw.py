"""One dashboard on raw results, by SQL: the mirror that ``assay result mirror`` keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import barchart, table
from grafana_foundation_sdk.cog.builder import Builder

from dashboards.parts import (
    HALF,
    SQL_SOURCE,
    TO_DEVICE,
    TO_REPORT,
    TO_RESULT,
    WIDE,
    board,
    with_links,
)

PANELS: dict[str, tuple[str, str, int]] = {
    "Newest results": (
        "Every result, whatever its verdict.",
        "SELECT recorded_s AS time, sweep, device, variant, runtime, scenario, verdict, p50_s, "
        "p99_s, energy_j, accuracy, attempt_id FROM result_overview "
        "ORDER BY recorded_s DESC LIMIT 200",
        WIDE,
    ),
    "p50 by cell": (
        "Median of the VALID results' p50, with the least and the greatest.",
        "SELECT device, variant, runtime, scenario, restarts, p50_s, p50_least_s, p50_greatest_s "
        "FROM cell_latency ORDER BY p50_s LIMIT 500",
        HALF,
    ),
    "Why results are not VALID": (
        "Reason codes by device.",
        "SELECT device, code, results FROM reason_count ORDER BY results DESC LIMIT 500",
        HALF,
    ),
    "Share of VALID results by device": (
        "A board that measures badly stands out.",
        "SELECT device, valid_ratio FROM device_validity ORDER BY valid_ratio",
        HALF,
    ),
}
_LINKED = {"sweep": TO_REPORT, "device": TO_DEVICE, "attempt_id": TO_RESULT}


@dataclass(frozen=True)
class _Sql:
    """A target of the SQLite data source, as its plug-in stores it."""

    text: str

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": {"type": SQL_SOURCE.type_val, "uid": SQL_SOURCE.uid},
            "queryText": self.text,
            "queryType": "table",
            "rawQueryText": self.text,
            "refId": "A",
            "timeColumns": ["time"],
        }


class _SqlBuilder(Builder[Any]):
    def __init__(self, text: str) -> None:
        self._text = text

    def build(self) -> Any:
        return _Sql(self._text)


def raw_results() -> dict[str, Any]:
    """Tables over the views that docs/watching.md describes."""
    panels = []
    for title, (text, sql, span) in PANELS.items():
        shares = title.startswith("Share")
        kind = barchart.Panel() if shares else with_links(table.Panel(), _LINKED)
        panels.append(
            kind.title(title)
            .description(text)
            .datasource(SQL_SOURCE)
            .span(span)
            .height(9)
            .with_target(_SqlBuilder(sql))
        )
    return board(
        "raw-results",
        "Assay raw results",
        "Single results by SQL, from the mirror file kept by `assay result mirror`; needs the "
        "plug-in frser-sqlite-datasource.",
        (),
        panels,
    )
