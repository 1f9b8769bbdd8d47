"""A long cable between two switches: what goes in at one end comes out at the other, later.

``python -m tests.system.hosts.cable TAP TAP DELAY_MS JITTER_MS`` in their network namespace; both
exist already. The kernel's own netem is not in every kernel. Order is kept.
"""

from __future__ import annotations

import fcntl
import os
import random
import selectors
import struct
import sys
import time
from collections import deque

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_FRAME_BYTES = 65_536
# What a router holds before it drops.
_MOST_WAITING = 2_000


def attach(name: str) -> int:
    """The file of a TAP device; reads and writes are whole frames."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return file


def carry(ends: tuple[int, int], delay_s: float, jitter_s: float) -> None:
    """Carries frames both ways until it is killed."""
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    waiting: dict[int, deque[tuple[float, bytes]]] = {end: deque() for end in ends}
    ready = selectors.DefaultSelector()
    for end in ends:
        ready.register(end, selectors.EVENT_READ)
    while True:
        now = time.monotonic()
        for end, frames in waiting.items():
            while frames and frames[0][0] <= now:
                os.write(end, frames.popleft()[1])
        due = min((frames[0][0] for frames in waiting.values() if frames), default=None)
        for key, _ in ready.select(None if due is None else max(0.0, due - now)):
            frames, frame = waiting[other[key.fd]], os.read(key.fd, _FRAME_BYTES)
            at = time.monotonic() + delay_s + random.uniform(0, jitter_s)
            if len(frames) < _MOST_WAITING:
                frames.append((max(at, frames[-1][0] if frames else 0.0), frame))


if __name__ == "__main__":
    near, far, delay_ms, jitter_ms = sys.argv[1:]
    carry((attach(near), attach(far)), float(delay_ms) / 1e3, float(jitter_ms) / 1e3)
