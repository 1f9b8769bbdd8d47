"""What a worker can no longer do once it has shut itself in; each try is a real process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from assay.agent.home import AgentHome
from assay.agent.measuring import sandbox

_PROGRAM = """
import ctypes, json, os, socket, sys
from pathlib import Path
from assay.agent.measuring import sandbox
home, outside, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
reached = sandbox.enter(home / "work/run")
libc = ctypes.CDLL(None, use_errno=True)

def outcome(act):
    try:
        return act() or "done"
    except OSError as error:
        return error.strerror

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return os.strerror(ctypes.get_errno()) if result < 0 else "done"

def peek():
    # What a thief would read the key from: the parent, of the same user.
    return os.close(os.open(f"/proc/{parent}/mem", os.O_RDONLY))

another_way = Path(f"/proc/self/root{home}/key.pem")
ptrace = {"x86_64": 101, "aarch64": 117}[os.uname().machine]
print(json.dumps({
    "reached": reached,
    "inet": outcome(lambda: socket.socket(socket.AF_INET).close()),
    "inet6": outcome(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()),
    "packet": outcome(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
    "unix": outcome(lambda: socket.socket(socket.AF_UNIX).close()),
    "io_uring": call(425, 1, None),
    "ptrace": call(ptrace, 16, parent, 0, 0),
    "parent": outcome(peek),
    "key": outcome(lambda: (home / "key.pem").read_text() and None),
    "key, another way": outcome(lambda: another_way.read_text() and None),
    "key by a link": outcome(lambda: (outside.parent / "current/key.pem").read_text() and None),
    "spool": outcome(lambda: (home / "spool.log").write_text("x") and None),
    "home": outcome(lambda: (home / "new").write_text("x") and None),
    "artifact": outcome(lambda: (home / "artifacts/a").read_text() and None),
    "artifact, changed": outcome(lambda: (home / "artifacts/a").write_text("x") and None),
    "loop": outcome(lambda: (home / "native/loop.so").read_text() and None),
    "loop, changed": outcome(lambda: (home / "native/loop.so").write_text("x") and None),
    "loop, another": outcome(lambda: (home / "native/b.so").write_text("x") and None),
    "run": outcome(lambda: (home / "work/run/report.pb").write_text("x") and None),
    "rename": outcome(lambda: (home / "work/run/report.pb").rename(home / "work/run/r") and None),
    "outside": outcome(lambda: (outside / "file").write_text("x") and None),
    "child": os.waitstatus_to_exitcode(os.spawnlp(
        os.P_WAIT, "cat", "cat", str(home / "key.pem")) << 8),
}))
"""


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = AgentHome(tmp_path / "agent").create()
    # A way round that a rule on "everything else in this folder" would open.
    (tmp_path / "current").symlink_to(tmp_path / "agent")
    for path in (
        made.key,
        made.identity,
        made.spool,
        made.artifacts / "a",
        made.native / "loop.so",
    ):
        path.write_text("secret")
    (made.work / "run").mkdir()
    (tmp_path / "outside").mkdir()
    return made


def _try(home: AgentHome, tmp_path: Path) -> dict[str, object]:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _PROGRAM,
            str(home.root),
            str(tmp_path / "outside"),
            str(os.getpid()),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for it")
def test_a_worker_opens_no_connection_and_looks_into_no_process(
    home: AgentHome, tmp_path: Path
) -> None:
    found = _try(home, tmp_path)
    reached = found["reached"]
    assert isinstance(reached, list) and sandbox.NO_NETWORK in reached
    refused = ("inet", "inet6", "packet", "io_uring", "ptrace")
    assert {each: found[each] for each in refused} == dict.fromkeys(
        refused, "Operation not permitted"
    )
    assert found["unix"] == "done"


def test_a_worker_sees_its_run_and_none_of_the_secrets(home: AgentHome, tmp_path: Path) -> None:
    found = _try(home, tmp_path)
    reached = found["reached"]
    assert isinstance(reached, list)
    if sandbox.NO_SECRETS not in reached:
        # A kernel without Landlock: nothing is claimed, and nothing is hidden.
        assert found["key"] == "done"
        return
    refused = (
        *("key", "key, another way", "key by a link", "spool", "home", "artifact, changed"),
        *("parent", "loop, changed", "loop, another"),
    )
    assert {each: found[each] for each in refused} == dict.fromkeys(refused, "Permission denied")
    allowed = ("artifact", "loop", "run", "rename", "outside")
    assert {each: found[each] for each in allowed} == dict.fromkeys(allowed, "done")
    assert found["child"] == 1
    assert home.spool.read_text() == "secret"


def test_a_home_is_found_from_inside_and_only_from_inside(home: AgentHome, tmp_path: Path) -> None:
    assert sandbox.home_around(home.work / "run") == AgentHome(home.root.resolve())
    assert sandbox.home_around(tmp_path / "outside") is None
