"""A fleet's first life: real hosts with systemd and sshd, from nothing to a sweep in Prometheus.

The tests follow each other; each leaves the fleet working for the next, and for test_keep.py.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.system.ansible import sweeps, traces
from tests.system.ansible.fleet import AGENT, DEVICES, Fleet
from tests.system.ansible.plays import TOKEN
from tests.system.hosts import processes

pytestmark = pytest.mark.system

_ASK = """
import json, sys, urllib.parse, urllib.request
query = urllib.parse.urlencode({"query": sys.argv[1]})
page = urllib.request.urlopen("http://127.0.0.1:9090/api/v1/query?" + query)
print(json.dumps(json.load(page)["data"]["result"]))
"""
_THIEF = """
import socket, sys
from pathlib import Path
from assay.agent.measuring import sandbox
home = Path("/var/lib/assay-agent")
def outcome(act):
    try:
        return act() and "done"
    except OSError as error:
        return type(error).__name__
def tries():
    return (outcome(lambda: socket.create_connection((sys.argv[1], 7401), 3)),
            outcome(lambda: (home / "key.pem").read_bytes()),
            outcome(lambda: (home / "identity.json").read_bytes()))
run = home / "work/probe"
run.mkdir()
print(*tries())
sandbox.enter(run)
print(*tries())
run.rmdir()
"""


def test_check_mode_on_fresh_hosts_foresees_and_changes_nothing(fleet: Fleet) -> None:
    foreseen = fleet.play("deploy", "--check").ended()
    for machine in fleet.machines:
        assert foreseen.changes(machine.name) > 0, machine.name
        assert traces.held(machine) == fleet.fresh[machine.name]


def test_fresh_hosts_become_a_fleet_that_is_in_sync(fleet: Fleet) -> None:
    # As talkative as can be, for the next test.
    done = fleet.deployed = fleet.play("deploy", "-vvv").ended()
    fleet.note("deploy-seconds.txt", f"{done.seconds:.0f}")
    listed = {row["name"]: row for row in fleet.rows("device list")}
    assert set(listed) == set(DEVICES)
    for name in DEVICES:
        assert listed[name]["state"] == "active"
        assert fleet.status(name).startswith("in sync with")
    assert {row["state"] for row in fleet.rows("token list")} == {"used up"}


def test_the_join_tokens_are_nowhere_to_be_read(fleet: Fleet) -> None:
    assert fleet.deployed is not None
    assert fleet.deployed.on_command_lines == ()
    assert not TOKEN.search(fleet.deployed.output)
    for machine in fleet.machines:
        for path in machine.upper.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert not TOKEN.search(path.read_bytes().decode("latin-1")), path


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    done = fleet.play("deploy").ended()
    fleet.note("second-run-seconds.txt", f"{done.seconds:.0f}")
    assert {host: counts["changed"] for host, counts in done.recap.items()} == {
        "bench": 0,
        **dict.fromkeys(DEVICES, 0),
    }


def test_check_mode_foresees_exactly_what_a_run_then_changes(fleet: Fleet) -> None:
    wish = {"agent_labels": {"site": "lab"}, "agent_log_max_bytes": "32M"}
    before = traces.agent_state(fleet.devices["nuc"])
    foreseen = fleet.play("deploy", "--check", "--limit", "nuc", **wish).ended()
    assert traces.agent_state(fleet.devices["nuc"]) == before
    done = fleet.play("deploy", "--limit", "nuc", **wish).ended()
    assert done.changed and foreseen.changed == done.changed


def test_the_units_are_sound_and_their_exposure_is_known(fleet: Fleet) -> None:
    units = {
        fleet.bench: ("assay-controller.service", "assay-backup.service", "assay-backup.timer"),
        fleet.devices["pi"]: (AGENT,),
    }
    exposures = {}
    for machine, names in units.items():
        for name in names:
            # It ends with 0 on a bad value, and says so on stderr.
            assert machine.run(f"systemd-analyze verify {name} 2>&1") == ""
            if name.endswith(".service"):
                told = machine.run(f"systemd-analyze security --no-pager {name} | tail -1")
                match = re.search(r"exposure level for \S+: ([\d.]+)", told)
                assert match is not None, told
                exposures[name] = float(match[1])
    fleet.note("unit-exposure.json", json.dumps(exposures, indent=1))
    assert max(exposures.values()) < 2.5, exposures


def test_a_sweep_survives_a_reboot_and_a_kill_and_is_seen_in_prometheus(
    fleet: Fleet, tmp_path: Path
) -> None:
    pi, jet = fleet.devices["pi"], fleet.devices["jet"]
    sweeps.add_model(fleet, tmp_path)
    sweeps.start(fleet, "first", DEVICES)
    for name in ("pi", "jet"):
        sweeps.wait_measuring(fleet, name)
    killed = jet.unit(AGENT, "MainPID")["MainPID"]
    jet.run(f"kill -9 {killed}")
    pi.reboot()
    sweeps.end(fleet, "first")
    assert jet.unit(AGENT, "NRestarts")["NRestarts"] == "1"
    assert jet.unit(AGENT, "MainPID")["MainPID"] not in ("0", killed)
    results = sweeps.check_results(fleet, "first", DEVICES)
    processes.eventually(
        lambda: _query(fleet, 'sum(assay_sweep_results{sweep="first"})') == len(results),
        "the sweep's results in Prometheus",
    )
    assert _query(fleet, 'up{job="assay"}') == 1
    # The one that serves a page of its own was found by asking the controller.
    assert _query(fleet, 'up{job="assay-agents", device="pi"}') == 1


def _query(fleet: Fleet, expression: str) -> float | None:
    asked = shlex.join(["python3", "-c", _ASK, expression])
    found = json.loads(fleet.bench.run(asked))
    return float(found[0]["value"][1]) if found else None


def test_the_worker_reaches_neither_the_network_nor_the_key(fleet: Fleet) -> None:
    for row in fleet.rows("result list first"):
        (told,) = fleet.rows(f"result show {row['attempt']}")
        notes = told["result"]["conditions"]["notes"]  # type: ignore[index]
        assert notes["sandbox"] == "no_network no_secrets", row
    # What a worker does first and what a thief would do then, as the agent's own user.
    pi = fleet.devices["pi"]
    pi.run(f"cat >/tmp/thief.py <<'E'\n{_THIEF}\nE")
    told_lines = pi.run(
        "setpriv --reuid=assay-agent --regid=assay-agent --clear-groups "
        f"/opt/assay-agent/current/bin/python /tmp/thief.py {fleet.bench.address}"
    ).splitlines()
    assert told_lines == ["done done done", "PermissionError PermissionError PermissionError"]
