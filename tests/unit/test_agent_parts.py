"""The smaller parts of an agent: its home, its CPUs, its facts, its end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog.testing

from assay.agent.config import AgentConfig
from assay.agent.home import AgentHome, write_atomically
from assay.agent.measuring.affinity import CpuChooser, pin_threads
from assay.agent.measuring.outcome import failure_of, refused_results
from assay.agent.plane import facts as facts_module
from assay.agent.plane.ending import Ending
from assay.agent.plane.facts import FactsSource
from assay.agent.plane.health import HealthReader
from assay.agent.plane.spool import Key, Spool
from assay.core import convert
from assay.core.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    AssayError,
    CorruptArtifact,
    DiskFull,
    NotFound,
    RuntimeAbsent,
    UsageError,
)
from assay.core.model import Absent, CpuFacts, FailureClass, Isolation, Result, RuntimeFacts
from assay.v1 import job_pb2
from tests import plane
from tests.unit.test_agent_rounds import a_round

FACTS = CpuFacts("Test CPU", "x86_64")


def test_two_agents_on_one_home_are_refused_and_the_first_is_named(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "home")
    with home.lock():
        code = (
            "import sys; from pathlib import Path; from assay.agent.home import AgentHome\n"
            "with AgentHome(Path(sys.argv[1])).lock(): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(home.root)], capture_output=True, text=True
        )
        assert f"another agent (pid {os.getpid()}) uses {home.root}" in done.stderr
        with pytest.raises(UsageError, match="--home"), home.lock():
            pass
    with home.lock():
        pass


def test_a_home_is_its_owners_alone(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "home").create()
    for path in (home.root, home.rounds, home.work, home.artifacts):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"first")

    def fail(handle: int) -> None:
        raise OSError("the disk went away")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="went away"):
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_default_home_is_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_AGENT_HOME", "/srv/agent")
    assert AgentHome.default().root == Path("/srv/agent")
    monkeypatch.delenv("ASSAY_AGENT_HOME")
    assert AgentHome.default().root == Path.home() / ".local/share/assay-agent"


def chooser(tmp_path: Path, **settings: object) -> CpuChooser:
    config = AgentConfig(sysroot=tmp_path, **settings)  # type: ignore[arg-type]
    return CpuChooser(config, frozenset(range(4)))


def test_cpus_are_chosen_where_nothing_is_configured(tmp_path: Path) -> None:
    plan = chooser(tmp_path).plan(FACTS, 1)
    assert 0 not in plan.measure_cpus
    assert plan.isolation is Isolation.PINNED


@pytest.mark.parametrize(
    ("settings", "measured", "housekeeping", "isolation"),
    [
        ({"measure_cpus": (2, 3)}, (2, 3), (0, 1), Isolation.PINNED),
        ({"housekeeping_cpus": (1,)}, (2, 3), (1,), Isolation.PINNED),
        ({"measure_cpus": (0,), "housekeeping_cpus": (3,)}, (0,), (3,), Isolation.PINNED),
        ({"measure_cpus": (0, 1, 2, 3)}, (0, 1, 2, 3), (0,), Isolation.NONE),
        ({"measure_cpus": (1,), "housekeeping_cpus": (1,)}, (1,), (1,), Isolation.NONE),
    ],
)
def test_configured_cpus_go_first(
    tmp_path: Path,
    settings: dict[str, object],
    measured: tuple[int, ...],
    housekeeping: tuple[int, ...],
    isolation: Isolation,
) -> None:
    plan = chooser(tmp_path, **settings).plan(FACTS, 1)
    assert (plan.measure_cpus, plan.housekeeping_cpus) == (measured, housekeeping)
    assert plan.isolation is isolation


def test_cpus_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"measure_cpus: .* CPU \[7\]; it may use \[0, 1, 2, 3\]"):
        chooser(tmp_path, measure_cpus=(3, 7))


def test_every_thread_moves_to_the_housekeeping_cpus() -> None:
    allowed = os.sched_getaffinity(0)
    done = threading.Event()
    seen: list[set[int]] = []

    def body() -> None:
        done.wait(5)
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=body)
    thread.start()
    try:
        pin_threads([min(allowed)])
        assert os.sched_getaffinity(0) == {min(allowed)}
    finally:
        done.set()
        thread.join()
        pin_threads(allowed)
    assert seen == [{min(allowed)}]


def test_labels_travel_as_capabilities_and_facts_are_looked_at_again(tmp_path: Path) -> None:
    probed = plane.facts()
    source = FactsSource(tmp_path, {"site": "lab"}, probed)
    assert source.current().capabilities == (*probed.capabilities, "label:site=lab")
    assert source.current().labels == {"site": "lab"}
    policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    for governor in ("powersave", "performance"):
        (policy / "scaling_governor").write_text(f"{governor}\n")
        (policy / "related_cpus").write_text("0\n")
        refreshed = source.refresh()
        assert refreshed.governor == governor
        assert refreshed == source.current()
        assert refreshed.runtimes == (
            RuntimeFacts("onnxruntime", "1.23", ("CPUExecutionProvider",)),
        )
        assert "label:site=lab" in refreshed.capabilities


def test_a_device_without_any_runtime_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = {"onnxruntime": Absent("no such module"), "litert": Absent("died by SIGILL")}
    monkeypatch.setattr(facts_module, "probe_runtime", why.__getitem__)
    with structlog.testing.capture_logs() as logs:
        source = FactsSource.probe(tmp_path, {}, list(why))
    assert source.current().runtimes == ()
    assert [(line["runtime"], line["reason"]) for line in logs[:2]] == [
        ("onnxruntime", "no such module"),
        ("litert", "died by SIGILL"),
    ]
    assert "pip install 'assay-fleet[onnxruntime]'" in logs[2]["event"]


def test_health_is_read_from_the_board(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8 kB\nMemAvailable:    4 kB\n")
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("51500\n")
    alarm = tmp_path / "sys/class/hwmon/hwmon0"
    alarm.mkdir(parents=True)
    (alarm / "name").write_text("rpi_volt\n")
    (alarm / "in0_lcrit_alarm").write_text("1\n")
    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.append(Key("a", 1), b"body")
    reader = HealthReader(tmp_path, tmp_path, spool)
    health = reader.read()
    assert (health.temperature_c, health.throttled) == (51.5, True)
    assert health.memory_available_bytes == 4096
    assert reader.spare_bytes() == 1024, "of four such, decoding may take one"
    assert (health.spool_entries, health.spool_bytes) == (1, spool.size_bytes)
    assert health.disk_free_bytes > 0
    bare = HealthReader(tmp_path / "nothing", tmp_path, spool).read()
    assert not bare.HasField("temperature_c") and not bare.throttled


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CorruptArtifact("x"), FailureClass.INFRA),
        (RuntimeAbsent("x"), FailureClass.DEVICE),
        (DiskFull("x"), FailureClass.DEVICE),
        (NotFound("x"), FailureClass.MODEL),
        (AssayError("x"), FailureClass.INFRA),
    ],
)
def test_an_errors_code_tells_who_is_at_fault(error: AssayError, kind: FailureClass) -> None:
    failure = failure_of(error)
    assert (failure.failure_class, failure.code, failure.message) == (kind, error.code, "x")


def test_a_round_that_cannot_be_read_is_refused_run_by_run_with_what_was_asked() -> None:
    message = job_pb2.Round()
    message.CopyFrom(convert.to_proto(a_round()))  # type: ignore[arg-type]
    results = list(refused_results(message, 1000, "99 is unknown", plane.facts(), "bench", 5))
    assert [result.run for result in results] == list(message.runs)
    for result, run in zip(results, a_round().runs, strict=True):
        read = convert.from_bytes(result.SerializeToString(), Result)
        assert (read.attempt_id, read.seq, read.round_id) == (run.attempt_id, 1000, "r1")
        assert read.failure is not None and read.failure.code == "version_mismatch"
        assert "99 is unknown" in read.failure.message


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, EXIT_OK), (signal.SIGINT, EXIT_INTERRUPTED)]
)
def test_a_signal_ends_the_wait(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Ending() as ending:
        os.kill(os.getpid(), number)
        ending.wait()
        assert ending.exit_code() == code
    ending.ring()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_end_of_a_thread_ends_the_wait() -> None:
    with Ending() as ending:
        ending.thread("well", lambda: None)
        ending.wait()
        assert ending.exit_code() == EXIT_OK


def test_what_a_thread_cannot_mend_is_raised() -> None:
    def refused() -> None:
        raise UsageError("no")

    with Ending() as ending:
        ending.thread("refused", refused)
        ending.wait()
        with pytest.raises(UsageError, match="no"):
            ending.exit_code()


def test_a_mistake_of_ours_in_a_thread_is_no_good_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: seen.append(hook.exc_type))

    def broken() -> None:
        raise ZeroDivisionError

    with Ending() as ending:
        thread = ending.thread("broken", broken)
        ending.wait()
        thread.join()
        with pytest.raises(AssayError, match="a mistake of ours"):
            ending.exit_code()
    assert seen == [ZeroDivisionError]
