"""Real-time blocks are neither shared with other work nor stalled by the kernel's own brake."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import need

MEASURE = """
import json, sys, time
from assay.agent.runtimes.base import Bound, raw
from assay.agent.worker.isolation import choose_schedule, pin
from assay.agent.worker.loop import ClosedLoop
from assay.agent.worker.timed import Timer
from assay.core.model import Fidelity, Profile
S = 10**9
schedule = choose_schedule(pin((int(sys.argv[1]),)), continuous=False)
bound = Bound((raw(sum, range(2000)),), None, lambda i: [], Fidelity.RAW_BINDING)
profile = Profile("t", 0, 0, 1, 0, 4 * S, 5 * S, 0.9, 1.0, 0)
timed = Timer(ClosedLoop(bound, (0,)), schedule).measure(profile, 1)
print(json.dumps({"isolation": schedule.isolation.value, "longest_ms": timed.maximum_ns / 1e6,
                  "wall_per_cpu": timed.duration_ns / timed.cpu_ns}))
"""


@pytest.mark.system
def test_blocks_beside_a_spinner_show_no_stall() -> None:
    need(root=True)
    cpu = max(os.sched_getaffinity(0))
    if cpu == 0:
        pytest.fail("this test needs two CPUs")
    spin = f"import os\nos.sched_setaffinity(0, [{cpu}])\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as spinner:
        try:
            assert spinner.stdout is not None
            spinner.stdout.readline()
            command = [sys.executable, "-c", MEASURE, str(cpu)]
            done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        finally:
            spinner.kill()
    found = json.loads(done.stdout)
    assert found["isolation"] == "fifo_pinned"
    # A real-time thread that ran on would be stopped for about 50 ms every second.
    assert found["longest_ms"] < 40
    assert found["wall_per_cpu"] < 1.02
