"""The one place where errors become gRPC statuses on the asynchronous servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from assay.controller.metrics.tally import Tally
from assay.core import log
from assay.core.channel import status_of
from assay.core.errors import AssayError

_log = log.get(__name__)

Behaviour = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


class Guard(grpc.aio.ServerInterceptor):
    """Turns an :class:`AssayError` of a unary handler into its status; anything else is a bug of
    ours, logged with its traceback and told to the peer without detail. Every call is counted."""

    def __init__(self, tally: Tally | None = None) -> None:
        self._tally = tally or Tally()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _guarded(handler.unary_unary, str(handler_call_details.method), self._tally),
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
        except AssayError as raised:
            error = raised
            _log.info("call refused", method=method, code=error.code, reason=str(error))
        except Exception:
            _log.exception("call failed", method=method)
            error = AssayError("the controller failed to answer this call; its log says why")
        tally.called(method, status_of(error)[0].name)
        await refuse(context, error)

    return call


async def refuse(context: Any, error: AssayError) -> None:
    """Ends the call with what ``error`` means; does not return."""
    await context.abort(*status_of(error))
