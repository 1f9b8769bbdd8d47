"""A gRPC channel that tells how many bytes of messages pass, by what its (de)serialisers see.

That is every message that was made or has arrived, also of a call that was cut off; no copy is made
for it. What carries the messages is estimated (:mod:`assay.agent.plane.traffic`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from assay.agent.plane.traffic import (
    CALL_BYTES,
    CONNECTION_BYTES,
    OPEN_BYTES_PER_S,
    on_wire_bytes,
)

Count = Callable[[int, int], None]
"""Told bytes sent and bytes received."""

_LONGEST_OPEN_S = 120.0


class CountedChannel:
    """Makes the callables of ``channel``; what a stub wants of one, no more.

    What is sent counts once something has come back: a controller that is not there takes no bytes.
    """

    def __init__(self, channel: grpc.Channel, count: Count) -> None:
        self._channel = channel
        self._count = count
        self._lock = threading.Lock()
        self._answered = False
        self._pending = CONNECTION_BYTES // 2
        self._asked_s = time.monotonic()

    def unary_unary(self, method: str, *, request_serializer: Any, **rest: Any) -> Any:
        """As the channel's."""
        rest["response_deserializer"] = self._in(rest["response_deserializer"], held_open=True)
        out = self._out(request_serializer, CALL_BYTES)
        return self._channel.unary_unary(method, request_serializer=out, **rest)

    def unary_stream(self, method: str, *, request_serializer: Any, **rest: Any) -> Any:
        """As the channel's."""
        rest["response_deserializer"] = self._in(rest["response_deserializer"])
        out = self._out(request_serializer, CALL_BYTES)
        return self._channel.unary_stream(method, request_serializer=out, **rest)

    def stream_unary(self, method: str, *, request_serializer: Any, **rest: Any) -> Any:
        """As the channel's."""
        rest["response_deserializer"] = self._in(rest["response_deserializer"], extra=CALL_BYTES)
        out = self._out(request_serializer, 0)
        return self._channel.stream_unary(method, request_serializer=out, **rest)

    def _out(self, serialise: Callable[[Any], bytes], extra: int) -> Callable[[Any], bytes]:
        def counted(message: Any) -> bytes:
            data = serialise(message)
            with self._lock:
                self._asked_s = time.monotonic()
                self._pending += on_wire_bytes(len(data)) + extra
                sent = self._take()
            if sent:
                self._count(sent, 0)
            return data

        return counted

    def _in(
        self, read: Callable[[bytes], Any], *, extra: int = 0, held_open: bool = False
    ) -> Callable[[bytes], Any]:
        def counted(data: bytes) -> Any:
            size = on_wire_bytes(len(data)) + extra
            with self._lock:
                if not self._answered:
                    self._answered = True
                    size += CONNECTION_BYTES // 2
                sent = self._take()
                open_s = min(_LONGEST_OPEN_S, time.monotonic() - self._asked_s)
            if held_open:
                size += int(OPEN_BYTES_PER_S * open_s)
            self._count(sent, size)
            return read(data)

        return counted

    def _take(self) -> int:
        if not self._answered:
            return 0
        sent, self._pending = self._pending, 0
        return sent
