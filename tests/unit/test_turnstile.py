"""Reports before they are read: how many at a time, and what becomes of the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from assay.controller.server import turnstile
from assay.controller.server.backlog import Backlog
from assay.controller.server.guard import Guard
from assay.controller.server.turnstile import Turnstile
from assay.v1 import fleet_pb2, fleet_pb2_grpc

METHOD = "/assay.v1.Fleet/ReportResults"


class Fleet(fleet_pb2_grpc.FleetServicer):
    """Answers a report when it is let go."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.let_go = asyncio.Semaphore(0)

    async def Sync(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def RenewCertificate(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def ReportResults(
        self, request: fleet_pb2.ReportResultsRequest, context: Any
    ) -> fleet_pb2.ReportResultsResponse:
        self.entered.append(request.results[0].attempt_id)
        await self.let_go.acquire()
        return fleet_pb2.ReportResultsResponse(
            acks=[fleet_pb2.RecordAck(attempt_id=request.results[0].attempt_id)]
        )


class Served:
    """A server with a turnstile, and devices that call themselves what they like."""

    def __init__(self, fleet: Fleet, backlog: Backlog, channel: grpc.aio.Channel) -> None:
        self.fleet = fleet
        self.backlog = backlog
        self._channel = channel

    def report(self, device: str, attempt_id: str) -> Any:
        """As a device does."""
        request = fleet_pb2.ReportResultsRequest(
            results=[fleet_pb2.SpooledResult(attempt_id=attempt_id)]
        )
        stub: Any = fleet_pb2_grpc.FleetStub(self._channel)
        return stub.ReportResults(request, metadata=[("device", device)])

    def stall(self, device: str) -> Any:
        """Begins a report and sends nothing of it."""
        call: Any = self._channel.stream_unary(METHOD)
        return call(metadata=[("device", device)])

    def send(self, device: str, message: bytes) -> Any:
        """Whatever bytes as a report."""
        call: Any = self._channel.unary_unary(METHOD)
        return call(message, metadata=[("device", device)])

    async def until(self, entered: int) -> None:
        async with asyncio.timeout(10):
            while len(self.fleet.entered) < entered:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(places: int, read_s: float = 10.0) -> AsyncIterator[Served]:
    fleet, backlog = Fleet(), Backlog()
    server = grpc.aio.server(interceptors=[Guard(), Turnstile(backlog, places, read_s)])
    fleet_pb2_grpc.add_FleetServicer_to_server(fleet, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield Served(fleet, backlog, channel)
    await server.stop(0)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        turnstile, "device_id_of", lambda context: dict(context.invocation_metadata())["device"]
    )


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


def test_so_many_are_read_at_a_time_and_who_waits_is_counted() -> None:
    async def test() -> None:
        async with serving(places=2) as it:
            calls = [it.report(f"d{n}", f"a{n}") for n in range(40)]
            await it.until(2)
            # 38 that wait, at most 200 results each, at a thousand a second.
            while it.backlog.pause_s(random.Random(1)) < 3.8:
                await asyncio.sleep(0.005)
            assert len(it.fleet.entered) == 2
            for _ in calls:
                it.fleet.let_go.release()
            replies = await asyncio.gather(*calls)
            assert sorted(r.acks[0].attempt_id for r in replies) == sorted(it.fleet.entered)
            assert it.backlog.pause_s(random.Random(1)) == 0

    run(test)


def test_a_device_has_one_place() -> None:
    async def test() -> None:
        async with serving(places=2) as it:
            first = it.report("greedy", "a1")
            await it.until(1)
            second = it.report("greedy", "a2")
            more = [it.report("greedy", "a2") for _ in range(20)]
            other = it.report("modest", "a3")
            await it.until(2)
            assert it.fleet.entered == ["a1", "a3"]
            # Nor do its calls keep others away, however many they are.
            assert it.backlog.pause_s(random.Random(1)) == 0
            for call in more:
                call.cancel()
            for _ in range(3):
                it.fleet.let_go.release()
            await asyncio.gather(first, second, other)
            assert it.fleet.entered == ["a1", "a3", "a2"]

    run(test)


def test_who_sends_nothing_loses_the_place() -> None:
    async def test() -> None:
        async with serving(places=1, read_s=0.5) as it:
            it.fleet.let_go.release()
            stalled = it.stall("slow")
            await asyncio.sleep(0.02)
            reply = await it.report("quick", "a1")
            assert reply.acks[0].attempt_id == "a1"
            code, why = await refused(stalled)
            assert code is grpc.StatusCode.UNAVAILABLE and "did not arrive" in why
            empty = it.stall("empty")
            await empty.done_writing()
            code, why = await refused(empty)
            assert code is grpc.StatusCode.INVALID_ARGUMENT and "without a message" in why
            code, why = await refused(it.send("mad", b"\xff\xff"))
            assert code is grpc.StatusCode.INVALID_ARGUMENT and "no report" in why

    run(test)


def test_who_waits_too_long_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "_PATIENCE_S", 0.05)

    async def test() -> None:
        async with serving(places=1) as it:
            first = it.report("one", "a1")
            await it.until(1)
            code, why = await refused(it.report("two", "a2"))
            assert code is grpc.StatusCode.UNAVAILABLE and "busy" in why
            gone = it.report("three", "a3")
            gone.cancel()
            it.fleet.let_go.release()
            await first
            it.fleet.let_go.release()
            assert (await it.report("two", "a2")).acks[0].attempt_id == "a2"

    run(test)
