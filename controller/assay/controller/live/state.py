"""What the live page shows, as values and as rows of HTML. Pure; one row per thing that changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from assay.controller.comparing.labels import runtime_label, scenario_label
from assay.controller.comparing.numbers import duration, size
from assay.controller.metrics.exposition_fleet import SweepView
from assay.controller.metrics.vitals import Reach, Vitals, expected_by_ns, reach
from assay.controller.records import DeviceRecord, ResultRecord, RoundState

LATEST = 20


@dataclass(frozen=True, slots=True)
class LiveState:
    """Everything at one moment; ``rounds`` are those of running sweeps by device and state,
    ``latest`` the newest results first."""

    now_ns: int
    devices: Sequence[DeviceRecord]
    vitals: Mapping[str, Vitals]
    rounds: Mapping[str, Mapping[RoundState, int]]
    sweeps: Sequence[SweepView]
    latest: Sequence[ResultRecord]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows by element id, by table, in their order; ``counts`` are the figures on top."""

    tables: Mapping[str, Mapping[str, str]]
    counts: Mapping[str, str]

    def changes(self, before: Snapshot | None) -> dict[str, Any] | None:
        """What a browser that shows ``before`` must replace; None where nothing."""
        found: dict[str, Any] = {"tables": {}, "counts": {}}
        for name, rows in self.tables.items():
            old = before.tables.get(name, {}) if before else {}
            changed = {key: html for key, html in rows.items() if old.get(key) != html}
            gone = [key for key in old if key not in rows]
            if changed or gone:
                found["tables"][name] = {"rows": changed, "gone": gone, "order": list(rows)}
        old_counts = before.counts if before else {}
        found["counts"] = {k: v for k, v in self.counts.items() if old_counts.get(k) != v}
        return found if found["tables"] or found["counts"] else None


def snapshot(state: LiveState) -> Snapshot:
    """Renders every row."""
    rows = device_rows(state)
    devices = {f"device-{row['name']}": row_html("device_row", row) for row in rows}
    sweeps = {f"sweep-{v.record.name}": row_html("sweep_row", sweep_row(v)) for v in state.sweeps}
    latest = {f"result-{r.attempt_id}": row_html("result_row", result_row(r)) for r in state.latest}
    counts = {
        "online": str(sum(row["reach"] == "online" for row in rows)),
        "missing": str(sum(row["reach"] in ("silent", "lost") for row in rows)),
        "busy": str(sum(bool(row["doing"]) for row in rows)),
        "running": str(sum(not v.progress.ended for v in state.sweeps)),
    }
    return Snapshot({"devices": devices, "sweeps": sweeps, "latest": latest}, counts)


def device_rows(state: LiveState) -> list[dict[str, Any]]:
    """A line for every device, those that are missed first. Vitals go by a device's id, or by its
    name where they were read off a page, which holds no id."""
    rows = []
    for device in state.devices:
        vitals = state.vitals.get(device.device_id) or state.vitals.get(device.name)
        where = reach(device, vitals, state.now_ns)
        rows.append(_device(device, where, vitals, state))
    return sorted(rows, key=lambda row: (row["order"], row["name"]))


def sweep_row(view: SweepView) -> dict[str, Any]:
    """A sweep's line."""
    progress = view.progress
    left = f"about {_roughly(progress.left_ns)} left" if progress.left_ns else ""
    return {
        "name": view.record.name,
        "state": progress.state.value,
        "done": progress.runs_done,
        "total": progress.runs_total,
        "left": left if not progress.ended else "",
        "verdicts": [(k, progress.verdicts.get(k, 0)) for k in ("valid", "suspect", "invalid")],
    }


def _roughly(ns: float) -> str:
    """An estimate without digits it does not have: 40 s, 7 min, 3 h 20 min."""
    seconds = ns / 1e9
    if seconds < 100:
        return f"{max(10, 10 * round(seconds / 10))} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def result_row(record: ResultRecord) -> dict[str, Any]:
    """A result's line."""
    result = record.result
    codes = [reason.code for reason in result.verdict.reasons]
    codes += [result.failure.code] if result.failure else []
    return {
        "attempt": record.attempt_id,
        "device": result.provenance.device_name,
        "variant": result.run.variant_name,
        "runtime": runtime_label(result.run.runtime),
        "scenario": scenario_label(result.run.scenario),
        "p50": duration(result.latency.p50_ns) if result.latency else "–",
        "verdict": result.verdict.kind.value,
        "codes": list(dict.fromkeys(codes)),
    }


def environment() -> Environment:
    """Templates of the live page; everything is escaped."""
    return Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(name: str) -> str:
    """A file of this package."""
    return (resources.files("assay.controller.live") / name).read_text(encoding="utf-8")


_ORDER = {Reach.LOST: 0, Reach.SILENT: 1, Reach.QUARANTINED: 2, Reach.ONLINE: 3, Reach.REVOKED: 4}


def _device(
    device: DeviceRecord, where: Reach, vitals: Vitals | None, state: LiveState
) -> dict[str, Any]:
    rounds = state.rounds.get(device.device_id, {})
    facts = device.facts
    flags = [] if vitals is None or not vitals.throttled else ["held back"]
    if vitals is not None and not vitals.accepting:
        flags.append("takes no work")
    flags += [f"waits for {what}" for what in device.waits_for]
    return {
        "order": _ORDER[where],
        "name": device.name,
        "device_class": facts.device_class if facts else "–",
        "board": facts.board if facts else "never synced",
        "reach": where.value,
        "silent": _silence(where, expected_by_ns(device, vitals), state.now_ns),
        "doing": vitals.doing if vitals and where is Reach.ONLINE else "",
        "temperature": f"{vitals.temperature_c:.0f} °C"
        if vitals and vitals.temperature_c is not None
        else "–",
        "spool": str(vitals.spool_entries) if vitals else "–",
        "disk": size(vitals.disk_free_bytes) if vitals else "–",
        "queued": rounds.get(RoundState.QUEUED, 0),
        "flags": flags,
        "version": facts.agent_version if facts else "–",
    }


def _silence(where: Reach, since_ns: int, now_ns: int) -> str:
    if where not in (Reach.SILENT, Reach.LOST):
        return ""
    # In whole minutes, so that a row does not change every second.
    minutes = (now_ns - since_ns) // 60_000_000_000
    return f"for {minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"for {minutes} min"


def row_html(name: str, row: Mapping[str, Any]) -> str:
    """One row: ``device_row``, ``sweep_row`` or ``result_row``."""
    return str(_macros()[name](row)).strip()


@cache
def _macros() -> Any:
    module = environment().get_template("rows.html").module
    return {name: getattr(module, name) for name in ("device_row", "sweep_row", "result_row")}
