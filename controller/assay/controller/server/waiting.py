"""Long-polls: who waits for what, and one poll of the store for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from assay.controller.planning.scheduler import Key
from assay.controller.records import Wishes

POLL_S = 0.3
"""Sweeps come from other processes by way of the store; this is how late one is noticed."""


@dataclass(slots=True)
class _Waiter:
    held: frozenset[Key]
    accepting: bool
    news: asyncio.Event = field(default_factory=asyncio.Event)


class WaitingRoom:
    """Holds calls until the store has something for their device. Belongs to one event loop."""

    def __init__(self, ask: Callable[[], Awaitable[Wishes]], poll_s: float = POLL_S) -> None:
        self._ask = ask
        self._poll_s = poll_s
        self._waiters: dict[str, _Waiter] = {}
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
        waiter = _Waiter(held, accepting)
        self._waiters[device_id] = waiter
        self._someone.set()
        try:
            await asyncio.wait_for(waiter.news.wait(), timeout_s)
        except TimeoutError:
            pass
        finally:
            if self._waiters.get(device_id) is waiter:
                del self._waiters[device_id]

    def wake(self, device_id: str) -> None:
        """Ends the wait of this device's call, if one is held."""
        waiter = self._waiters.get(device_id)
        if waiter is not None:
            waiter.news.set()

    def close(self) -> None:
        """Ends every wait, now and from now on."""
        self._closed = True
        for waiter in self._waiters.values():
            waiter.news.set()

    async def run(self) -> None:
        """Polls while someone waits; runs until it is cancelled."""
        while True:
            await self._someone.wait()
            await asyncio.sleep(self._poll_s)
            if not self._waiters:
                self._someone.clear()
                continue
            wishes = await self._ask()
            for device_id, waiter in self._waiters.items():
                if _has_news(waiter, device_id, wishes):
                    waiter.news.set()


def _has_news(waiter: _Waiter, device_id: str, wishes: Wishes) -> bool:
    held = wishes.held.get(device_id, frozenset())
    if held != waiter.held:
        return True
    return not held and waiter.accepting and device_id in wishes.queued
