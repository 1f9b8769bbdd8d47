"""The fleet and its sweeps as a live terminal view."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from assay.controller.home import Home
from assay.controller.live.source import StateReader
from assay.controller.live.state import LiveState, device_rows, result_row, sweep_row
from assay.controller.metrics.vitals import Vitals
from assay.controller.server.running import running_controller
from assay.controller.store.base import Store

_STYLES = {
    "online": "green",
    "valid": "green",
    "running": "bold",
    "silent": "yellow",
    "suspect": "yellow",
    "quarantined": "yellow",
    "lost": "red",
    "invalid": "red",
    "revoked": "dim",
    "cancelled": "red",
    "done": "dim",
}
_NS = 1e9
_TIMEOUT_S = 1.0
_ROWS = 12


def watch(
    store: Store,
    home: Home,
    console: Console,
    *,
    sweep: str | None = None,
    once: bool = False,
    every_s: float = 1.0,
    now_ns: Callable[[], int] = time.time_ns,
) -> None:
    """Shows the state until interrupted; once where the console is no terminal."""
    reader = StateReader(store, lambda: scraped_vitals(home, now_ns()))

    def shown() -> RenderableType:
        return render(reader.read(now_ns()), sweep, serving=running_controller(home) is not None)

    if once or not console.is_terminal:
        console.print(shown())
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(shown(), console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(every_s)
            live.update(shown(), refresh=True)


def render(state: LiveState, sweep: str | None, *, serving: bool) -> RenderableType:
    """The view as one renderable."""
    wanted = [v for v in state.sweeps if sweep in (None, v.record.name, v.record.sweep_id)]
    ids = {v.record.sweep_id for v in wanted}
    latest = [r for r in state.latest if r.result.sweep_id in ids]
    head = Text("Assay", style="bold")
    head.append(
        "  a controller serves this home" if serving else "  no controller serves this home",
        style="dim" if serving else "yellow",
    )
    return Group(
        head,
        _sweeps([sweep_row(view) for view in wanted]),
        _latest([result_row(record) for record in latest[:_ROWS]]),
        _devices(device_rows(state)),
    )


def scraped_vitals(home: Home, now_ns: int) -> Mapping[str, Vitals]:
    """What the running controller's ``/metrics`` says of every device, by the device's name;
    empty where there is no page to ask."""
    found = running_controller(home)
    if found is None or not found.metrics_address:
        return {}
    try:
        url = f"http://{found.metrics_address}/metrics"
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            return vitals_of_page(answer.read().decode(), now_ns)
    except OSError:
        return {}


def vitals_of_page(page: str, now_ns: int) -> dict[str, Vitals]:
    """Reads ``assay_device_*`` off a page, by device name."""
    from prometheus_client.parser import text_string_to_metric_families

    by_name: dict[str, dict[str, float]] = {}
    # The parser takes a second for all the results that may stand on the page.
    lines = [line for line in page.splitlines() if line.startswith("assay_device_")]
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            if set(sample.labels) == {"device", "device_class"}:
                name = sample.labels["device"]
                by_name.setdefault(name, {})[sample.name.removeprefix("assay_device_")] = (
                    sample.value
                )
    return {
        name: _vitals(values)
        for name, values in by_name.items()
        if "accepting" in values and "last_seen_timestamp_seconds" in values
    }


def _vitals(values: Mapping[str, float]) -> Vitals:
    seen_s = values["last_seen_timestamp_seconds"]
    expected_s = values.get("expected_by_timestamp_seconds", seen_s)
    return Vitals(
        seen_ns=int(seen_s * _NS),
        quiet_until_ns=int(expected_s * _NS),
        temperature_c=values.get("temperature_celsius"),
        memory_available_bytes=values.get("memory_available_bytes", 0.0),
        disk_free_bytes=values.get("disk_free_bytes", 0.0),
        spool_entries=int(values.get("spool_entries", 0)),
        spool_bytes=int(values.get("spool_bytes", 0)),
        throttled=values.get("throttled") == 1,
        accepting=values["accepting"] == 1,
        doing="measuring" if values.get("measuring") == 1 else "",
    )


def _sweeps(rows: list[dict[str, Any]]) -> Table:
    table = _table("Sweeps", "sweep", "state", "", "done", "left", "VALID", "SUSPECT", "INVALID")
    for row in rows:
        bar = Bar(max(row["total"], 1), 0, row["done"], width=24)
        counts = [str(n) for _, n in row["verdicts"]]
        done = f"{row['done']}/{row['total']}"
        table.add_row(Text(row["name"]), _word(row["state"]), bar, done, row["left"], *counts)
    return table


def _latest(rows: list[dict[str, Any]]) -> Table:
    table = _table("Newest results", "variant", "runtime", "device", "p50", "verdict", "why")
    for row in rows:
        table.add_row(
            Text(row["variant"]),
            Text(row["runtime"]),
            Text(row["device"]),
            row["p50"],
            _word(row["verdict"]),
            " ".join(row["codes"]),
        )
    return table


def _devices(rows: list[dict[str, Any]]) -> Table:
    table = _table("Devices", "device", "state", "does", "class", "temp", "queued", "spool", "disk")
    for row in rows:
        state = _word(row["reach"])
        for extra in filter(None, [row["silent"], *row["flags"]]):
            state.append(f" {extra}", style="yellow")
        table.add_row(
            Text(row["name"]),
            state,
            row["doing"],
            Text(row["device_class"]),
            row["temperature"],
            str(row["queued"]),
            row["spool"],
            row["disk"],
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, header_style="dim")
    return table


def _word(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, ""))
