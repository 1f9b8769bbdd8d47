"""The sensor tables of docs/devices/*.md, written from the samplers themselves.

    python docs/boards.py [--check]

A page names its composed board in a line ``<!-- board: rpi5 -->``; what stands between that and
``<!-- end -->`` is written here: every sampler, what it gives on that board and how well, or why it
gives nothing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from assay.agent.devices.detect import detect
from assay.agent.samplers import Sampler, probe_all
from assay.core.model import Absent

HERE = Path(__file__).resolve().parent
BOARDS = HERE.parent / "tests/fixtures/boards"
_TABLE = re.compile(r"(<!-- board: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHOWN = 4


def pages() -> list[Path]:
    """Every page of a board."""
    return sorted((HERE / "devices").glob("*.md"))


def boards_of(text: str) -> list[str]:
    """The composed boards a page tells of."""
    return [match[2] for match in _TABLE.finditer(text)]


def written(text: str) -> str:
    """The page with its tables anew."""
    return _TABLE.sub(lambda match: f"{match[1]}{table(match[2])}{match[3]}", text)


def table(board: str) -> str:
    """What every sampler says of one composed board."""
    root = BOARDS / board
    probed = probe_all(root)
    facts = detect(root, ())
    rows = [
        f"Class `{facts.device_class}`; recognised as *{facts.board}*.",
        "",
        "| sampler | gives | at most | how well |",
        "|---|---|---|---|",
    ]
    rows += [_row(name, one) for name, one in probed.items() if not isinstance(one, Absent)]
    rows += ["", "| not here | why |", "|---|---|"]
    rows += [
        f"| `{name}` | {one.reason} |" for name, one in probed.items() if isinstance(one, Absent)
    ]
    for one in probed.values():
        if not isinstance(one, Absent):
            one.close()
    return "\n".join(rows) + "\n"


def _row(name: str, one: Sampler) -> str:
    shown = [f"{channel.name} ({channel.unit})" for channel in one.channels[:_SHOWN]]
    more = len(one.channels) - _SHOWN
    gives = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    return f"| `{name}` | {gives} | {one.max_hz:g} Hz | {_how_well(one)} |"


def _how_well(one: Sampler) -> str:
    meter = next((c.meter for c in one.channels if c.meter is not None and c.meter.total), None)
    if meter is None:
        return ""
    gain = "gain not stated" if meter.gain_u is None else f"gain ± {meter.gain_u:.1%}"
    step = f", step {meter.quantum:.3g}" if meter.quantum else ""
    return f"{meter.tier.value}, {meter.scope}{step}; {gain}"


def main() -> int:
    """Writes the pages, or with ``--check`` says which are stale."""
    stale = [page for page in pages() if written(page.read_text()) != page.read_text()]
    if "--check" in sys.argv[1:]:
        for page in stale:
            print(f"error: {page} is stale; run python docs/boards.py", file=sys.stderr)
        return 1 if stale else 0
    for page in stale:
        page.write_text(written(page.read_text()))
        print(f"wrote {page}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
