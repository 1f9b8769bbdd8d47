"""``make watch-demo``: controller, agents and Prometheus with the shipped rules, and a sweep.

Everything is real and on this machine, below ``.demo``: variants that ``make demo`` built are used,
what is missing is built first (a few minutes). Each start measures anew, under the next number, and
goes on until Ctrl-C or for ``--minutes``, with ``--once`` until the sweep has ended. Then all that
it started is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from bench.watch.prometheus import prometheus
from rich.console import Console

from assay.controller.demo.children import child, require_alive
from assay.controller.demo.job import serving
from assay.controller.demo.paths import DemoPaths
from assay.controller.demo.progress import Steps
from assay.controller.identity.enrol import create_token
from assay.controller.planning import sweeps
from assay.controller.planning.progress import measure_progress
from assay.controller.planning.spec import SweepSpec, load_spec
from assay.controller.records import SweepRecord
from assay.controller.server.running import ServingController
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.errors import AssayError, NotFound

SWEEP = Path(__file__).with_name("sweep.toml")
_START_S = 180.0
_POLL_S = 0.5


def main(arguments: list[str]) -> int:
    """Runs it; exit status 0 however it is left, 1 where it could not start."""
    parser = argparse.ArgumentParser(prog="watch-demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--directory", type=Path, default=Path(".demo"))
    parser.add_argument("--sweep", type=Path, default=SWEEP, help="Another sweep file.")
    parser.add_argument("--agents", type=int, default=3, help="How many, named watch-1 and so on.")
    parser.add_argument("--minutes", type=float, default=30.0, help="When to end at the latest.")
    parser.add_argument("--once", action="store_true", help="End when the sweep has ended.")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    talk = Console(stderr=True)
    try:
        _run(DemoPaths(options.directory.resolve()), options, talk)
    except KeyboardInterrupt:
        talk.print("\nended; what was measured is kept, `make watch-demo` starts again")
    except AssayError as error:
        talk.print(f"error: {error}", highlight=False)
        return 1
    return 0


def _run(paths: DemoPaths, options: argparse.Namespace, talk: Console) -> None:
    paths.root.mkdir(parents=True, exist_ok=True)
    spec: SweepSpec = load_spec(options.sweep)
    with contextlib.ExitStack() as parts:
        store = parts.enter_context(contextlib.closing(open_store(paths.home)))
        with Steps(talk) as steps:
            build(spec, options.sweep.parent, paths, store, steps)
        controller = parts.enter_context(serving(paths))
        for number in range(1, options.agents + 1):
            name = f"watch-{number}"
            parts.enter_context(agent(name, paths, store, controller))
        address = parts.enter_context(prometheus(paths.root / "prometheus", controller))
        sweep = submit(spec, paths, store)
        for line in _where(paths, controller, address, sweep):
            talk.print(line, highlight=False, soft_wrap=True)
        _wait(store, sweep.sweep_id, options, talk)


def build(spec: SweepSpec, folder: Path, paths: DemoPaths, store: Store, steps: Steps) -> None:
    """The sweep's data and variants; nothing that is there already is made again."""
    blobs = ContentStore(paths.home.artifacts)
    try:
        dataset = store.dataset(spec.dataset)
    except NotFound:
        from assay.controller.datasets.fashion_mnist import prepare_fashion_mnist

        dataset = prepare_fashion_mnist(store, blobs, steps.named("data"))
    if spec.recipes:
        from assay.controller.variants import build_variants

        recipes = [folder / path for path in spec.recipes]
        build_variants(recipes, dataset, store, blobs, steps.named("variants"))


@contextlib.contextmanager
def agent(
    name: str, paths: DemoPaths, store: Store, controller: ServingController
) -> Iterator[None]:
    """An agent with a page of its own, enrolled by a join token, until the block ends.

    All carry the label of one shared thing, so that they measure in turn, not against each other.
    """
    home, log = paths.root / "watch" / name, paths.log(name)
    home.parent.mkdir(exist_ok=True)
    environment = {"ASSAY_AGENT_HOME": str(home), "ASSAY_AGENT_LABELS": "shared.host=here"}
    if not any(device.name == name for device in store.devices()):
        environment["ASSAY_AGENT_TOKEN"] = str(create_token(paths.home, store, note="watch-demo"))
    arguments = ["assay.agent", "--log-json", "run", "--name", name]
    arguments += ["--controller", controller.enrolment_address, "--metrics-port", "0"]
    started_ns = time.time_ns()
    with child(arguments, environment, log) as process:
        deadline = time.monotonic() + _START_S
        while not _is_seen(store, name, started_ns):
            require_alive(process, f"agent {name}", log)
            if time.monotonic() > deadline:
                raise AssayError(f"{name} did not come online; {log} says more")
            time.sleep(_POLL_S)
        yield


def submit(spec: SweepSpec, paths: DemoPaths, store: Store) -> SweepRecord:
    """Starts the sweep under the next free number, so that there is something to watch."""
    taken = {sweep.name for sweep in store.sweeps()}
    number = next(n for n in range(1, 10_000) if f"{spec.name}-{n}" not in taken)
    named = spec.model_copy(update={"name": f"{spec.name}-{number}", "seed": number})
    return sweeps.submit(named, store, ContentStore(paths.home.artifacts)).sweep


def _is_seen(store: Store, name: str, since_ns: int) -> bool:
    return any(d.name == name and (d.last_seen_ns or 0) > since_ns for d in store.devices())


def _where(
    paths: DemoPaths, controller: ServingController, address: str, sweep: SweepRecord
) -> Iterator[str]:
    yield f"live page   {controller.live_url}"
    yield f"report      {controller.live_url}report/{sweep.name}"
    yield f"metrics     http://{controller.metrics_address}/metrics"
    if address:
        yield f"prometheus  {address}/targets  {address}/rules  {address}/alerts"
    else:
        yield "prometheus  not installed: apt-get install prometheus, then run this again"
    yield f"terminal    ASSAY_HOME={paths.home.root} {Path(sys.executable).parent}/assay watch"
    yield f"sweep {sweep.name} runs; Ctrl-C ends everything"


def _wait(store: Store, sweep_id: str, options: argparse.Namespace, talk: Console) -> None:
    deadline, told = time.monotonic() + 60 * options.minutes, False
    while time.monotonic() < deadline:
        sweep = store.sweep(sweep_id)
        seen = measure_progress(sweep, store.rounds(sweep_id), store.results(sweep_id=sweep_id))
        if seen.ended and not told:
            counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(seen.verdicts.items()))
            talk.print(f"sweep {sweep.name} has ended: {counts}", highlight=False)
            told = True
        if told and options.once:
            return
        time.sleep(_POLL_S)
    talk.print(f"{options.minutes:g} minutes are over; everything is ended", highlight=False)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
