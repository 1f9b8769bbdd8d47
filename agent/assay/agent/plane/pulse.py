"""Feeds the service manager's watchdog: by each good Sync, and by a round that is worked on.

An agent that has reached nobody for the watchdog's time and measures nothing is restarted, which
also heals a channel that is stuck. One that measures through an outage is left alone: a round is
bounded by its lease.
"""

from __future__ import annotations

from assay.agent.plane.rounds import RoundBook
from assay.core.systemd import Notifier

LONGEST_WAIT_S = 30.0
_SYNCS_IN_WATCHDOG = 3


class Pulse:
    """Beaten by the session after every attempt to sync with the controller at ``address``."""

    def __init__(self, notifier: Notifier, book: RoundBook, address: str) -> None:
        self._notifier = notifier
        self._book = book
        self._address = address
        self._failures = 0
        self._synced = False

    def start(self) -> None:
        """The agent is up; whether its controller is, remains to be seen."""
        self._notifier.ready(f"started; not yet in sync with {self._address}")

    def beat(self, answered: bool | None) -> None:
        """``answered`` is whether the controller did; None where it was not waited for."""
        if answered is not None:
            self._synced = answered
            self._failures = 0 if answered else self._failures + 1
        working = sum(held.running and not held.dropped for held in self._book.held)
        tell = self._notifier.alive if answered or working else self._notifier.status
        tell(self._status(working))

    def end(self) -> None:
        """The agent is ending."""
        self._notifier.stopping()

    def _status(self, working: int) -> str:
        where = f"in sync with {self._address}"
        if not self._synced:
            where = f"not {where}" + (f", {self._failures} failures" if self._failures else "")
        return where + ("; measuring" if working else "")


def longest_wait_s(watchdog_s: float | None) -> float:
    """How long a long-poll may take so that an idle agent still feeds its watchdog in time."""
    if watchdog_s is None:
        return LONGEST_WAIT_S
    return min(LONGEST_WAIT_S, watchdog_s / _SYNCS_IN_WATCHDOG)
