"""What every dashboard is made of: panels, variables, links; units and colours in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
    xychart,
)
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="assay-prometheus")
SQL_SOURCE = models.DataSourceRef(type_val="frser-sqlite-datasource", uid="assay-sqlite")
TAG = "assay"
LIVE = "live"  # the variable that holds where the live page is
LIVE_URL = "http://127.0.0.1:9465"
CELL = (
    'model=~"$model",device_class=~"$device_class",device=~"$device",'
    'runtime=~"$runtime",scenario=~"$scenario"'
)
DEVICE = 'device_class=~"$device_class",device=~"$device"'
WIDE, HALF, THIRD, QUARTER = 24, 12, 8, 6


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the legend of its series."""

    expr: str
    legend: str = ""
    instant: bool = False


VARIABLES: Mapping[str, tuple[str, str]] = {
    "model": ("Model", "label_values(assay_variant_info, model)"),
    "device_class": ("Device class", "label_values(assay_device_active, device_class)"),
    "device": (
        "Device",
        'label_values(assay_device_active{device_class=~"$device_class"}, device)',
    ),
    "runtime": ("Runtime", "label_values(assay_artifact_size_bytes, runtime)"),
    "scenario": ("Scenario", "label_values(assay_cell_results, scenario)"),
    "verdict": ("Verdict", "label_values(assay_results_total, verdict)"),
    "sweep": ("Sweep", "label_values(assay_sweep_running, sweep)"),
}


def board(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[str],
    panels: Sequence[Any],
) -> dict[str, Any]:
    """A whole dashboard as the JSON Grafana provisions."""
    built = (
        dashboard.Dashboard(title)
        .uid(f"assay-{uid}")
        .description(description)
        .tags([TAG])
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
    )
    for name in variables:
        built = built.with_variable(_variable(name))
    built = built.with_variable(_live_variable())
    for link in _links():
        built = built.link(link)
    for annotation in _annotations():
        built = built.annotation(annotation)
    for panel in panels:
        built = built.with_panel(panel)
    return _plain(built.build())


def lines(
    title: str, text: str, unit: str, queries: Sequence[Query], span: int = HALF
) -> timeseries.Panel:
    """Lines over time."""
    panel = timeseries.Panel().line_width(1).fill_opacity(5).span_nulls(True).unit(unit)
    return _filled(panel.legend(_legend()), title, text, queries, span, 8)


def number(
    title: str,
    text: str,
    unit: str,
    query: Query,
    span: int = QUARTER,
    bad_above: float | None = None,
) -> stat.Panel:
    """One big number; red above ``bad_above``."""
    panel = stat.Panel().unit(unit).graph_mode(common.BigValueGraphMode.NONE)
    if bad_above is not None:
        panel = panel.thresholds(thresholds(bad_above))
    return _filled(panel, title, text, [query], span, 4)


def bars(
    title: str, text: str, unit: str, queries: Sequence[Query], span: int = HALF
) -> bargauge.Panel:
    """A bar for every series, as of now."""
    panel = (
        bargauge.Panel()
        .unit(unit)
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
    )
    return _filled(panel, title, text, [_now(q) for q in queries], span, 8)


def states(title: str, text: str, query: Query, span: int = WIDE) -> statetimeline.Panel:
    """What a 0 or 1 was, over time."""
    return _filled(statetimeline.Panel().unit("bool"), title, text, [query], span, 8)


def rows(
    title: str,
    text: str,
    columns: Mapping[str, tuple[str, str]],
    span: int = WIDE,
    hidden: Sequence[str] = (),
    linked: Mapping[str, tuple[str, str]] | None = None,
) -> table.Panel:
    """A table of instant queries joined by their labels: column title -> (expression, unit).
    ``linked``: label -> the title and the address of where its cells lead."""
    panel = _filled(table.Panel(), title, text, [], span, 10)
    renamed: dict[str, str] = {}
    for index, (name, (expr, unit)) in enumerate(columns.items()):
        ref = chr(ord("A") + index)
        renamed[f"Value #{ref}"] = name
        panel = panel.with_target(_target(Query(expr, instant=True), ref, as_table=True))
        panel = panel.override_by_name(name, [models.DynamicConfigValue(id_val="unit", value=unit)])
    panel = with_links(panel, linked or {})
    excluded = {name: True for name in ("Time", "__name__", "instance", "job", *hidden)}
    organize = {"excludeByName": excluded, "indexByName": {}, "renameByName": renamed}
    return panel.with_transformation(
        models.DataTransformerConfig(id_val="merge", options={})
    ).with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))


def scatter(
    title: str,
    text: str,
    x: tuple[str, str, str],
    y: tuple[str, str, str],
    span: int = HALF,
) -> xychart.Panel:
    """Points of two instant queries joined by their labels; an axis is (expression, name, unit)."""
    panel = _filled(xychart.Panel(), title, text, [], span, 10)
    names = {}
    for ref, (expr, name, unit) in zip("AB", (x, y), strict=True):
        names[f"Value #{ref}"] = name
        panel = panel.with_target(_target(Query(expr, instant=True), ref, as_table=True))
        panel = panel.override_by_name(name, [models.DynamicConfigValue(id_val="unit", value=unit)])
    excluded = {name: True for name in ("Time", "__name__", "instance", "job")}
    organize = {
        "excludeByName": excluded,
        "indexByName": {x[1]: 0, y[1]: 1},
        "renameByName": names,
    }
    return panel.with_transformation(
        models.DataTransformerConfig(id_val="merge", options={})
    ).with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))


def with_links(panel: Any, linked: Mapping[str, tuple[str, str]]) -> Any:
    """The panel, the cells of these columns being links."""
    for column, (title, url) in linked.items():
        links = [{"title": title, "url": url, "targetBlank": url.startswith("$")}]
        panel = panel.override_by_name(
            column, [models.DynamicConfigValue(id_val="links", value=links)]
        )
    return panel


TO_REPORT = ("Report of this sweep", f"${{{LIVE}}}/report/${{__value.raw}}")
TO_RESULT = ("Every sample of this result", f"${{{LIVE}}}/result/${{__value.raw}}")
TO_DEVICE = ("Drill down", "/d/assay-device?var-device=${__value.raw}")
TO_VARIANT = ("Compare", "/d/assay-variants?var-model=${__data.fields.model}")


def thresholds(bad_above: float) -> dashboard.ThresholdsConfig:
    """Blue, and orange from ``bad_above`` on: told apart without seeing red and green."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps(
            [
                models.Threshold(color="blue", value=None),
                models.Threshold(color="orange", value=bad_above),
            ]
        )
    )


def _filled(
    panel: Any, title: str, text: str, queries: Sequence[Query], span: int, height: int
) -> Any:
    panel = panel.title(title).description(text).datasource(SOURCE).span(span).height(height)
    for index, query in enumerate(queries):
        panel = panel.with_target(_target(query, chr(ord("A") + index)))
    return panel


def _target(query: Query, ref: str, *, as_table: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(ref).datasource(SOURCE)
    target = target.instant() if query.instant else target.range()
    if as_table:
        return target.format(PromQueryFormat.TABLE)
    return target.legend_format(query.legend or "__auto")


def _now(query: Query) -> Query:
    return Query(query.expr, query.legend, instant=True)


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def _variable(name: str) -> dashboard.QueryVariable:
    label, query = VARIABLES[name]
    default = "valid" if name == "verdict" else "$__all"
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": f"variable-{name}"})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(
            models.VariableOption(
                selected=True, text="All" if default == "$__all" else default, value=default
            )
        )
    )


def _live_variable() -> dashboard.TextBoxVariable:
    chosen = models.VariableOption(selected=True, text=LIVE_URL, value=LIVE_URL)
    return (
        dashboard.TextBoxVariable(LIVE)
        .label("Live page")
        .default_value(LIVE_URL)
        .current(chosen)
        .options([chosen])
    )


def _links() -> list[dashboard.DashboardLink]:
    others = (
        dashboard.DashboardLink("Assay")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
    live = (
        dashboard.DashboardLink("Live page and reports")
        .type(models.DashboardLinkType.LINK)
        .url(f"${{{LIVE}}}/")
        .tooltip("The controller's own page: fleet, progress, the report of every sweep")
        .target_blank(True)
    )
    return [others, live]


def _annotations() -> list[dashboard.AnnotationQuery]:
    return [_annotation(name, expr, colour) for name, (expr, colour, _) in _MARKS.items()]


# What is marked in every panel: the query, its colour, and what Grafana's plug-in is told about
# its words. Each stands for two minutes at least, so that no step of a long view misses it.
_MARKS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "Sweeps started": (
        "1000 * assay_sweep_start_timestamp_seconds",
        "blue",
        {"titleFormat": "{{sweep}} submitted", "tagKeys": "sweep", "useValueForTime": True},
    ),
    "Sweeps ended": (
        "(assay_sweep_running offset 2m == 1) unless (assay_sweep_running == 1)",
        "blue",
        {"titleFormat": "{{sweep}} ended", "tagKeys": "sweep"},
    ),
    "Findings": (
        "assay_comparison_finding unless assay_comparison_finding offset 2m",
        "orange",
        {
            "titleFormat": "{{variant}} is {{finding}}",
            "textFormat": "{{runtime}} on {{device}}, against the baseline",
            "tagKeys": "device,runtime",
        },
    ),
    "Results not VALID": (
        'delta(assay_sweep_results{verdict!="valid"}[2m]) > 0',
        "purple",
        {"titleFormat": "{{verdict}} in {{sweep}}", "tagKeys": "sweep,verdict"},
    ),
}


def _annotation(name: str, expr: str, colour: str) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(colour)
        .expr(expr)
    )


def _plain(value: Any) -> dict[str, Any]:
    """The SDK's model as JSON values, in the shape that Grafana's own schema gives it: the query
    of an annotation stands in its target, and what is unset is absent."""
    page: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True, indent=2).encode(value))
    page.pop("style", None)  # gone from the schema; the user's theme decides
    for annotation in page["annotations"]["list"]:
        annotation["target"] = {"expr": annotation.pop("expr"), "refId": "annotation"}
        annotation |= _MARKS[annotation["name"]][2]
    for panel in page["panels"]:
        if panel.get("options") is None:
            panel["options"] = {}
    return page
