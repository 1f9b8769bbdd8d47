"""Whatever a worker does, the runner tells it apart and leaves nothing of it behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.agent.measuring.runner import TimeBox, run_worker
from assay.agent.worker.conduct import failed
from assay.core import convert
from assay.core.errors import Cancelled, WorkerCrashed, WorkerOom, WorkerTimeout
from assay.core.model import PROFILES, WorkerOrder, WorkerReport
from tests.tinymodels import run_of

QUICK = TimeBox({"warming": 1.0}, first_s=20.0)
PREAMBLE = """
import os, signal, subprocess, sys, time
from pathlib import Path
run_dir = Path(sys.argv[1]).parent
def say(state): print("state " + state, flush=True)
"""


@pytest.fixture
def order(tmp_path: Path) -> WorkerOrder:
    some = tmp_path / "some"
    some.write_bytes(b"x")
    return WorkerOrder(run_of(some, some), str(some), str(some), "", str(tmp_path), ())


Worker = Callable[..., WorkerReport]


@pytest.fixture
def worker(order: WorkerOrder) -> Worker:
    """Runs a script in the worker's place."""

    def run(body: str, **given: object) -> WorkerReport:
        script = Path(order.run_dir) / "worker.py"
        script.write_text(PREAMBLE + body)
        options = {"time_box": QUICK, "cancel": threading.Event(), **given}
        return run_worker(order, command=(sys.executable, str(script)), **options)  # type: ignore[arg-type]

    return run


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def write_report(report: WorkerReport) -> str:
    return f"(run_dir / 'report.pb').write_bytes({convert.to_bytes(report)!r})\n"


def test_a_report_is_handed_on(worker: Worker) -> None:
    report = failed("bad_inputs", "no samples")
    assert worker(write_report(report)) == report


def test_states_are_heard_in_order_and_once(worker: Worker) -> None:
    heard: list[str] = []
    body = "say('loading'); say('warming'); say('evaluating 1/9'); say('evaluating 9/9')\n"
    worker(body + write_report(failed("internal", "x")), on_state=heard.append)
    assert heard == ["loading", "warming", "evaluating"]


def test_the_timed_part_waits_until_everyone_is_quiet(worker: Worker, tmp_path: Path) -> None:
    quiet = tmp_path / "quiet"
    body = (
        "say('measuring'); os.read(0, 1)\n"
        f"assert Path({str(quiet)!r}).exists(), 'measured before it was quiet'\n"
    )

    def on_state(state: str) -> None:
        time.sleep(0.2)
        quiet.touch()

    worker(body + write_report(failed("internal", "x")), on_state=on_state)


PAUSES = "say('measuring'); os.read(0, 1)\nsay('pausing'); say('measuring'); os.read(0, 1)\n"


def test_a_pause_between_blocks_is_told_and_waited_for_again(worker: Worker) -> None:
    heard: list[str] = []
    worker(PAUSES + write_report(failed("internal", "x")), on_state=heard.append)
    assert heard == ["measuring", "pausing", "measuring"]


def test_a_cancel_that_arrives_in_a_pause_ends_it_there(worker: Worker) -> None:
    cancel, heard = threading.Event(), list[str]()

    def on_state(state: str) -> None:
        heard.append(state)
        if heard.count("measuring") == 2:
            cancel.set()

    with pytest.raises(Cancelled):
        worker(PAUSES + "time.sleep(600)", cancel=cancel, on_state=on_state)
    assert heard == ["measuring", "pausing", "measuring"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "died by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "died by SIGKILL"),
        ("sys.exit('the last words')", r"status 1; stderr: .*the last words"),
        ("raise KeyError('of ours')", "KeyError: 'of ours'"),
        ("", "without a report"),
        ("(run_dir / 'report.pb').write_bytes(b'rubbish' * 99)", "rubbish"),
        ("(run_dir / 'report.pb').write_bytes(bytes(17 << 20))", "larger than"),
    ],
)
def test_a_crash_says_how(worker: Worker, body: str, told: str) -> None:
    with pytest.raises(WorkerCrashed, match=told):
        worker(body)


def test_an_old_report_is_not_taken_for_this_run(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "report.pb").write_bytes(convert.to_bytes(failed("internal", "yesterday")))
    with pytest.raises(WorkerCrashed, match="without a report"):
        worker("")


def test_a_worker_that_gets_no_memory_is_told_apart(worker: Worker) -> None:
    with pytest.raises(WorkerOom, match="no more memory"):
        worker("time.sleep(0.3); x = bytearray(4 << 30)", memory_limit_bytes=1 << 30)


def test_a_worker_that_hangs_is_killed_with_its_group(worker: Worker, tmp_path: Path) -> None:
    body = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "(run_dir / 'pids').write_text(f'{os.getpid()} {child.pid}')\n"
        "print('stuck', file=sys.stderr, flush=True); say('warming'); time.sleep(600)\n"
    )
    with pytest.raises(WorkerTimeout, match="after 1 s while warming; stderr: stuck"):
        worker(body)
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_worker_that_gets_on_is_not_a_hang(worker: Worker) -> None:
    body = "for i in range(8):\n    say(f'warming {i}'); time.sleep(0.3)\n"
    worker(body + write_report(failed("internal", "x")))


def test_a_cancel_ends_it_at_once(worker: Worker, tmp_path: Path) -> None:
    cancel = threading.Event()
    body = "(run_dir / 'pids').write_text(str(os.getpid())); say('loading'); time.sleep(600)\n"
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        worker(body, cancel=cancel, on_state=lambda state: cancel.set())
    assert gone(int((tmp_path / "pids").read_text())) and time.monotonic() - begin < 15


def test_children_left_behind_are_ended_too(worker: Worker, tmp_path: Path) -> None:
    body = (
        "a = subprocess.Popen(['sleep', '600'])\n"
        "b = subprocess.Popen(['sleep', '600'], preexec_fn=lambda: os.setpgid(0, 0))\n"
        "(run_dir / 'pids').write_text(f'{a.pid} {b.pid}')\n"
    )
    worker(body + write_report(failed("internal", "x")))
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_flood_of_rubbish_is_neither_kept_nor_believed(worker: Worker) -> None:
    heard: list[str] = []
    body = (
        "out = os.open('/dev/stdout', os.O_WRONLY)\n"
        "for _ in range(300):\n"
        "    os.write(1, b'\\xff\\x00state x' * 999 + b'\\n'); os.write(2, b'noise ' * 999)\n"
        "sys.exit(3)\n"
    )
    with pytest.raises(WorkerCrashed, match="status 3") as caught:
        worker(body, on_state=heard.append)
    assert len(str(caught.value)) < 20_000 and heard == []


def test_no_secret_and_no_open_file_is_inherited(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASSAY_AGENT_TOKEN", "secret")
    with (tmp_path / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        worker(
            "assert not [k for k in os.environ if 'TOKEN' in k or 'ASSAY' in k]\n"
            "held = {os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')"
            " if os.path.exists(f'/proc/self/fd/{fd}')}\n"
            "assert not [path for path in held if path.endswith('/held')], held\n"
            "assert os.getsid(0) == os.getpid() == os.getpgrp()\n"
            + write_report(failed("internal", "x"))
        )


def test_temporary_files_are_its_own_and_removed(worker: Worker, tmp_path: Path) -> None:
    body = (
        "import tempfile; left = tempfile.mkstemp()[1]; open(left, 'w').write('left')\n"
        "assert Path(left).parent == run_dir / 'tmp', left\n"
    )
    worker(body + write_report(failed("internal", "x")))
    assert not (tmp_path / "tmp").exists()


def test_a_worker_is_limited_and_goes_before_the_agent_where_memory_is_short(
    worker: Worker,
) -> None:
    body = (
        "import resource\n"
        "time.sleep(0.3); assert Path('/proc/self/oom_score_adj').read_text() == '1000\\n'\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
        "assert resource.getrlimit(resource.RLIMIT_FSIZE) == (4 << 30, 4 << 30)\n"
    )
    worker(body + write_report(failed("internal", "x")))


def test_the_worker_dies_with_its_agent(order: WorkerOrder, tmp_path: Path) -> None:
    """The real entry point, orphaned while it waits to measure."""
    agent = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', '''import sys, time\n"
        "from assay.agent.worker.__main__ import _die_with_parent\n"
        "_die_with_parent(); print(\"armed\", flush=True); time.sleep(600)'''],"
        " stdout=subprocess.PIPE, text=True)\n"
        "child.stdout.readline(); print(child.pid, flush=True); sys.stdin.read()\n"
    )
    import subprocess

    with subprocess.Popen(
        [sys.executable, "-c", agent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert gone(pid)


def test_time_boxes_follow_the_profile() -> None:
    demo, standard = (TimeBox.of(PROFILES[name]) for name in ("demo", "standard"))
    assert demo.seconds("measuring") < standard.seconds("measuring")
    assert standard.seconds("measuring") > 2 * 180
    assert demo.seconds("a state of tomorrow") == demo.first_s
