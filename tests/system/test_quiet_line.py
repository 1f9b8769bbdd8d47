"""A network that is gone: nothing that was begun before a timed block is on the wire inside it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, need

pytestmark = pytest.mark.system

# In a network of its own whose one link swallows everything, and counts what it swallows.
_AGENT = """
import fcntl, json, os, struct, subprocess, threading, time
from assay.agent.plane.knock import Knock
from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow
from assay.core.channel import CHANNEL_OPTIONS
from assay.core.errors import Unreachable
from assay.v1 import fleet_pb2
import grpc

link = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(link, 0x400454CA, struct.pack("16sH", b"gone0", 0x1001))  # TUNSETIFF
for command in ("addr add 192.0.2.1/24 dev gone0", "link set gone0 up"):
    subprocess.run(["ip", *command.split()], check=True)
sent = []

def swallow():
    while True:
        packet = os.read(link, 2048)
        if packet[0] >> 4 == 4:  # the kernel's own IPv6 chatter is nobody's
            sent.append(time.monotonic())

threading.Thread(target=swallow, daemon=True).start()

window = QuietWindow()
knock = Knock(lambda: window.quiet)

def dial():
    return grpc.insecure_channel(knock("192.0.2.9:7401"), options=CHANNEL_OPTIONS)

plane = Link(dial, dial, window)
try:
    plane.sync(fleet_pb2.SyncRequest(), timeout_s=5)
except Unreachable:
    synced = time.monotonic()
window.enter()
assert plane.announce(fleet_pb2.SyncRequest(), anew=True) is None
quiet_since = time.monotonic()
time.sleep(5)
print(json.dumps({
    "before": sum(at <= synced for at in sent),
    "pause": sum(synced < at <= quiet_since for at in sent),
    "block": sum(quiet_since < at for at in sent),
    "took_s": quiet_since - synced,
}))
"""

# One whose packets to the controller are lost from some moment on, and counted.
_CUT = """
import json, subprocess, time
from assay.agent.plane.knock import cut_off
from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow
from assay.core.channel import CHANNEL_OPTIONS
from assay.v1 import fleet_pb2
from tests.fake_controller import FakeController
import grpc

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
port = FakeController().start().port
options = [*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
dial = lambda: grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
plane = Link(dial, dial, QuietWindow(), cut_off=lambda: cut_off(f"127.0.0.1:{port}"))
plane.sync(fleet_pb2.SyncRequest(), timeout_s=5)

for rule in (
    "add table inet cut",
    "add chain inet cut out { type filter hook output priority 0; }",
    f"add rule inet cut out tcp dport {port} counter drop",
    f"add rule inet cut out tcp sport {port} drop",
):
    subprocess.run(["nft", rule], check=True)

def lost():
    said = subprocess.run(["nft", "list", "ruleset"], stdout=-1, text=True, check=True).stdout
    return int(said.split("counter packets ")[1].split()[0])

assert plane.announce(fleet_pb2.SyncRequest()) is None
time.sleep(0.1)  # its last packet
before = lost()
time.sleep(5)
print(json.dumps({"before": before, "block": lost() - before}))
"""


def in_a_network_of_its_own(program: str) -> dict[str, int]:
    """What a program says that it has seen."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, int] = json.loads(done.stdout)
    return seen


def test_a_connection_that_does_not_come_about_sends_nothing_later() -> None:
    need(root=True)
    for program in ("unshare", "ip"):
        need(program=program)
    seen = in_a_network_of_its_own(_AGENT)
    assert seen["before"] and seen["pause"], "it was tried, at a pause too"
    assert seen["block"] == 0, seen


def test_what_was_lost_on_a_connection_is_not_sent_again_later() -> None:
    need(root=True)
    for program in ("unshare", "ip", "nft"):
        need(program=program)
    seen = in_a_network_of_its_own(_CUT)
    assert seen["before"], "it was tried"
    assert seen["block"] == 0, seen
