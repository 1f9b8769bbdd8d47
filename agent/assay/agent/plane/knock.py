"""What gRPC leaves undone about connections over a network that is gone.

It goes on with a connection it has begun, whatever becomes of its call and its channel: a SYN every
now and then for 20 s, some of them inside a timed block. So we knock before it dials, by a
connection of our own, which is over when we say so. And the kernel sends again what has not arrived
over a connection that was closed: so such a one is cut off.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import stat
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from assay.core.channel import is_loopback, join_address, split_address
from assay.core.errors import Unreachable

PATIENCE_S = 5.0
"""On a slow line an answer takes seconds, on a lossy one the third try gets through."""

HURRIED_S = 1.5
"""Where a block is to begin: less than a transfer may hold up a run
(:data:`assay.agent.plane.quiet.GRACE_S`)."""

_LOOK_S = 0.1
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_FILES = Path("/proc/self/fd")
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: closing resets the connection


@dataclass(slots=True)
class Knock:
    """Finds where a controller takes connections; safe for several threads. ``hurried`` tells
    whether a block is to begin."""

    hurried: Callable[[], bool] = lambda: False
    _known: dict[str, Sequence[Any]] = field(default_factory=dict)

    def __call__(self, address: str) -> str:
        """The first of all that ``address`` (host:port) stands for to take a connection, by number:
        what is to be dialled, since gRPC may begin with another, which is gone.

        :class:`Unreachable` where none does in time. Nothing is sent and nobody is asked where gRPC
        may go by a proxy; no name is asked for in a hurry.
        """
        host, port = split_address(address)
        if not is_loopback(host) and any(os.environ.get(name) for name in _PROXIES):
            return address
        try:
            if address not in self._known or not self.hurried():
                self._known[address] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = _first(self._known[address], self.hurried)
        except OSError as error:
            raise Unreachable(f"nobody takes a connection at {address}: {error}") from error
        name, number = socket.getnameinfo(found, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return join_address(name, int(number))


def _first(places: Sequence[Any], hurried: Callable[[], bool]) -> Any:
    """The first to take a connection of those knocked at, all at once; the last's OSError where
    they refuse, TimeoutError where they say nothing."""
    error = errno.ETIMEDOUT
    ends_s = time.monotonic() + PATIENCE_S
    with contextlib.ExitStack() as open_, selectors.DefaultSelector() as waiting:
        for family, kind, protocol, _, place in places:
            try:
                tried = open_.enter_context(socket.socket(family, kind, protocol))
                tried.setblocking(False)
                begun = tried.connect_ex(place)
            except OSError as failure:  # IPv6 is switched off here
                begun = failure.errno or error
            if begun in (0, errno.EINPROGRESS):
                waiting.register(tried, selectors.EVENT_WRITE, place)
            else:
                error = begun
        hurry = False
        while waiting.get_map():
            if not hurry and hurried():
                hurry, ends_s = True, min(ends_s, time.monotonic() + HURRIED_S)
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no answer in time")
            for key, _ in waiting.select(min(left_s, _LOOK_S)):
                tried = cast(socket.socket, key.fileobj)
                waiting.unregister(tried)
                error = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not error:
                    return key.data
    raise OSError(error, os.strerror(error))


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
