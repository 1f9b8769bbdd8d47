"""What to tell a device: every decision, without a store or a clock."""

from __future__ import annotations

import random

import pytest

from assay.controller.planning.scheduler import (
    DELIVERY_NS,
    SILENT_NS,
    choose,
    may_expire,
    negotiate,
    next_sync_in_s,
    reconcile,
)
from assay.controller.records import HeldRound
from assay.core.errors import VersionMismatch
from assay.core.model import Round
from tests.plane import S, queued

GRANT = Round("r0", "s1", "sweep", 0, 1, 10 * S, queued().runs)


def held(*, accepted: bool = True, cancelled: bool = False) -> HeldRound:
    return HeldRound(GRANT, accepted, cancelled)


class TestReconcile:
    def test_a_round_that_is_reported_goes_on(self) -> None:
        found = reconcile([held()], {("r0", 1)})
        assert (found.accepted, found.ended, found.kept) == ((), (), (GRANT,))

    def test_the_first_report_of_a_round_is_its_acceptance(self) -> None:
        found = reconcile([held(accepted=False)], {("r0", 1)})
        assert found.accepted == (("r0", 1),)
        assert found.kept == (GRANT,)

    def test_a_grant_that_has_not_arrived_is_told_again(self) -> None:
        found = reconcile([held(accepted=False)], set())
        assert (found.ended, found.kept) == ((), (GRANT,))

    def test_a_round_that_was_accepted_and_is_not_reported_is_lost(self) -> None:
        found = reconcile([held()], set())
        assert (found.ended, found.kept) == ((("r0", 1),), ())

    def test_another_fence_is_not_this_grant(self) -> None:
        assert reconcile([held()], {("r0", 2), ("r0", 0)}).ended == (("r0", 1),)

    def test_a_cancelled_round_ends_only_when_the_device_lets_it_go(self) -> None:
        still = reconcile([held(cancelled=True)], {("r0", 1)})
        assert (still.ended, still.kept) == ((), ())
        gone = reconcile([held(cancelled=True)], set())
        assert gone.ended == (("r0", 1),)

    def test_a_cancelled_round_that_never_arrived_ends_at_once(self) -> None:
        assert reconcile([held(accepted=False, cancelled=True)], set()).ended == (("r0", 1),)


class TestChoose:
    def test_the_first_in_order_is_granted(self) -> None:
        assert choose([("a", 0), ("b", 0)], set()) == "a"

    def test_nothing_waits(self) -> None:
        assert choose([], set()) is None

    def test_a_round_whose_results_are_on_their_way_is_not_granted_anew(self) -> None:
        assert choose([("a", 2), ("b", 0)], {("a", 2)}) == "b"
        assert choose([("a", 2)], {("a", 1)}) == "a"


class TestNegotiate:
    def test_the_common_version_is_spoken(self) -> None:
        assert negotiate(1, 1) == 1
        assert negotiate(0, 5) == 1

    @pytest.mark.parametrize(("low", "high", "older"), [(2, 3, "controller"), (0, 0, "agent")])
    def test_the_older_side_is_named(self, low: int, high: int, older: str) -> None:
        with pytest.raises(VersionMismatch, match=f"upgrade the {older}"):
            negotiate(low, high)


class TestNextSync:
    def test_the_wait_grows_with_the_fleet(self) -> None:
        rng = random.Random(1)
        small = next_sync_in_s(devices=1, holding=False, long_poll=True, rng=rng)
        large = next_sync_in_s(devices=5_000, holding=False, long_poll=True, rng=rng)
        assert small < 1
        assert 20 <= large <= 30

    def test_devices_do_not_march_in_step(self) -> None:
        rng = random.Random(1)
        waits = {
            next_sync_in_s(devices=1, holding=True, long_poll=False, rng=rng) for _ in range(20)
        }
        assert len(waits) == 20


class TestMayExpire:
    START = 1_000 * S

    def at(self, after_ns: int, *silences_ns: int) -> bool:
        return may_expire(
            started_ns=self.START, now_ns=self.START + after_ns, silences_ns=silences_ns
        )

    def test_not_before_devices_had_time_to_call(self) -> None:
        assert not self.at(DELIVERY_NS - 1)
        assert self.at(DELIVERY_NS)

    def test_one_silent_device_is_its_own_fault(self) -> None:
        assert self.at(DELIVERY_NS, 0, SILENT_NS + 1)

    def test_when_most_fall_silent_at_once_it_is_our_network(self) -> None:
        assert not self.at(DELIVERY_NS, 0, *[SILENT_NS + 1] * 3)

    def test_devices_that_are_long_gone_do_not_freeze_the_rest(self) -> None:
        assert self.at(DELIVERY_NS, 0, *[3_600 * S] * 50)
