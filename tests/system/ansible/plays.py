"""Runs a playbook as an operator would, and reads what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY
from tests.system.hosts.lab import Lab
from tests.system.hosts.machine import ssh_options

COLLECTION = REPOSITORY / "ansible"
_LIMIT_S = 600.0
_RECAP = re.compile(r"^(\S+)\s+: (ok=.*)$", re.MULTILINE)
_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(?:[\w.]+ : )?(.*)\] \**$")
_CHANGED = re.compile(r"^changed: \[([^\]\s]+)")
TOKEN = re.compile(r"assay1\.[0-9a-f]{8}\.[0-9a-f]{32}")


@dataclass(frozen=True)
class Play:
    """How a playbook ended: ``recap`` counts by host, ``changed`` are (task, host)."""

    status: int
    output: str
    seconds: float
    recap: Mapping[str, Mapping[str, int]]
    changed: tuple[tuple[str, str], ...]
    on_command_lines: tuple[str, ...]

    def changes(self, host: str) -> int:
        """How much was changed on a host."""
        return self.recap[host]["changed"]

    def ended(self, status: int = 0) -> Play:
        """Itself, or the whole output where it ended otherwise."""
        assert self.status == status, f"ended with {self.status}:\n{self.output[-6000:]}"
        return self


class Operator:
    """Whoever sits at the control node: ``inventory`` is theirs, the playbooks the collection's;
    ``log`` gets all that is said, as it is said."""

    def __init__(self, lab: Lab, inventory: Mapping[str, Any], log: Path) -> None:
        self._lab = lab
        self._log = log
        self._inventory = lab.directory / "inventory.json"
        self._inventory.write_text(json.dumps(inventory))
        # Paths of sockets must be short.
        self._scratch = tempfile.TemporaryDirectory(prefix="assay-")

    def play(
        self,
        playbook: str,
        *arguments: str,
        on_task: Mapping[str, Callable[[], None]] | None = None,
        **extra: object,
    ) -> Play:
        """Runs a playbook with ``extra`` variables; ``on_task`` acts as a task begins."""
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(self._inventory)]
        command += [f"playbooks/{playbook}.yml", "-e", json.dumps(extra), *arguments]
        started = time.monotonic()
        with (
            subprocess.Popen(
                self._lab.lan.outside.command(command),
                cwd=COLLECTION,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
            _CommandLines() as seen,
            self._log.open("a", buffering=1) as log,
        ):
            assert process.stdout is not None
            limit = threading.Timer(_LIMIT_S, process.kill)
            limit.start()
            lines = []
            for line in process.stdout:
                lines.append(line)
                log.write(line)
                task = _TASK.match(line)
                if task and on_task:
                    on_task.get(task[1], lambda: None)()
            status = process.wait()
            limit.cancel()
        output = "".join(lines)
        return Play(
            status,
            output,
            time.monotonic() - started,
            {host: _counts(text) for host, text in _RECAP.findall(output)},
            tuple(_changes(lines)),
            tuple(seen.found),
        )

    def close(self) -> None:
        """Removes what Ansible kept."""
        self._scratch.cleanup()

    def _environment(self) -> dict[str, str]:
        scratch = self._scratch.name
        options = " ".join(ssh_options(self._lab.key))
        return {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": scratch,
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(COLLECTION / "ansible.cfg"),
            "ANSIBLE_HOME": f"{scratch}/ansible",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{scratch}/cp",
            "ANSIBLE_SSH_COMMON_ARGS": options,
        }


class _CommandLines:
    """Looks at every command line on this machine, the hosts' included, for a join token."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _CommandLines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if TOKEN.search(text):
                    self.found.append(text)


def _counts(text: str) -> dict[str, int]:
    return {name: int(count) for name, count in (part.split("=") for part in text.split())}


def _changes(lines: list[str]) -> list[tuple[str, str]]:
    task, found = "", []
    for line in lines:
        if match := _TASK.match(line):
            task = match[1]
        elif match := _CHANGED.match(line):
            found.append((task, match[1]))
    return found
