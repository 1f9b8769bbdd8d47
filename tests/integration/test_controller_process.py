"""The controller as users run it: a real process, started, stopped, killed and started again."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.records import RoundState
from assay.controller.server.running import running_controller
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.errors import EXIT_UNREACHABLE, EXIT_USAGE, PermissionDenied
from tests.plane import queued, result, sweep
from tests.plane_client import ANY_PORTS, Board, ControllerProcess, Key, controller_process, enrol


@pytest.fixture
def controller(home: Home) -> Iterator[ControllerProcess]:
    with controller_process(home) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """One controller for the tests that leave it running; logs JSON lines."""
    home = Home(tmp_path_factory.mktemp("shared") / "home")
    launcher = ("-m", "assay.controller", "--log-json")
    arguments = (*ANY_PORTS, "--metrics-port=0")
    with controller_process(home, launcher=launcher, arguments=arguments) as made:
        made.start()
        yield made


def run_cli(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "assay.controller", *arguments],
        env={**os.environ, "ASSAY_HOME": str(home.root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def child_pids(parent: int, module: str) -> list[int]:
    """The processes of a controller that run ``module``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            status = (entry / "status").read_text()
        except OSError:
            continue
        ppid = re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
        if module.encode() in command and ppid is not None and int(ppid[1]) == parent:
            found.append(int(entry.name))
    return found


def wait_gone(pid: int) -> None:
    """Waits until a process is gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_and_leaves_nothing(
    controller: ControllerProcess, home: Home, number: int
) -> None:
    serving = controller.start()
    (child,) = child_pids(serving.pid, "blobs.process")
    assert home.addresses.exists()
    assert controller.end(number) == 0
    wait_gone(child)
    assert not home.addresses.exists()
    assert running_controller(home) is None


def test_what_serves_beside_it_does_not_outlive_a_killed_controller(
    controller: ControllerProcess, home: Home
) -> None:
    controller.arguments = (*ANY_PORTS, "--metrics-port=0", "--live-port=0")
    pid = controller.start().pid
    children = [*child_pids(pid, "blobs.process"), *child_pids(pid, "live.process")]
    assert len(children) == 2
    controller.end(signal.SIGKILL)
    for child in children:
        wait_gone(child)
    assert running_controller(home) is None, "the file it left behind is not believed"


@pytest.mark.parametrize(
    ("module", "port"), [("blobs.process", "blobs_port"), ("live.process", "metrics_port")]
)
def test_a_process_that_dies_is_started_again_on_its_port(
    shared: ControllerProcess, module: str, port: str
) -> None:
    serving = shared.serving()
    (child,) = child_pids(serving.pid, module)
    os.kill(child, signal.SIGKILL)
    wait_gone(child)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if listens(getattr(serving, port)):
            return
        time.sleep(0.05)
    raise AssertionError(shared.log.read_text())


def test_a_second_controller_on_the_same_home_is_refused(shared: ControllerProcess) -> None:
    second = run_cli(shared.home, "controller", "serve", "--enrol-port=0", "--no-metrics")
    assert second.returncode == EXIT_USAGE
    assert f"another controller (pid {shared.serving().pid}) serves" in second.stderr


def test_a_taken_port_is_named_with_the_option_that_changes_it(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_cli(home, "controller", "serve", "--no-metrics", f"--fleet-port={port}")
    assert ended.returncode == EXIT_UNREACHABLE
    assert f"port {port} on 127.0.0.1 is in use" in ended.stderr
    assert "--fleet-port" in ended.stderr
    assert not home.addresses.exists()


def page_of(controller: ControllerProcess) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        address = controller.serving().metrics_address
        with opener.open(f"http://{address}/metrics", timeout=10) as page:
            return bytes(page.read())
    except OSError as error:  # it listens, the first page is not rendered yet
        return str(error).encode()


def test_what_a_device_says_in_its_sync_is_on_the_page_and_after_a_restart_of_it(
    controller: ControllerProcess, home: Home, store: Store
) -> None:
    controller.arguments = (*ANY_PORTS, "--metrics-port=0", "--no-live")
    serving = controller.start()
    key, token = Key(), create_token(home, store, note="t")
    with Board(enrol(serving.enrolment_address, token, "board", key), key) as board:
        board.sync(accepting=False)
    said = b'assay_device_accepting{device="board",device_class="x86_64"} 0.0'
    for _ in range(2):
        (child,) = child_pids(serving.pid, "live.process")
        deadline = time.monotonic() + 20
        while said not in page_of(controller):
            assert time.monotonic() < deadline, page_of(controller).decode()
            time.sleep(0.05)
        os.kill(child, signal.SIGKILL)
        wait_gone(child)
        while not child_pids(serving.pid, "live.process"):
            assert time.monotonic() < deadline, controller.log.read_text()
            time.sleep(0.05)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_what_was_acknowledged_is_there_after_a_kill(
    controller: ControllerProcess, home: Home, store: Store
) -> None:
    serving, key = controller.start(), Key()
    token = create_token(home, store)
    with Board(enrol(serving.enrolment_address, token, "board", key), key) as board:
        store.add_sweep(sweep(), [], [queued(device_id=board.device_id)])
        (granted,) = board.assigned()
        assert board.report(result(granted, 0)) == ["STORED"]
        controller.end(signal.SIGKILL)
        controller.arguments = ["--no-metrics"]
        assert controller.start().fleet_port == serving.fleet_port, "ports stay over a restart"
        assert board.assigned([granted]) == [granted], "the lease outlives the controller"
        assert board.report(result(granted, 0)) == ["ALREADY_STORED"]
        assert board.report(result(granted, 1)) == ["STORED"]
    assert [r.state for r in store.rounds("s1")] == [RoundState.DONE]


def test_a_kill_between_commit_and_acknowledgement_doubles_nothing(
    home: Home, store: Store, tmp_path: Path
) -> None:
    # The launcher is the real program with a store that dies right after its first commit.
    launcher = tmp_path / "dies_after_commit.py"
    launcher.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            from assay.controller.store.sql import SqlStore
            from assay.controller.cli import main

            commit = SqlStore.record_all
            def commit_and_die(self, batches, now_ns):
                commit(self, batches, now_ns)
                os.kill(os.getpid(), signal.SIGKILL)
            SqlStore.record_all = commit_and_die
            main()
            """
        )
    )
    with controller_process(home, launcher=(str(launcher),)) as doomed:
        serving = doomed.start()
        key = Key()
        token = create_token(home, store)
        enrolled = enrol(serving.enrolment_address, token, "board", key)
        with Board(enrolled, key) as board:
            store.add_sweep(sweep(), [], [queued(device_id=board.device_id)])
            (granted,) = board.assigned()
            with pytest.raises(Exception, match=r"UNAVAILABLE|CANCELLED|INTERNAL|UNKNOWN"):
                board.report(result(granted, 0))
            assert doomed.wait() == -signal.SIGKILL
            assert len(store.results()) == 1, "it was committed, but nobody was told"
            with controller_process(home, arguments=("--no-metrics",)) as healthy:
                healthy.start()
                assert board.report(result(granted, 0)) == ["ALREADY_STORED"]
    assert len(store.results()) == 1


def test_status_tells_where_the_controller_listens(shared: ControllerProcess) -> None:
    status = run_cli(shared.home, "controller", "status", "--format", "csv")
    assert status.returncode == 0
    assert shared.serving().fleet_address in status.stdout
    assert str(shared.serving().pid) in status.stdout


def test_status_without_a_controller_says_how_to_start_one(home: Home) -> None:
    status = run_cli(home, "controller", "status")
    assert status.returncode == EXIT_UNREACHABLE
    assert "assay controller serve" in status.stderr


def test_doctor_looks_at_the_running_controller(shared: ControllerProcess) -> None:
    looked = run_cli(shared.home, "doctor", "--format", "json")
    assert looked.returncode == 0, looked.stdout
    assert shared.serving().fleet_address in looked.stdout


def test_its_log_is_json_lines_that_say_what_happened_where_and_to_whom(
    shared: ControllerProcess,
) -> None:
    store, key, unknown = open_store(shared.home), Key(), "sha256:" + "0" * 64
    token = create_token(shared.home, store)
    with Board(enrol(shared.serving().enrolment_address, token, "logged", key), key) as board:
        made = queued("logged-r", sweep_id="logged", device_id=board.device_id)
        store.add_sweep(sweep("logged"), [], [made])
        (granted,) = board.assigned()
        with pytest.raises(PermissionDenied):
            board.read(unknown)
    store.close()
    lines = [json.loads(line) for line in shared.log.read_text().splitlines()]
    for line in lines:
        assert line["module"].startswith("assay.") and line["event"] and line["level"]
        assert dt.datetime.fromisoformat(line["timestamp"]).utcoffset() == dt.timedelta(0)
    by_event = {line["event"]: line for line in lines}
    leased, refused = by_event["round leased"], by_event["call refused"]
    assert (leased["device_id"], leased["round_id"]) == (board.device_id, "logged-r")
    assert (leased["fence"], leased["runs"]) == (granted.fence, len(granted.runs))
    assert (refused["method"], refused["code"]) == ("/assay.v1.Blobs/Read", "permission_denied")
    assert unknown in refused["reason"] and "logged" in refused["reason"]
    parts = {line["module"].split(".")[2] for line in lines}
    assert {"server", "blobs"} <= parts, "each process keeps to it"
