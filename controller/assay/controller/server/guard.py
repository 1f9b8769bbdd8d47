"""The one place where errors become gRPC statuses on the asynchronous servers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from assay.controller.metrics.tally import Tally
from assay.core import log
from assay.core.channel import status_of
from assay.core.errors import AssayError

_log = log.get(__name__)

_LONGEST_MESSAGE = 2_000  # bytes

Behaviour = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]
Stream = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], AsyncIterator[Any]]


class Guard(grpc.aio.ServerInterceptor):
    """Turns an :class:`AssayError` of a handler that answers one message, or yields its answers,
    into its status; anything else is a bug of ours, logged with its traceback and told to the peer
    without detail. Every call is counted."""

    def __init__(self, tally: Tally | None = None) -> None:
        self._tally = tally or Tally()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call."""
        handler: Any = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        # A library's handler that writes to its context answers for itself.
        if handler is not None and inspect.isasyncgenfunction(handler.unary_stream):
            return grpc.unary_stream_rpc_method_handler(
                _guarded_stream(handler.unary_stream, method, self._tally),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler is not None and handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                _guarded(handler.stream_unary, method, self._tally),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _guarded(handler.unary_unary, method, self._tally),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _guarded(behaviour: Behaviour, method: str, tally: Tally) -> Behaviour:
    async def call(request: Any, context: Any) -> Any:
        try:
            response = await behaviour(request, context)
            tally.called(method, "OK")
            return response
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            tally.called(method, "CANCELLED")
            raise
        except Exception as raised:
            error = _told(method, raised)
        tally.called(method, status_of(error)[0].name)
        await refuse(context, error)

    return call


def _guarded_stream(behaviour: Stream, method: str, tally: Tally) -> Stream:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for message in behaviour(request, context):
                yield message
            tally.called(method, "OK")
            return
        except grpc.aio.AbortError:
            raise
        except (asyncio.CancelledError, GeneratorExit):
            tally.called(method, "CANCELLED")
            raise
        except Exception as raised:
            error = _told(method, raised)
        tally.called(method, status_of(error)[0].name)
        await refuse(context, error)

    return call


def _told(method: str, raised: Exception) -> AssayError:
    """What the peer is told of it."""
    if isinstance(raised, AssayError):
        _log.info("call refused", method=method, code=raised.code, reason=str(raised))
        return raised
    _log.error("call failed", method=method, exc_info=raised)
    return AssayError("the controller failed to answer this call; its log says why")


async def refuse(context: Any, error: AssayError) -> None:
    """Ends the call with what ``error`` means; does not return."""
    status, message, trailing = status_of(error)
    await context.abort(status, _sendable(message), trailing)


def _sendable(message: str) -> str:
    """A message travels percent-encoded in a header, and clients refuse headers of 8 KiB."""
    encoded = message.encode(errors="replace")
    if len(encoded) <= _LONGEST_MESSAGE:
        return message
    return encoded[:_LONGEST_MESSAGE].decode(errors="ignore") + " … (cut)"
