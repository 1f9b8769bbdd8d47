"""Filters of the collection: values as TOML, rows as a table, paths as entries of ``files``."""

from __future__ import annotations

import json
import re
from pathlib import Path

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml(value):
    """A value as TOML spells it: text, number, truth value, list, or inline table."""
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {toml(each)}" for key, each in sorted(value.items()))
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return _text(str(value))


def table(rows, columns):
    """A table with a header, line by line; a missing value is a dash."""
    cells = [[str(column) for column in columns]]
    cells += [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def absent(paths):
    """The entries by which ``assay.fleet.files`` removes these paths."""
    return [{"path": path, "state": "absent"} for path in paths]


def copied_to(paths, directory):
    """The entries by which ``assay.fleet.files`` copies files of the control node there."""
    sources = [Path(path) for path in paths]
    return [{"path": f"{directory}/{one.name}", "content": one.read_text()} for one in sources]


def status_row(host, doctor=""):
    """One host of the fleet's table, from what ``assay.fleet.host`` and the doctor's JSON say."""
    if host.get("unreachable"):
        return {"state": "unreachable"}
    release = host["releases"]["current"]
    if not release:
        return {"state": "not installed"}
    agent, unit = host["agent"], host["unit"]
    active = unit.get("ActiveState", "unknown")
    days = _days_left(agent.get("not_after_unix_s"), host["unix_s"])
    return {
        "device": agent.get("name", "not enrolled"),
        "version": release.rpartition("-")[0],
        "state": unit.get("StatusText") or active if active == "active" else active,
        "rounds": agent["rounds_held"],
        "certificate": "-" if days is None else f"{days} d" if days >= 0 else "ended",
        "clock": {True: "ok", False: "not synchronised"}.get(host["clock_synchronised"], "unknown"),
        "findings": _findings(doctor),
    }


def _days_left(not_after_unix_s, now_unix_s):
    return None if not_after_unix_s is None else (not_after_unix_s - now_unix_s) // 86400


def _findings(doctor):
    if not doctor:
        return "busy: not asked"
    try:
        rows = json.loads(doctor)
    except ValueError:
        return "the doctor gave no answer"
    bad = [row["name"] for row in rows if row["status"] in ("warn", "refused")]
    return ", ".join(bad) or "none"


def _key(key):
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(value):
    # As JSON, but for one character that TOML wants escaped; no pairs of surrogates.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _cell(value):
    return "-" if value is None or value == "" else str(value)


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        """Name to function."""
        return {
            "toml": toml,
            "table": table,
            "status_row": status_row,
            "absent": absent,
            "copied_to": copied_to,
        }
