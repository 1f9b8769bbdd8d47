"""The watching process: ``python -m assay.controller.live.process LEVEL text|json HOME HOST
usual|tls [metrics=PORT] [live=PORT]``.

Serves ``/metrics`` and the live page apart from the control loop, which must not wait while either
is rendered: threads of one Python take turns. Started by :mod:`assay.controller.server.serve`.
Prints the ports once it listens (or an error's code and message), reads the devices' vitals from
stdin, a line each, and ends when stdin does, so that it never outlives its controller.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from assay.controller.home import Home
from assay.controller.live.server import start_live
from assay.controller.metrics.exporter import start_exporter
from assay.controller.metrics.tally import Tallied
from assay.controller.metrics.vitals import VitalsBoard, from_line
from assay.core import log
from assay.core.errors import AssayError

_NICENESS = 5  # devices are answered first
_COLLECT_AFTER = (50_000, 20, 50)


def main(home: Home, host: str, ports: Mapping[str, int], *, tls: bool) -> None:
    """Serves until stdin ends or SIGTERM arrives."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    os.nice(_NICENESS)
    collect_seldom()
    vitals, counts = VitalsBoard(), Counts()
    with contextlib.ExitStack() as parts:
        bound = {}
        try:
            if "metrics" in ports:
                exporter = start_exporter(
                    home, host, ports["metrics"], vitals=vitals.all, counts=counts.newest
                )
                bound["metrics"] = parts.enter_context(exporter).port
            if "live" in ports:
                live = start_live(home, host, ports["live"], vitals=vitals.all, tls=tls)
                bound["live"] = parts.enter_context(live).port
        except AssayError as error:
            print(f"{error.code} {error}", flush=True)
            return
        print(*(f"{name}={port}" for name, port in bound.items()), flush=True)
        threading.Thread(target=_listen, args=(vitals, counts, ended), daemon=True).start()
        ended.wait()


class Counts:
    """The newest counts of the control process; None until it has told some."""

    def __init__(self) -> None:
        self._held: Tallied | None = None

    def put(self, counts: Tallied) -> None:
        """Keeps these as the newest."""
        self._held = counts

    def newest(self) -> Tallied | None:
        """What was told last."""
        return self._held


def collect_seldom() -> None:
    """Lets the garbage collector run rarely: what is read from the store stays, and looking through
    it again and again costs a tenth of a first page."""
    gc.set_threshold(*_COLLECT_AFTER)


def _listen(vitals: VitalsBoard, counts: Counts, ended: threading.Event) -> None:
    for line in sys.stdin:
        if line.startswith("{"):
            counts.put(Tallied.from_line(line))
        else:
            vitals.put(*from_line(line))
    ended.set()


if __name__ == "__main__":
    level, style, root, host_, access, *words = sys.argv[1:]
    log.configure(level, json_lines=style == "json")
    wanted = {name: int(port) for name, _, port in (word.partition("=") for word in words)}
    main(Home(Path(root)), host_, wanted, tls=access == "tls")
