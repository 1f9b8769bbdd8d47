"""``make watch-demo``: controller, agent and Prometheus with the provisioned rules, and a sweep.

Everything is the real thing on this machine, below ``.demo``: what ``make demo`` built is used
again. Prints where to look and goes on until Ctrl-C, or with ``--once`` until the sweep ends.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from assay.controller.demo.job import DEVICE_NAME, agent, build, serving
from assay.controller.demo.paths import DemoPaths
from assay.controller.demo.progress import Steps
from assay.controller.planning import sweeps
from assay.controller.planning.spec import load_spec
from assay.controller.records import SweepState
from assay.controller.server.running import ServingController
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore

SHIPPED = Path(__file__).resolve().parents[2] / "dashboards/prometheus"
_POLL_S = 1.0
_STOP_S = 20.0


def configuration(root: Path, controller: ServingController) -> Path:
    """The shipped configuration and rules, on this controller's port."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SHIPPED / "rules", root / "rules", dirs_exist_ok=True)
    text = (SHIPPED / "prometheus.yml").read_text()
    text = text.replace("127.0.0.1:9464", controller.metrics_address)
    text = text.replace("scrape_interval: 15s", "scrape_interval: 5s\n  evaluation_interval: 5s")
    path = root / "prometheus.yml"
    path.write_text(text.replace("scrape_timeout: 10s", "scrape_timeout: 5s"))
    return path


@contextlib.contextmanager
def prometheus(root: Path, controller: ServingController) -> Iterator[str]:
    """Prometheus until the block ends; its address, empty where it is not installed."""
    program = shutil.which("prometheus")
    if program is None:
        yield ""
        return
    config, port = configuration(root, controller), _free_port()
    with (root / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={root / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            process.kill()
            process.wait()


def main(arguments: list[str]) -> int:
    """Runs it; exit status 0 however it is left."""
    parser = argparse.ArgumentParser(prog="watch-demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end when the sweep has ended")
    options = parser.parse_args(arguments)
    paths, talk = DemoPaths(Path(".demo").resolve()), Console(stderr=True)
    paths.root.mkdir(parents=True, exist_ok=True)
    store = open_store(paths.home)
    with contextlib.closing(store), contextlib.suppress(KeyboardInterrupt):
        with Steps(talk) as steps:
            build(paths, store, steps)
        with contextlib.ExitStack() as parts:
            controller = parts.enter_context(serving(paths))
            parts.enter_context(agent(paths, store, controller))
            address = parts.enter_context(prometheus(paths.root / "prometheus", controller))
            name = submit(paths, store)
            for line in _where(paths, controller, address):
                talk.print(line, highlight=False)
            _wait(store, name, once=options.once)
    return 0


def submit(paths: DemoPaths, store: Store) -> str:
    """Starts the demo's sweep, or resumes it; its name."""
    if not paths.sweep_file.exists():
        from importlib import resources

        source = resources.files("assay.controller.demo") / "sweep.toml"
        paths.sweep_file.write_bytes(source.read_bytes())
    blobs = ContentStore(paths.home.artifacts)
    return sweeps.submit(load_spec(paths.sweep_file), store, blobs).sweep.name


def _where(paths: DemoPaths, controller: ServingController, address: str) -> Iterator[str]:
    yield f"live page   {controller.live_url}"
    yield f"metrics     http://{controller.metrics_address}/metrics"
    if address:
        yield f"prometheus  {address}/graph    alerts {address}/alerts"
    else:
        yield "prometheus  not installed: apt-get install prometheus, then run this again"
    yield f"terminal    ASSAY_HOME={paths.home.root} assay watch"
    yield f"{DEVICE_NAME} measures now; Ctrl-C ends everything, the sweep can be resumed"


def _wait(store: Store, name: str, *, once: bool) -> None:
    while not (once and store.sweep(name).state is not SweepState.RUNNING):
        time.sleep(_POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
