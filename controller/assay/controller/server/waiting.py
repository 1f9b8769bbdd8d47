"""Long-polls: who waits for what, and one poll of the store for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from assay.controller.planning.scheduler import Key
from assay.controller.records import Wishes

POLL_S = 0.3
"""Sweeps come from other processes by way of the store; this is how late one is noticed."""


@dataclass(slots=True, eq=False)
class _Waiter:
    held: frozenset[Key]
    accepting: bool
    news: asyncio.Future[None]

    def end(self) -> None:
        """Lets the call go on."""
        if not self.news.done():
            self.news.set_result(None)


class WaitingRoom:
    """Holds calls until the store has something for their device. Belongs to one event loop."""

    def __init__(self, ask: Callable[[], Awaitable[Wishes]], poll_s: float = POLL_S) -> None:
        self._ask = ask
        self._poll_s = poll_s
        self._waiters: dict[str, _Waiter] = {}
        self._holders: set[str] = set()
        self._someone = asyncio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many calls are held now."""
        return len(self._waiters)

    async def until_news(
        self, device_id: str, held: frozenset[Key], accepting: bool, timeout_s: float
    ) -> None:
        """Returns when there is news for the device, when a newer call of it arrives, when the
        server stops, or after ``timeout_s``."""
        if self._closed:
            return
        self.wake(device_id)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(held, accepting, loop.create_future())
        timer = loop.call_later(timeout_s, waiter.end)
        self._enter(device_id, waiter)
        try:
            await waiter.news
        finally:
            timer.cancel()
            self._leave(device_id, waiter)

    def wake(self, device_id: str) -> None:
        """Ends the wait of this device's call, if one is held."""
        waiter = self._waiters.get(device_id)
        if waiter is not None:
            waiter.end()

    def close(self) -> None:
        """Ends every wait, now and from now on."""
        self._closed = True
        for waiter in self._waiters.values():
            waiter.end()

    async def run(self) -> None:
        """Polls while someone waits; runs until it is cancelled."""
        while True:
            await self._someone.wait()
            await asyncio.sleep(self._poll_s)
            if not self._waiters:
                self._someone.clear()
                continue
            wishes = await self._ask()
            for device_id in wishes.queued | wishes.held.keys() | self._holders:
                waiter = self._waiters.get(device_id)
                if waiter is not None and _has_news(waiter, device_id, wishes):
                    waiter.end()

    def _enter(self, device_id: str, waiter: _Waiter) -> None:
        self._waiters[device_id] = waiter
        if waiter.held:
            self._holders.add(device_id)
        else:
            self._holders.discard(device_id)
        self._someone.set()

    def _leave(self, device_id: str, waiter: _Waiter) -> None:
        if self._waiters.get(device_id) is waiter:
            del self._waiters[device_id]
            self._holders.discard(device_id)


def _has_news(waiter: _Waiter, device_id: str, wishes: Wishes) -> bool:
    held = wishes.held.get(device_id, frozenset())
    if held != waiter.held:
        return True
    return not held and waiter.accepting and device_id in wishes.queued
