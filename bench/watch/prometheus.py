"""Prometheus on the shipped configuration and rules, at the pace of a demo."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from assay.controller.server.running import ServingController
from assay.core.errors import CheckFailed

SHIPPED = Path(__file__).resolve().parents[2] / "dashboards/prometheus"
_READY_S = 30.0
_STOP_S = 20.0


def configuration(root: Path, controller: ServingController) -> Path:
    """The shipped configuration and rules on this controller's ports; on loopback its ``http_sd``
    is served without TLS and token."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SHIPPED / "rules", root / "rules", dirs_exist_ok=True)
    text = (SHIPPED / "prometheus-agents.yml").read_text()
    for shipped, here in (
        ("127.0.0.1:9464", controller.metrics_address),
        ("https://127.0.0.1:9465/", controller.live_url),
        ("        authorization: {type: Bearer, credentials_file: viewer.token}\n", ""),
        ("        tls_config: {ca_file: ca.crt}\n", ""),
        ("scrape_interval: 15s", "scrape_interval: 5s\n  evaluation_interval: 5s"),
        ("scrape_interval: 60s", "scrape_interval: 20s"),
        ("scrape_timeout: 10s", "scrape_timeout: 5s"),
        ("refresh_interval: 30s", "refresh_interval: 5s"),
    ):
        assert shipped in text, shipped
        text = text.replace(shipped, here)
    path = root / "prometheus.yml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def prometheus(root: Path, controller: ServingController) -> Iterator[str]:
    """Prometheus until the block ends; its address, empty where it is not installed.

    It has a session of its own, so that Ctrl-C reaches the demo alone, which ends it.
    """
    program = shutil.which("prometheus")
    if program is None:
        yield ""
        return
    config, port = configuration(root, controller), _free_port()
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={root / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = root / "prometheus.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _until_ready(address, process, log)
        yield address
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        process.kill()
        process.wait()


def _until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/-/ready", timeout=5):
            return
        time.sleep(0.1)
    raise CheckFailed(f"Prometheus did not start; {log} says why")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
