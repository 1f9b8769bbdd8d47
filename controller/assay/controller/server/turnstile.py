"""Reports come in a few at a time: the bytes of the others stay with their devices meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

import grpc
from google.protobuf.message import DecodeError

from assay.controller.server.backlog import Backlog
from assay.controller.server.peer import device_id_of
from assay.core.channel import MAX_RESULTS_PER_REPORT
from assay.core.errors import BadMessage, Unreachable

# A report takes some three times its bytes (1 MiB, one large result 4) until it is committed.
_PLACES = 32
_PATIENCE_S = 15.0
_READ_S = 20.0
_METHOD = "/assay.v1.Fleet/ReportResults"

_BUSY = "the controller is busy with other results; try again soon"


class Turnstile(grpc.aio.ServerInterceptor):
    """Reads a report only when there is a place for it, one of each device at a time.

    To gRPC the call is one that streams requests, since only of those the server may say when a
    message is read; on the wire there is no difference. A device that waits counts for the
    ``backlog`` as much as a full report. :class:`Unreachable` after fifteen seconds without a
    place, and where a report takes longer than twenty to arrive: its place is given to others.
    """

    def __init__(self, backlog: Backlog, places: int = _PLACES, read_s: float = _READ_S) -> None:
        self._backlog = backlog
        self._places = asyncio.Semaphore(places)
        self._read_s = read_s
        self._own: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps ReportResults."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or handler_call_details.method != _METHOD:
            return handler

        async def call(requests: AsyncIterator[Any], context: Any) -> Any:
            async with self._let_in(device_id_of(context), requests) as request:
                return await handler.unary_unary(request, context)

        return grpc.stream_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    @asynccontextmanager
    async def _let_in(self, device_id: str, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        own = self._own.setdefault(device_id, asyncio.Lock())
        async with AsyncExitStack() as held:
            with ExitStack() as expected:
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        await held.enter_async_context(own)
                        # One of each device: who calls a thousand times keeps no others away.
                        expected.enter_context(self._backlog.expecting(MAX_RESULTS_PER_REPORT))
                        await held.enter_async_context(self._places)
                except TimeoutError:
                    raise Unreachable(_BUSY) from None
                request = await self._read(requests)
            yield request

    async def _read(self, requests: AsyncIterator[Any]) -> Any:
        try:
            async with asyncio.timeout(self._read_s):
                async for request in requests:
                    return request
        except TimeoutError:
            raise Unreachable(f"the report did not arrive in {self._read_s:g} s") from None
        except DecodeError as error:
            raise BadMessage(f"this is no report: {error}") from None
        raise BadMessage("a call without a message")
