"""Writes every dashboard's JSON; ``--check`` says whether what is committed is fresh."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dashboards.boards import boards
from dashboards.raw import raw_results

JSON = Path(__file__).parent / "grafana/json"


def pages() -> Mapping[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {**boards(), "raw-results": raw_results()}


def text_of(page: dict[str, Any]) -> str:
    """The JSON as it lies in the repository."""
    return json.dumps(page, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Writes, or with ``--check`` names what is stale and returns 1."""
    wanted = {JSON / f"{name}.json": text_of(page) for name, page in pages().items()}
    stale = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    stale += [path for path in JSON.glob("*.json") if path not in wanted]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.name} is stale; run `make dashboards`", file=sys.stderr)
        return 1 if stale else 0
    JSON.mkdir(parents=True, exist_ok=True)
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
