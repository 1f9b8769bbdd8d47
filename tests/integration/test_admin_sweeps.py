"""Sweeps run from elsewhere: over a real socket and over mTLS, against a real controller."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.controller.admin.access import load_identity, opened_office
from assay.controller.admin.base import Administration
from assay.controller.admin.remote import RemoteOffice
from assay.controller.admin.sweeping import Here
from assay.controller.admin.views import Exported, ExportOrder, SweepFile, SweepLook
from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.records import AuditRecord, Role, SweepState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.channel import dial
from assay.core.errors import (
    EXIT_PARTIAL,
    EXIT_USAGE,
    AlreadyExists,
    AssayError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unreachable,
    UsageError,
)
from assay.core.model import Result, Round, Verdict, VerdictKind
from tests import factories
from tests.plane import facts, result
from tests.plane_client import ANY_PORTS, Board, ControllerProcess, Key, controller_process, enrol
from tests.planning import DATASET, VARIANTS

# Needs no root, but more time than `make test` has.
pytestmark = pytest.mark.system

_NUMBERS = itertools.count()
ARGUMENTS = (*ANY_PORTS, "--admin-port=0", "--no-metrics", "--no-live")
FILE = """
name = "{name}"
dataset = "digits"
variants = ["fp32", "int8"]
baseline = "fp32"
profile = "demo"
rounds = {rounds}
retries = 0

[devices]
names = ["{device}"]

[[runtimes]]
name = "onnxruntime"
"""


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    home = Home(tmp_path_factory.mktemp("p") / "home")
    with controller_process(home, arguments=ARGUMENTS) as made:
        made.start()
        yield made
        assert made.end() == 0


@pytest.fixture(scope="module")
def store(controller: ControllerProcess) -> Iterator[Store]:
    opened = open_store(controller.home)
    opened.add_dataset(DATASET)
    for variant in VARIANTS:
        opened.add_variant(variant)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def on_socket(controller: ControllerProcess) -> Iterator[Administration]:
    with opened_office(f"unix:{controller.serving().admin_socket}", "") as office:
        yield office


Identity = Callable[[str, Role], Path]
AtPort = Callable[[str, Role], Administration]


@pytest.fixture(scope="module")
def identity(on_socket: Administration, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    def make(name: str, role: Role) -> Path:
        path = tmp_path_factory.mktemp("identity") / f"{name}.pem"
        path.write_bytes(on_socket.add_operator(name, role, 5))
        return path

    return make


@pytest.fixture
def at_port(controller: ControllerProcess, identity: Identity) -> Iterator[AtPort]:
    """Administration over mTLS, as an operator or viewer of a name."""
    opened: list[RemoteOffice] = []

    def make(name: str, role: Role) -> Administration:
        credentials = load_identity(identity(name, role))
        opened.append(RemoteOffice(dial(controller.serving().admin_address, credentials)))
        return opened[-1]

    yield make
    for office in opened:
        office.close()


@pytest.fixture
def board(controller: ControllerProcess, store: Store) -> Iterator[Board]:
    key, name = Key(), f"board-{next(_NUMBERS)}"
    token = create_token(controller.home, store)
    with Board(enrol(controller.serving().enrolment_address, token, name, key), key) as made:
        store.seen(made.device_id, facts(), 1)
        yield made


def sweep_file(board: Board, *, rounds: int = 1, **more: str) -> SweepFile:
    """A sweep of its own on that board, two variants and the canary."""
    text = FILE.format(name=f"s-{board.name}", device=board.name, rounds=rounds)
    return SweepFile("lab.toml", text + "".join(more.values()))


def measured(granted: Round, position: int) -> Result:
    """A VALID result of one run."""
    return replace(
        result(granted, position),
        verdict=Verdict(VerdictKind.VALID),
        latency=factories.make_latency(),
        failure=None,
    )


def measure(board: Board, rounds: int = 1) -> None:
    """What the board's agent would do for so many rounds."""
    for _ in range(rounds):
        (granted,) = board.assigned(wait_s=20)
        board.report(*(measured(granted, at) for at in range(len(granted.runs))))


def told(store: Store, actor: str) -> list[tuple[str, str, str]]:
    """The audit log's entries of one caller: action, subject, outcome."""
    entries = [e for e in store.audit(1_000) if e.actor == actor]
    return [(e.action, e.subject, e.outcome) for e in entries]


def of(store: Store, actor: str) -> AuditRecord:
    """Its newest entry of one caller."""
    return [e for e in store.audit(1_000) if e.actor == actor][-1]


class TestOverTheWire:
    def test_an_operator_plans_runs_watches_and_reads_a_sweep(
        self,
        controller: ControllerProcess,
        store: Store,
        board: Board,
        at_port: AtPort,
        tmp_path: Path,
    ) -> None:
        office, file = at_port("oscar", Role.OPERATOR), sweep_file(board, rounds=2)
        name = f"s-{board.name}"
        plan = office.plan_sweep(file)
        assert (plan.measured, plan.rounds, plan.rounds_each) == (2, 2, 2)
        assert {cell.device for cell in plan.cells} == {board.name}
        assert [s.name for s in store.sweeps() if s.name == name] == []

        started = office.run_sweep(file)
        assert started.sweep == store.sweep(name)
        assert (started.rounds_added, started.plan) == (2, replace(plan, cells=()))
        again = office.run_sweep(file)
        assert (again.rounds_added, again.plan) == (0, None)

        looks: list[SweepLook] = []
        with ThreadPoolExecutor(1) as threads:
            playing = threads.submit(measure, board, 2)
            looks += office.watch_sweep(name)
            playing.result()
        assert (looks[0].runs_done, looks[0].runs_total) == (0, 6)
        assert looks[-1].sweep.state is SweepState.DONE
        assert (looks[-1].runs_done, looks[-1].cells, looks[-1].cells_short) == (6, 2, 0)
        assert looks[-1].latest == store.results(sweep_id=started.sweep.sweep_id)[-1]

        assert office.look_at_sweep(name) == looks[-1]
        assert replace(looks[-1], latest=None) in office.look_at_sweeps()
        assert [r.state for r in office.rounds(name)] == ["done", "done"]
        assert office.results(name) == store.results(sweep_id=started.sweep.sweep_id)
        here = Here(controller.home, store)
        assert office.report(name, markdown=True) == here.report(name, markdown=True)
        assert office.report(name).startswith(b"<!doctype html>")
        assert office.report(name, markdown=True, force=True) == here.report(
            name, markdown=True, force=True
        )
        for form in ("csv", "parquet", "json", "mlperf"):
            order, paths = ExportOrder(name, form), [tmp_path / f"{at}.{form}" for at in "ab"]
            assert office.export(order, paths[0]) == here.export(order, paths[1]) == Exported(6, 0)
            assert paths[0].read_bytes() == paths[1].read_bytes()
        latest = store.results(sweep_id=started.sweep.sweep_id)[-1]
        assert office.result(latest.attempt_id) == latest
        assert of(store, "oscar").origin == "127.0.0.1"
        assert told(store, "oscar")[:4] == [
            ("sweep plan", "lab.toml", "ok"),
            ("sweep run", name, "ok"),
            ("sweep run", name, "ok"),
            ("sweep watch", name, "ok"),
        ]

    def test_a_viewer_looks_and_starts_nothing(
        self, store: Store, board: Board, at_port: AtPort, on_socket: Administration
    ) -> None:
        viewer, file = at_port("vera", Role.VIEWER), sweep_file(board)
        name = on_socket.run_sweep(file).sweep.name
        assert of(store, "socket").subject == name
        assert name in [look.sweep.name for look in viewer.look_at_sweeps()]
        assert viewer.look_at_sweep(name).runs_total == 3
        assert [r.state for r in viewer.rounds(name)] == ["queued"]
        assert viewer.results(name) == []
        refused: list[Callable[[], object]] = [
            lambda: viewer.plan_sweep(file),
            lambda: viewer.run_sweep(file),
            lambda: viewer.resume_sweep(name),
            lambda: viewer.cancel_sweep(name),
        ]
        for call in refused:
            with pytest.raises(PermissionDenied, match="vera is a viewer and may not `sweep "):
                call()
        assert told(store, "vera")[-4:] == [
            ("sweep plan", "lab.toml", "permission_denied"),
            ("sweep run", "lab.toml", "permission_denied"),
            ("sweep resume", name, "permission_denied"),
            ("sweep cancel", name, "permission_denied"),
        ]
        assert len(store.rounds(store.sweep(name).sweep_id)) == 1

    def test_two_operators_start_the_same_sweep_at_once(
        self, store: Store, board: Board, at_port: AtPort
    ) -> None:
        offices = [at_port("anna", Role.OPERATOR), at_port("olga", Role.OPERATOR)]
        file, gate = sweep_file(board, rounds=3), threading.Barrier(2)

        def start(office: Administration) -> Any:
            gate.wait()
            return office.run_sweep(file)

        with ThreadPoolExecutor(2) as threads:
            done = list(threads.map(start, offices))
        assert sorted(one.rounds_added for one in done) == [0, 3]
        assert done[0].sweep == done[1].sweep
        assert len(store.rounds(done[0].sweep.sweep_id)) == 3

    def test_a_sweep_that_is_cancelled_ends_for_who_watches_it_and_is_taken_up_again(
        self, store: Store, board: Board, at_port: AtPort, on_socket: Administration
    ) -> None:
        office = at_port("carl", Role.OPERATOR)
        name = office.run_sweep(sweep_file(board)).sweep.name
        looks = office.watch_sweep(name)
        assert not next(looks).ended
        on_socket.cancel_sweep(name)
        assert list(looks)[-1].sweep.state is SweepState.CANCELLED
        assert office.resume_sweep(name).rounds_added == 1
        assert store.sweep(name).state is SweepState.RUNNING

    def test_who_is_revoked_sees_no_more(
        self, board: Board, at_port: AtPort, on_socket: Administration
    ) -> None:
        viewer = at_port("rolf", Role.VIEWER)
        name = on_socket.run_sweep(sweep_file(board)).sweep.name
        looks = viewer.watch_sweep(name)
        next(looks)
        on_socket.revoke_operator("rolf")
        with pytest.raises(Unauthenticated, match="was revoked"):
            list(looks)

    def test_what_is_not_there_is_told(self, at_port: AtPort, tmp_path: Path) -> None:
        office = at_port("nora", Role.OPERATOR)
        calls: list[Callable[[], object]] = [
            lambda: office.resume_sweep("ghost"),
            lambda: next(office.watch_sweep("ghost")),
            lambda: office.look_at_sweep("ghost"),
            lambda: office.rounds("ghost"),
            lambda: office.results("ghost"),
            lambda: office.report("ghost"),
            lambda: office.export(ExportOrder("ghost", "csv"), tmp_path / "out"),
        ]
        for call in calls:
            with pytest.raises(NotFound, match="no sweep 'ghost'"):
                call()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nname = \n", r"lab.toml: is not TOML: .*line 2"),
        ("\0", r"lab.toml: is not TOML"),
        ("a = " + "[" * 5_000, r"lab.toml: is not TOML"),
        ('nmae = "x"', r"lab.toml: nmae: no such key; see docs/reference/sweep-file.md"),
        ('[[runtimes]]\nname = "tensorrt"', r"lab.toml: runtimes\[0\].name: 'tensorrt'"),
        ("# " + "x" * (256 << 10), r"lab.toml: is longer than 256 KiB"),
        (
            "".join(f"k{n} = 1\n" for n in range(10_000)),
            r"lab.toml: k0: no such key(.|\n)*\(cut\)$",
        ),
        ('variants = ["é' + "é" * 9_000 + '"]\nx = 1', r"lab.toml: x: no such key"),
    ],
)
def test_rubbish_is_refused_by_line_or_key(on_socket: Administration, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        on_socket.run_sweep(SweepFile("lab.toml", text))


class TestFilesThatDoNotFit:
    def test_recipes_are_built_where_the_controller_runs(
        self, board: Board, on_socket: Administration
    ) -> None:
        with pytest.raises(UsageError, match="build them there with `assay variant build`"):
            file = sweep_file(board)
            on_socket.run_sweep(replace(file, text='recipes = ["int8.toml"]\n' + file.text))

    def test_names_of_what_this_controller_does_not_hold(
        self, board: Board, on_socket: Administration
    ) -> None:
        file = sweep_file(board)
        with pytest.raises(NotFound, match="no dataset 'ghosts'"):
            on_socket.run_sweep(replace(file, text=file.text.replace('"digits"', '"ghosts"')))
        with pytest.raises(UsageError, match="int4"):
            on_socket.run_sweep(replace(file, text=file.text.replace('"int8"', '"int4"')))

    def test_another_file_under_the_same_name(
        self, board: Board, on_socket: Administration
    ) -> None:
        on_socket.run_sweep(sweep_file(board))
        with pytest.raises(AlreadyExists, match="made from another file"):
            on_socket.run_sweep(sweep_file(board, rounds=2))


class TestTheCommandLine:
    @pytest.fixture
    def environment(
        self, controller: ControllerProcess, identity: Identity, tmp_path: Path
    ) -> dict[str, str]:
        return {
            **os.environ,
            "ASSAY_HOME": str(tmp_path / "nothing here"),
            "ASSAY_CONTROLLER": controller.serving().admin_address,
            "ASSAY_IDENTITY": str(identity("cleo", Role.OPERATOR)),
        }

    def started(self, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "assay.controller", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)

    def test_a_sweep_from_a_laptop(
        self, environment: dict[str, str], board: Board, tmp_path: Path
    ) -> None:
        path = tmp_path / "lab.toml"
        path.write_text(sweep_file(board, rounds=2).text)
        running = self.started(environment, "sweep", "run", str(path))
        measure(board)
        (granted,) = board.assigned(wait_s=20)
        board.report(*(result(granted, at) for at in range(len(granted.runs))))
        _, said = running.communicate(timeout=30)
        assert "2 cells, 2 rounds, 6 runs with the canaries" in said
        assert "measured 6 of 6 runs" in said
        assert "2 of 2 cells have fewer than 2 VALID results" in said
        assert running.returncode == EXIT_PARTIAL
        out = tmp_path / "report.html"
        name = f"s-{board.name}"
        reading = self.started(environment, "report", name, "-o", str(out))
        listing = self.started(environment, "result", "list", name, "--format", "csv")
        assert reading.wait(30) == 0 and out.read_bytes().startswith(b"<!doctype html>")
        assert listing.communicate(timeout=30)[0].count("INVALID") == 2
        assert not (tmp_path / "nothing here").exists()

    def test_leaving_the_view_leaves_the_sweep(
        self, environment: dict[str, str], store: Store, board: Board, tmp_path: Path
    ) -> None:
        path = tmp_path / "lab.toml"
        path.write_text(sweep_file(board).text)
        running = self.started(environment, "sweep", "run", str(path))
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("measured 0 of 3"):
                break
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
        name = f"s-{board.name}"
        assert f"the sweep goes on. `assay sweep status {name} --follow` looks again" in said
        assert running.returncode == 0
        assert store.sweep(name).state is SweepState.RUNNING

    def test_mistakes_are_told_with_the_exit_status_of_a_local_run(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        path = tmp_path / "lab.toml"
        path.write_text("rounds = 0")
        running = self.started(environment, "sweep", "run", str(path))
        _, said = running.communicate(timeout=30)
        assert (f"{path}: rounds: 0: " in said, running.returncode) == (True, EXIT_USAGE)


def test_a_controller_that_goes_away_is_told_and_its_sweep_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    with controller_process(home) as controller:
        serving = controller.start()
        store = open_store(home)
        store.add_dataset(DATASET)
        for variant in VARIANTS:
            store.add_variant(variant)
        key = Key()
        enrolled = enrol(serving.enrolment_address, create_token(home, store), "b", key)
        with Board(enrolled, key) as board, opened_office(serving.admin_address, "") as office:
            store.seen(board.device_id, facts(), 1)
            assert isinstance(office, RemoteOffice)
            office._sleep = lambda _s: None
            looks = office.watch_sweep(office.run_sweep(sweep_file(board)).sweep.name)
            next(looks)
            assert controller.end() == 0
            with pytest.raises(Unreachable, match="does not answer any more"):
                list(looks)
            with pytest.raises(AssayError):
                office.run_sweep(sweep_file(board))
        assert [s.state for s in store.sweeps()] == [SweepState.RUNNING]
        store.close()
