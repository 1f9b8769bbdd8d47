"""What gRPC leaves undone about connections over a network that is gone.

It goes on with a connection it has begun, whatever becomes of its call and its channel: a SYN every
now and then for 20 s, some of them inside a timed block. So we knock before it dials, by a
connection of our own, which is over when we say so. And the kernel sends again what has not arrived
over a connection that was closed: so such a one is cut off.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

from assay.core.channel import is_loopback, split_address
from assay.core.errors import Unreachable

PATIENCE_S = 1.5
"""Less than a transfer may hold up a run (:data:`assay.agent.plane.quiet.GRACE_S`)."""

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_FILES = Path("/proc/self/fd")
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: closing resets the connection


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


def cut_off(address: str) -> None:
    """From now on a connection of this process to the port of ``address`` ends with one packet when
    it is closed, whoever closes it; what is still to be sent over it is dropped."""
    _, port = split_address(address)
    for path in _FILES.iterdir() if _FILES.is_dir() else ():
        try:
            if not stat.S_ISSOCK(path.stat().st_mode):
                continue
            with socket.socket(fileno=os.dup(int(path.name))) as found:
                inet = found.family in (socket.AF_INET, socket.AF_INET6)
                if inet and found.getpeername()[1] == port:
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        except OSError:  # closed meanwhile, or connected to nobody
            continue
