"""What feeds the watchdog: a good sync, or work that goes on; nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from assay.agent.plane.pulse import LONGEST_WAIT_S, Pulse, longest_wait_s
from assay.agent.plane.rounds import HeldRound, RoundBook
from assay.core.model import Round
from assay.core.systemd import Notifier


class Told(Notifier):
    """Keeps what the service manager would be told."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def ready(self, status: str) -> None:
        self.messages.append(f"ready: {status}")

    def alive(self, status: str) -> None:
        self.messages.append(f"alive: {status}")

    def status(self, status: str) -> None:
        self.messages.append(f"status: {status}")


@dataclass
class Book:
    """The rounds held, as a test wants them."""

    held: tuple[HeldRound, ...] = field(default=())


_ROUND = HeldRound(Round("r", "s", "sweep", 0, 1, 10**9, ()), received_ns=0)


@pytest.fixture
def told() -> Told:
    return Told()


def _pulse(told: Told, *held: HeldRound) -> Pulse:
    return Pulse(told, cast("RoundBook", Book(held)), "bench:7401")


def test_an_idle_agent_feeds_by_good_syncs_alone(told: Told) -> None:
    pulse = _pulse(told)
    pulse.start()
    for answered in (None, True, None, False, False, True):
        pulse.beat(answered)
    assert told.messages == [
        "ready: started; not yet in sync with bench:7401",
        "status: not in sync with bench:7401",
        "alive: in sync with bench:7401",
        "status: in sync with bench:7401",
        "status: not in sync with bench:7401, 1 failures",
        "status: not in sync with bench:7401, 2 failures",
        "alive: in sync with bench:7401",
    ]


def test_an_agent_that_measures_through_an_outage_is_left_alone(told: Told) -> None:
    pulse = _pulse(told, replace(_ROUND, running=True))
    pulse.beat(False)
    pulse.beat(None)
    assert [message.partition(":")[0] for message in told.messages] == ["alive", "alive"]


def test_work_on_a_round_that_was_dropped_does_not_count(told: Told) -> None:
    # Its run should have ended: if it has not, the agent is stuck.
    _pulse(told, replace(_ROUND, running=True, dropped="its lease ran out")).beat(False)
    _pulse(told, _ROUND).beat(False)
    assert [message.partition(":")[0] for message in told.messages] == ["status", "status"]


def test_a_long_poll_ends_in_time_for_the_watchdog() -> None:
    assert longest_wait_s(None) == LONGEST_WAIT_S
    assert longest_wait_s(600) == LONGEST_WAIT_S
    assert longest_wait_s(12) == 4
