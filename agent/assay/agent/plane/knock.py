"""A knock before gRPC dials: a connection of our own, which is over when we say so.

gRPC goes on with a connection it has begun, whatever becomes of its call and its channel: where the
network is gone that is a SYN every now and then for 20 s, some of them inside a timed block.
"""

from __future__ import annotations

import os
import socket

from assay.core.channel import is_loopback, split_address
from assay.core.errors import Unreachable

PATIENCE_S = 1.5
"""Less than a transfer may hold up a run (:data:`assay.agent.plane.quiet.GRACE_S`)."""

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


def knock(address: str, patience_s: float = PATIENCE_S) -> None:
    """:class:`Unreachable` where nobody takes a connection at ``address`` (host:port) in time.
    Nothing is sent and nobody is asked where gRPC may go by a proxy."""
    host, port = split_address(address)
    if not is_loopback(host) and any(os.environ.get(name) for name in _PROXIES):
        return
    try:
        socket.create_connection((host, port), timeout=patience_s).close()
    except OSError as error:
        raise Unreachable(f"nobody takes a connection at {address}: {error}") from error
