"""64 MB to a phone: by the agent (named, checked on arrival) against ``adb push`` by hand.

    python bench/runtimes/adb_push.py [--rounds 5]        (root; see tests/system/tethered.py)

The phone is a real adbd in a network namespace. In a round both go once, in turn first. The target
is a ratio of 0.9 of the rate by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from assay.agent.phones.adb import AdbServer, Phone
from assay.agent.phones.store import PhoneFiles
from tests.system.tethered import PORT, Bench

SIZE = 64 << 20


def main() -> None:
    """Prints seconds by hand and by the agent, and the ratio of the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mbit", type=int, help="Shape the link, e.g. 320 for USB 2.")
    options = parser.parse_args()
    rounds = options.rounds
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            one = bench.phone("A1", 41, data_bytes=512 << 20)
            if options.mbit:
                shape = (
                    f"tc qdisc add dev lan0 root tbf rate {options.mbit}mbit burst 1mb latency 50ms"
                )
                subprocess.run(bench.lan.outside.command(shape.split()), check=True)
            server = AdbServer(PORT, str(bench.adb))
            server.start()
            server.reconnect(one.address)
            phone = Phone(server, one.address)
            by_hand, by_agent = [], []
            for index in range(rounds):
                content = os.urandom(SIZE)
                # The agent's store knows the digests of its files.
                local = Path(folder, hashlib.sha256(content).hexdigest())
                local.write_bytes(content)
                for way in (hand, agent)[:: 1 if index % 2 else -1]:
                    begin = time.perf_counter()
                    way(bench, phone, local)
                    (by_hand if way is hand else by_agent).append(time.perf_counter() - begin)
                phone.shell("rm -f /data/local/tmp/assay/* /data/local/tmp/by-hand")
        finally:
            bench.close()
    ratios = [a / b for a, b in zip(by_hand, by_agent, strict=True)]
    print(f"by hand {statistics.median(by_hand):.2f} s, agent {statistics.median(by_agent):.2f} s")
    print(
        f"rate of the agent / by hand: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {rounds} rounds); target 0.9"
    )


def hand(bench: Bench, phone: Phone, local: Path) -> None:
    """What a person would type."""
    command = [str(bench.adb), "-P", str(PORT), "-s", phone.serial, "push", str(local)]
    subprocess.run([*command, "/data/local/tmp/by-hand"], check=True, capture_output=True)


def agent(_bench: Bench, phone: Phone, local: Path) -> None:
    """What the agent does, checks included."""
    PhoneFiles(phone).put(local, local.name)


if __name__ == "__main__":
    main()
