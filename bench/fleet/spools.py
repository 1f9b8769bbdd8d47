"""Synthetic devices that come back with full spools, some hundreds to a process.

``python -m bench.fleet.spools FILE FIRST COUNT RESULTS ADDRESS SPREAD_S``: each device has a
connection with a certificate of its own and reports its results as an agent does: in batches, one
call at a time, waiting as long as it is told to, and backing off where it is refused. Results are
made as they are sent; nothing is kept of them. It obeys stdin as :mod:`bench.fleet.clients` does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from bench.fleet.clients import OPTIONS
from bench.fleet.made import credentials

from assay.core.channel import MAX_REPORT_BYTES, MAX_RESULTS_PER_REPORT, Backoff, Credentials
from assay.core.convert import to_bytes
from assay.v1 import fleet_pb2, fleet_pb2_grpc, result_pb2
from tests.factories import make_result

_CALL_S = 30.0  # as agent/plane/link.py has it
_FRAMING_BYTES = 160


@dataclass(slots=True)
class Told:
    """What the devices of this process were told."""

    calls: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    acks: Counter[str] = field(default_factory=Counter)
    body_bytes: int = 0
    """Of results that were acknowledged."""
    paused_s: float = 0.0
    """As the controller asked, over all devices."""
    longest_s: float = 0.0
    empty: int = 0
    """Devices whose spool is."""


class Made:
    """Results of a real run's size and shape, one like the other but for their keys."""

    def __init__(self) -> None:
        self._message = result_pb2.Result.FromString(to_bytes(make_result().result))

    def entry(self, attempt_id: str) -> fleet_pb2.SpooledResult:
        """As it lies in a spool: the same bytes each time."""
        self._message.attempt_id, self._message.seq = attempt_id, 1
        self._message.run.attempt_id = attempt_id
        body = self._message.SerializeToString(deterministic=True)
        sha256 = hashlib.sha256(body).hexdigest()
        return fleet_pb2.SpooledResult(attempt_id=attempt_id, seq=1, sha256=sha256, body=body)


def attempt_id(device: int, at: int) -> str:
    """Of the result at that place in a device's spool."""
    return f"a{device:05}-{at:05}"


def batch(device: int, begin: int, results: int, made: Made) -> fleet_pb2.ReportResultsRequest:
    """What an agent would send next."""
    request, size = fleet_pb2.ReportResultsRequest(), 0
    for at in range(begin, min(results, begin + MAX_RESULTS_PER_REPORT)):
        entry = made.entry(attempt_id(device, at))
        size += len(entry.body) + _FRAMING_BYTES
        if size > MAX_REPORT_BYTES and request.results:
            break
        request.results.append(entry)
    return request


async def device(
    number: int, own: Credentials, address: str, results: int, spread_s: float, told: Told
) -> None:
    """One device, until its spool is empty."""
    await asyncio.sleep(random.uniform(0, spread_s))
    made, backoff, at = Made(), Backoff(first_s=0.5, most_s=30.0), 0
    security = grpc.ssl_channel_credentials(own.ca_bundle_pem, own.key_pem, own.certificate_pem)
    async with grpc.aio.secure_channel(address, security, options=OPTIONS) as channel:
        stub: Any = fleet_pb2_grpc.FleetStub(channel)
        while at < results:
            request, began = batch(number, at, results, made), time.monotonic()
            try:
                reply = await stub.ReportResults(request, timeout=_CALL_S)
            except grpc.aio.AioRpcError as error:
                told.calls[error.code().name] += 1
                told.reasons[re.sub(r"\d+", "N", error.details() or "")[-120:]] += 1
                await asyncio.sleep(backoff.next_s())
                continue
            finally:
                told.longest_s = max(told.longest_s, time.monotonic() - began)
            backoff.succeeded()
            told.calls["OK"] += 1
            told.body_bytes += sum(len(each.body) for each in request.results)
            _check(request, reply, told)
            at += len(request.results)
            if at < results:
                pause_s = reply.retry_after.ToNanoseconds() / 1e9
                told.paused_s += pause_s
                await asyncio.sleep(pause_s)
    told.empty += 1


def _check(
    request: fleet_pb2.ReportResultsRequest, reply: fleet_pb2.ReportResultsResponse, told: Told
) -> None:
    """Each of these results is acknowledged, once, and no other."""
    keys = [each.attempt_id for each in request.results]
    if [ack.attempt_id for ack in reply.acks] != keys:
        told.acks["FOR_OTHER_RESULTS"] += 1
    for ack in reply.acks:
        told.acks[fleet_pb2.RecordStatus.Name(ack.status).removeprefix("RECORD_STATUS_")] += 1


async def main(first: int, own: Sequence[Credentials], address: str, how: Sequence[str]) -> None:
    """Obeys stdin."""
    told, tasks = Told(), list[asyncio.Task[None]]()
    results, spread_s = int(how[0]), float(how[1])
    while await asyncio.to_thread(sys.stdin.readline):
        if not tasks:
            tasks = [
                asyncio.create_task(device(first + at, each, address, results, spread_s, told))
                for at, each in enumerate(own)
            ]
        for task in tasks:
            if task.done():
                task.result()
        names = Told.__slots__
        print(json.dumps({name: getattr(told, name) for name in names}), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    _, _file, _first, _count, _results, _address, _spread_s = sys.argv
    _own = credentials(Path(_file), int(_first), int(_count))
    print("ready", flush=True)
    asyncio.run(main(int(_first), _own, _address, (_results, _spread_s)))
