"""Keeping a fleet: hosts that fail, go, return, are upgraded, renamed, moved; a lost controller.

Runs after test_deploy.py on the same hosts; each test leaves the fleet working for the next.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.system.ansible import sweeps, traces
from tests.system.ansible.fleet import AGENT, Fleet
from tests.system.ansible.plays import TOKEN
from tests.system.ansible.wheels import another_version
from tests.system.hosts import processes
from tests.system.hosts.network import GATEWAY

pytestmark = pytest.mark.system

_PORT = 8099


@pytest.fixture(scope="module", autouse=True)
def deployed(fleet: Fleet) -> None:
    """Where these tests are run alone."""
    if fleet.deployed is None:
        fleet.deployed = fleet.play("deploy").ended()


def test_an_unreachable_host_fails_alone_and_its_agent_restarts_until_it_is_back(
    fleet: Fleet,
) -> None:
    nuc = fleet.devices["nuc"]
    restarts = int(nuc.unit(AGENT, "NRestarts")["NRestarts"])
    unplugged: list[float] = []

    def unplug() -> None:
        nuc.plug(connected=False)
        unplugged.append(time.monotonic())

    done = fleet.operator.play(
        "deploy",
        "--limit",
        "assay_agents",
        on_task={"Write the settings": unplug},
        agent_labels={"site": "lab"},
    ).ended(4)
    assert done.recap["nuc"]["unreachable"] == 1
    for name in ("pi", "jet"):
        assert done.recap[name]["failed"] == done.recap[name]["unreachable"] == 0
        assert "site" in fleet.devices[name].run("cat /etc/assay-agent.toml")
    # The watchdog hears of no good sync for its 15 s, and of no work.
    time.sleep(max(0.0, unplugged[0] + 22 - time.monotonic()))
    nuc.plug(connected=True)
    processes.eventually(
        lambda: int(nuc.unit(AGENT, "NRestarts")["NRestarts"]) > restarts, "a restart"
    )
    assert "watchdog" in nuc.run(f"journalctl -u {AGENT} --no-pager -n 60").lower()
    fleet.synced("nuc")


def test_removal_leaves_nothing_and_a_wrong_token_nothing_that_works(
    fleet: Fleet, tmp_path: Path
) -> None:
    jet, before = fleet.devices["jet"], str(fleet.device_id("jet"))
    fleet.play("remove", "--limit", "jet").ended()
    assert traces.held(jet) == fleet.fresh["jet"]
    assert _states(fleet)[before] == "revoked"

    wrong = tmp_path / "token"
    good = fleet.assay("token create --note wrong").split()[0]
    secret = good.split(".")[2]
    wrong.write_text(good.replace(secret, "0" * len(secret)) + "\n")
    refused = fleet.play("deploy", "--limit", "jet", agent_join_token_file=str(wrong)).ended(2)
    assert "could not join" in refused.output and "token" in refused.output
    assert not TOKEN.search(refused.output)
    assert jet.run("ls -A /var/lib/assay-agent/identity.json /etc/*.join.toml || true") == ""

    fleet.play("deploy", "--limit", "jet", agent_replace="always").ended()
    assert fleet.device_id("jet") != before
    assert fleet.device_id(f"jet-{before.removeprefix('d-')}") == before


def test_a_broken_release_is_rolled_back_and_the_other_hosts_stay_untouched(
    fleet: Fleet, tmp_path: Path
) -> None:
    pi = fleet.devices["pi"]
    release = pi.run("readlink /opt/assay-agent/current")
    others = {name: traces.agent_state(fleet.devices[name]) for name in ("jet", "nuc")}
    broken = another_version(fleet.wheelhouse, tmp_path / "broken", "0.9.9", broken=True)
    failed = fleet.play(
        "upgrade", "--limit", "assay_agents", agent_wheelhouse=str(broken), agent_sync_timeout_s=5
    ).ended(2)
    assert "broken on purpose" in failed.output
    assert pi.run("readlink /opt/assay-agent/current") == release
    assert "0.9.9" not in pi.run("ls /opt/assay-agent/releases")
    assert fleet.status("pi").startswith("in sync")
    assert {name: traces.agent_state(fleet.devices[name]) for name in ("jet", "nuc")} == others


def test_an_upgrade_waits_for_what_is_measured_and_takes_every_host_that_is_there(
    fleet: Fleet, tmp_path: Path
) -> None:
    newer = another_version(fleet.wheelhouse, tmp_path / "newer", "0.9.8")
    sweeps.add_model(fleet, tmp_path)
    sweeps.start(fleet, "second", ("pi",))
    sweeps.wait_measuring(fleet, "pi")
    identities = {name: traces.agent_identity(host) for name, host in fleet.devices.items()}
    fleet.devices["nuc"].plug(connected=False)
    try:
        done = fleet.play(
            "upgrade", "--limit", "assay_agents", agent_wheelhouse=str(newer), upgrade_serial=2
        ).ended()
    finally:
        fleet.devices["nuc"].plug(connected=True)
    assert "nuc cannot be reached and was not upgraded" in done.output
    # Drained before it was switched: every run has its result, none was begun twice.
    sweeps.check_results(fleet, "second", ("pi",))
    for name in ("pi", "jet"):
        host = fleet.devices[name]
        assert "0.9.8" in host.run("assay-agent --version")
        assert fleet.status(name).startswith("in sync")
        assert "draining" not in host.run("ls /var/lib/assay-agent")
        assert traces.agent_identity(host) == identities[name]


@pytest.fixture(scope="module")
def own_index(fleet: Fleet) -> dict[str, object]:
    """Settings of a lab that has no wheelhouse but a server of packages."""
    server = ["http.server", "--bind", GATEWAY, "--directory", str(fleet.wheelhouse), str(_PORT)]
    processes.start(fleet.lab.lan.outside.command([sys.executable, "-m", *server]))
    manifest = json.loads((fleet.wheelhouse / "manifest.json").read_text())
    links = (f"http://{GATEWAY}:{_PORT}/", f"http://{GATEWAY}:{_PORT}/wheels/")
    found = [word for link in links for word in ("--find-links", link)]
    return {
        "agent_wheelhouse": "",
        "agent_version": manifest["version"],
        "agent_pip_arguments": ["--no-index", "--trusted-host", GATEWAY, *found],
    }


def test_a_board_with_a_new_disk_gets_its_name_and_a_new_identity(
    fleet: Fleet, own_index: dict[str, object]
) -> None:
    nuc, before = fleet.devices["nuc"], fleet.device_id("nuc")
    nuc.cut_power()
    nuc.install()
    nuc.start()
    nuc.wait()
    # A name whose device is online is not taken from it.
    refused = fleet.play("deploy", "--limit", "nuc", agent_name="pi", **own_index).ended(2)
    assert "Is the name used twice?" in refused.output
    fleet.play("deploy", "--limit", "nuc", agent_replace="always", **own_index).ended()
    assert fleet.device_id("nuc") != before
    assert fleet.status("nuc").startswith("in sync")
    assert _states(fleet)[before] == "revoked"


def test_a_device_is_renamed_and_stays_who_it_is(
    fleet: Fleet, own_index: dict[str, object]
) -> None:
    before = fleet.device_id("nuc")
    fleet.play("deploy", "--limit", "nuc", agent_name="shelf-3", **own_index).ended()
    assert fleet.device_id("shelf-3") == before
    assert fleet.status("nuc").startswith("in sync")


def test_a_device_moves_to_another_controller_and_comes_back_as_itself(
    fleet: Fleet, own_index: dict[str, object], tmp_path: Path
) -> None:
    before, address = fleet.device_id("shelf-3"), fleet.bench.address
    ports = "--enrol-port 7500 --fleet-port 7501 --blobs-port 7502 --no-metrics --no-live"
    # Returns once the controller has told systemd that it serves.
    fleet.bench.run(
        "systemd-run --unit=second -p Type=notify -p User=assay -p StateDirectory=second "
        "-E ASSAY_HOME=/var/lib/second /opt/assay/current/bin/assay controller serve "
        f"--host 0.0.0.0 --advertise {address} {ports}"
    )
    second = "setpriv --reuid=assay --regid=assay --clear-groups env ASSAY_HOME=/var/lib/second"
    token = tmp_path / "token"
    made = fleet.bench.run(f"{second} /opt/assay/current/bin/assay token create")
    token.write_text(made.split()[0])
    wish = {"agent_name": "shelf-3", **own_index}
    there = {"agent_controller": f"{address}:7500", "agent_join_token_file": str(token)}
    fleet.play("deploy", "--limit", "nuc", **wish, **there).ended()
    assert fleet.status("nuc").startswith(f"in sync with {address}:7501")

    fleet.play("deploy", "--limit", "nuc", **wish).ended()
    assert fleet.status("nuc").startswith(f"in sync with {address}:7401")
    assert fleet.device_id("shelf-3") == before
    fleet.bench.run("systemctl stop second")


def test_a_broken_controller_is_rolled_back_and_keeps_its_devices(
    fleet: Fleet, tmp_path: Path
) -> None:
    before = _states(fleet)
    broken = another_version(
        fleet.wheelhouse, tmp_path / "broken", "0.9.9", role="controller", broken=True
    )
    failed = fleet.play(
        "deploy",
        "--limit",
        "assay_controller",
        controller_wheelhouse=str(broken),
        controller_start_timeout_s=5,
    ).ended(2)
    assert "broken on purpose" in failed.output
    assert _states(fleet) == before
    assert "0.9.9" not in fleet.bench.run("ls /opt/assay/releases")
    fleet.synced("pi")


def test_a_lost_database_comes_back_from_the_backup(fleet: Fleet) -> None:
    fleet.bench.run("systemctl start assay-backup.service")
    before = _states(fleet), fleet.rows("result list --canaries")
    fleet.bench.run(
        "systemctl stop assay-controller && rm -r /var/lib/assay/artifacts && "
        "head -c 200000 /dev/urandom >/var/lib/assay/assay.db && rm -f /var/lib/assay/assay.db-*"
    )
    fleet.play("restore").ended()
    assert (_states(fleet), fleet.rows("result list --canaries")) == before
    for name in fleet.devices:
        fleet.synced(name)
    assert "assay-backup.timer" in fleet.bench.run("systemctl list-timers --no-pager")


def test_agents_are_drained_and_take_rounds_again(fleet: Fleet) -> None:
    pi = fleet.devices["pi"]
    fleet.play("drain", "--limit", "pi").ended()
    assert "draining" in pi.run("ls /var/lib/assay-agent")
    fleet.play("drain", "--limit", "pi", resume=True).ended()
    assert "draining" not in pi.run("ls /var/lib/assay-agent")


def test_the_status_shows_every_host_the_unreachable_ones_too(fleet: Fleet) -> None:
    fleet.devices["jet"].plug(connected=False)
    try:
        table = fleet.play("status").ended().output
    finally:
        fleet.devices["jet"].plug(connected=True)
    shown = table.partition("PLAY RECAP")[0].splitlines()
    rows = {words[0]: words for line in shown if (words := line.split())}
    assert "unreachable" in rows["jet"]
    assert rows["pi"][1] == "pi" and "sync" in rows["pi"] and "29" in rows["pi"]
    assert {"host", "device", "version", "certificate", "findings"} <= set(rows["host"])


def _states(fleet: Fleet) -> dict[object, object]:
    return {row["device_id"]: row["state"] for row in fleet.rows("device list")}
