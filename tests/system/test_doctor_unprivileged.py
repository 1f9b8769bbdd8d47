"""The doctor where little is allowed: without any capability, and without a /sys."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import need

pytestmark = pytest.mark.system

DOCTOR = [sys.executable, "-m", "assay.agent", "doctor", "--format", "json"]


def findings(*argv: str) -> dict[tuple[str, str], dict[str, str]]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return {(row["area"], row["name"]): row for row in json.loads(done.stdout)}


def test_without_capabilities_it_says_what_is_forbidden() -> None:
    need(program="setpriv")
    need(root=True)
    found = findings("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *DOCTOR)
    fifo = found["isolation", "SCHED_FIFO"]
    assert fifo["status"] == "absent" and "LimitRTPRIO" in fifo["detail"]
    assert found["isolation", "nice -10"]["status"] == "absent"
    assert found["board", "class"]["status"] == "ok"


def test_without_sys_it_still_looks_at_everything_else() -> None:
    need(program="unshare")
    need(root=True)
    script = 'mount -t tmpfs none /sys && exec "$@"'
    found = findings("unshare", "-m", "sh", "-c", script, "sh", *DOCTOR)
    assert found["sampler", "memory"]["status"] == "ok"
    assert found["sampler", "thermal"]["detail"] == "no thermal zones"
    assert found["isolation", "cpus"]["value"]
