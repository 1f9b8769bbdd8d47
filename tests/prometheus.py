"""A real Prometheus on a port of its own, and questions to it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READY_S = 30.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    base: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an API answer."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.base}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """An instant query's series; a refused expression fails with what Prometheus says."""
        try:
            found = self.get("query", query=expression)
        except urllib.error.HTTPError as error:
            if error.code == 503:  # still starting
                raise
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        return [(each["metric"], float(each["value"][1])) for each in found["result"]]

    def alerts(self) -> dict[str, list[dict[str, str]]]:
        """The labels of the alerts that fire, by name."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self.get("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    def until(self, done: Callable[[], object], what: str, patience_s: float = 60.0) -> None:
        """Waits until ``done``; Prometheus may not answer yet."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                if done():
                    return
            time.sleep(0.3)
        raise AssertionError(f"{what} did not come about in {patience_s:.0f} s")


@contextlib.contextmanager
def prometheus_process(config: Path, root: Path) -> Iterator[Prometheus]:
    """Prometheus on ``config``, its data below ``root``; gone after the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (root / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={root / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            made = Prometheus(f"http://127.0.0.1:{port}")
            made.until(lambda: made.query("vector(1)"), "an answer", _READY_S)
            yield made
        finally:
            process.terminate()
            process.wait(20)
