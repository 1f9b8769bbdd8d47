"""The demo's steps, each on the real thing: data, variants, controller, agent, sweep, report."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from rich.console import Console

from assay.controller.admin.looks import watched
from assay.controller.comparing.findings import validity_sentence
from assay.controller.comparing.rows import Summary
from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import load_sweep
from assay.controller.demo.children import child, require_alive
from assay.controller.demo.paths import DemoPaths
from assay.controller.demo.progress import Steps
from assay.controller.exporting.export import export_results
from assay.controller.identity.enrol import create_token
from assay.controller.planning import sweeps
from assay.controller.planning.spec import load_spec
from assay.controller.records import DeviceRecord, SweepState
from assay.controller.report import write_report
from assay.controller.server.running import ServingController, running_controller
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.controller.terminal.follow import follow
from assay.controller.terminal.table import render_table
from assay.core.cas import ContentStore
from assay.core.errors import CheckFailed, Partial, Unreachable

DEVICE_NAME = "this-machine"
_START_S = 180.0
_POLL_S = 0.2


@contextlib.contextmanager
def serving(paths: DemoPaths) -> Iterator[ServingController]:
    """The controller as a process of its own, on free loopback ports, until the block ends."""
    log = paths.log("controller")
    arguments = ["assay.controller", "--log-json", "controller", "serve"]
    with child(arguments, {"ASSAY_HOME": str(paths.home.root)}, log) as process:
        deadline = time.monotonic() + _START_S
        while (found := running_controller(paths.home)) is None or found.pid != process.pid:
            require_alive(process, "controller", log)
            _give_up_after(deadline, "the controller did not start", log)
            time.sleep(_POLL_S)
        yield found


@contextlib.contextmanager
def agent(paths: DemoPaths, store: Store, controller: ServingController) -> Iterator[DeviceRecord]:
    """The agent as a process of its own, enrolled by a join token, until the block ends."""
    log = paths.log("agent")
    arguments = ["assay.agent", "--log-json", "run"]
    arguments += ["--controller", controller.enrolment_address, "--name", DEVICE_NAME]
    environment = {"ASSAY_AGENT_HOME": str(paths.agent_home)}
    if not any(device.name == DEVICE_NAME for device in store.devices()):
        token = create_token(paths.home, store, note="demo")
        environment["ASSAY_AGENT_TOKEN"] = str(token)
    started_ns = time.time_ns()
    with child(arguments, environment, log) as process:
        deadline = time.monotonic() + _START_S
        while (found := _seen_since(store, started_ns)) is None:
            require_alive(process, "agent", log)
            _give_up_after(deadline, "the agent did not come online", log)
            time.sleep(_POLL_S)
        yield found


def run_demo(paths: DemoPaths, *, retry: bool) -> None:
    """The whole demo; :class:`Partial` at the end where a cell has no VALID result to rank by."""
    paths.root.mkdir(parents=True, exist_ok=True)
    out, talk = Console(), Console(stderr=True)
    store = open_store(paths.home)
    try:
        with Steps(talk) as steps:
            build(paths, store, steps)
        if _is_measured(paths, store) and not retry:
            talk.print("Everything is measured already; --retry measures again what is not VALID.")
        else:
            measure(paths, store, talk)
        show(paths, store, out, talk)
    finally:
        store.close()


def build(paths: DemoPaths, store: Store, steps: Steps) -> None:
    """The data and every variant; nothing that is there already is made again."""
    from assay.controller.datasets.fashion_mnist import prepare_fashion_mnist
    from assay.controller.demo_model import demo_recipes
    from assay.controller.variants import build_variants

    blobs = ContentStore(paths.home.artifacts)
    dataset = prepare_fashion_mnist(store, blobs, steps.named("data"))
    build_variants(demo_recipes(), dataset, store, blobs, steps.named("variants"))


def measure(paths: DemoPaths, store: Store, talk: Console) -> None:
    """Starts controller and agent, runs or resumes the sweep, and follows it to its end."""
    with serving(paths) as controller:
        talk.print(
            f"controller on {controller.fleet_address}, metrics on "
            f"http://{controller.metrics_address}/metrics"
        )
        with agent(paths, store, controller) as device:
            talk.print(f"agent enrolled as {device.name} ({_board(device)})")
            submitted = sweeps.submit(
                load_spec(paths.sweep_file), store, ContentStore(paths.home.artifacts)
            )
            talk.print(f"sweep {submitted.sweep.name}: {len(submitted.added)} rounds to measure")
            try:
                follow(watched(paths.home, store, submitted.sweep.sweep_id))
            except Unreachable:
                raise CheckFailed(
                    f"the controller went away; {paths.log('controller')} says why. "
                    "Run the demo again: it goes on where it stopped"
                ) from None
        page = f"http://{controller.metrics_address}/metrics"
        with urllib.request.urlopen(page, timeout=30) as answer:
            paths.metrics.write_bytes(answer.read())


def show(paths: DemoPaths, store: Store, out: Console, talk: Console) -> None:
    """The table on stdout, the report and the export as files, and where to look further."""
    blobs = ContentStore(paths.home.artifacts)
    name = load_spec(paths.sweep_file).name
    data = load_sweep(store, name)
    summary = summarise(data)
    write_report(store, blobs, name, paths.report)
    export_results(data.results, data.variants, "json", paths.export)
    render_table(summary, out)
    talk.print()
    talk.print(f"report   {paths.report}", highlight=False)
    talk.print(f"results  {paths.export}", highlight=False)
    talk.print(f"metrics  {paths.metrics}", highlight=False)
    talk.print(f"\nlook further (with ASSAY_HOME={paths.home.root}):", highlight=False)
    for command in _further(name):
        talk.print(f"  {command}", highlight=False)
    conclude(summary, talk)


def conclude(summary: Summary, talk: Console) -> None:
    """Says what is not VALID and what would cure it; :class:`Partial` where a cell cannot rank."""
    if summary.valid == summary.total:
        return
    told = (
        f"{validity_sentence(summary).text} They are shown, labelled and left out of the ranking; "
        "`make demo ARGS=--retry` measures those again"
    )
    unranked = sum(not row.counts for row in summary.rows)
    if unranked:
        raise Partial(f"{unranked} of {len(summary.rows)} cells have no VALID result: {told}")
    talk.print(f"\nnote: {told}", highlight=False)


def _is_measured(paths: DemoPaths, store: Store) -> bool:
    if not paths.sweep_file.exists():
        source = resources.files("assay.controller.demo") / "sweep.toml"
        paths.sweep_file.write_bytes(source.read_bytes())
    name = load_spec(paths.sweep_file).name
    return any(s.name == name and s.state is SweepState.DONE for s in store.sweeps())


def _seen_since(store: Store, moment_ns: int) -> DeviceRecord | None:
    for device in store.devices():
        if device.name == DEVICE_NAME and device.facts and (device.last_seen_ns or 0) > moment_ns:
            return device
    return None


def _give_up_after(deadline: float, what: str, log: Path) -> None:
    if time.monotonic() > deadline:
        raise CheckFailed(f"{what} within {_START_S:.0f} s; {log} says more")


def _board(device: DeviceRecord) -> str:
    facts = device.facts
    assert facts is not None
    return f"{facts.cpu.model}, {', '.join(f'{r.name} {r.version}' for r in facts.runtimes)}"


def _further(name: str) -> list[str]:
    return [
        f"assay result list {name}",
        f"assay result export {name} --format csv",
        "assay variant show fp32",
        f"assay sweep show {name}",
        "assay controller serve      # and point Prometheus at its /metrics",
        "assay-agent doctor          # what this board can and cannot measure",
    ]
