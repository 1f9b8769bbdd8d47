"""Synthetic devices that speak the real protocol, some hundreds to a process.

``python -m bench.fleet.clients FILE FIRST COUNT ADDRESS SPREAD_S WAIT_S PAUSE_S``: each device
has a connection with a certificate of its own and syncs; it waits for a line on stdin first, then
begins at a moment of ``SPREAD_S`` seconds drawn for it. A reply may be held back for ``WAIT_S``;
the next Sync comes ``PAUSE_S`` after it (below 0: there is none). Every line on stdin is answered
by a line of JSON with what has been so far; the process ends with stdin.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
from bench.fleet.made import credentials
from bench.fleet.processes import Processes, shares

from assay.core import convert
from assay.core.channel import CHANNEL_OPTIONS, Credentials
from assay.v1 import device_pb2, fleet_pb2, fleet_pb2_grpc
from tests.plane import facts

OPTIONS = (*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0))


@dataclass(slots=True)
class Seen:
    """What the devices of this process have seen."""

    codes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """What went wrong, in gRPC's words without their figures."""
    attached: int = 0
    last_first_s: float = 0.0
    """When the last device had its first answer, from the start on."""
    took_s: list[float] = field(default_factory=list)
    """How long Syncs took since it was asked last, without those that dialled."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How a device calls."""

    spread_s: float
    wait_s: float
    pause_s: float


async def device(own: Credentials, address: str, habit: Habit, seen: Seen, began: float) -> None:
    """One device, for ever or for one Sync."""
    await asyncio.sleep(random.uniform(0, habit.spread_s))
    security = grpc.ssl_channel_credentials(own.ca_bundle_pem, own.key_pem, own.certificate_pem)
    request = fleet_pb2.SyncRequest(
        proto_min=1,
        proto_max=1,
        accepting=True,
        device=cast(device_pb2.DeviceFacts, convert.to_proto(facts())),
    )
    first = True
    async with grpc.aio.secure_channel(address, security, options=OPTIONS) as channel:
        stub: Any = fleet_pb2_grpc.FleetStub(channel)
        while True:
            request.wait.FromNanoseconds(0 if first else int(habit.wait_s * 1e9))
            asked = time.monotonic()
            try:
                await stub.Sync(request, timeout=habit.wait_s + 60)
                seen.codes["OK"] += 1
                if first:
                    seen.attached += 1
                    seen.last_first_s = time.monotonic() - began
                else:
                    seen.took_s.append(time.monotonic() - asked)
                first = False
            except grpc.aio.AioRpcError as error:
                seen.codes[error.code().name] += 1
                seen.reasons[re.sub(r"\d+", "N", error.details() or "")[-120:]] += 1
                await asyncio.sleep(random.uniform(0.5, 2))
                continue
            if habit.pause_s < 0:
                return
            await asyncio.sleep(random.uniform(0.9, 1.1) * habit.pause_s)


async def main(own: Sequence[Credentials], address: str, habit: Habit) -> None:
    """Obeys stdin."""
    seen = Seen()
    tasks: list[asyncio.Task[None]] = []
    while await asyncio.to_thread(sys.stdin.readline):
        if not tasks:
            began = time.monotonic()
            tasks = [asyncio.create_task(device(o, address, habit, seen, began)) for o in own]
        said = {
            "codes": seen.codes,
            "reasons": seen.reasons,
            "attached": seen.attached,
            "last_first_s": seen.last_first_s,
            "took_s": seen.took_s,
        }
        print(json.dumps(said), flush=True)
        seen.took_s.clear()
    for task in tasks:
        task.cancel()


class Clients:
    """Several of these processes; leave the block to end them."""

    def __init__(self, file: Path, count: int, processes: int, address: str, habit: Habit) -> None:
        how = (address, habit.spread_s, habit.wait_s, habit.pause_s)
        self._all = Processes(
            "bench.fleet.clients", [(file, *mine, *how) for mine in shares(count, processes)]
        )

    def __enter__(self) -> Clients:
        self._all.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._all.__exit__(*exc)

    def ask(self) -> Seen:
        """What has been so far, over all; the first time it starts them."""
        whole = Seen()
        for said in self._all.ask():
            whole.codes.update(said["codes"])
            whole.reasons.update(said["reasons"])
            whole.attached += said["attached"]
            whole.last_first_s = max(whole.last_first_s, said["last_first_s"])
            whole.took_s += said["took_s"]
        return whole


if __name__ == "__main__":
    _, _file, _first, _count, _address, *_habit = sys.argv
    _own = credentials(Path(_file), int(_first), int(_count))
    print("ready", flush=True)
    asyncio.run(main(_own, _address, Habit(*map(float, _habit))))
