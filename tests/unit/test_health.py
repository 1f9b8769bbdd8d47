"""Off duty for rounds that came to nothing; coming back by a trial, and nothing granted before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from assay.controller.admin.base import DeviceChange, DeviceVerb
from assay.controller.admin.journal import Caller
from assay.controller.admin.office import Office
from assay.controller.home import Home
from assay.controller.metrics.tally import Tally
from assay.controller.planning import health, sweeps
from assay.controller.records import (
    DeviceRecord,
    DeviceState,
    Duty,
    FailedRun,
    Outcome,
    Role,
    RoundState,
)
from assay.controller.server.clockwork import Clockwork
from assay.controller.server.presence import Presence
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.model import Failure, FailureClass, Result
from tests.plane import S, cell, device, queued, reported, result, sweep

NOW_NS = 1_000 * S


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    """A quarantined device that was given a canary before, and has work waiting."""
    opened = open_store(home)
    opened.add_device(device(state=DeviceState.QUARANTINED))
    canary = replace(cell("canary"), run=replace(cell("canary").run, canary=True))
    opened.add_sweep(sweep(), [cell(), canary], [queued()])
    yield opened
    opened.close()


@pytest.fixture
def released(home: Home, store: Store) -> Store:
    office = Office(home, store, Caller("anna", Role.OPERATOR, "socket"), lambda: NOW_NS)
    after = office.change_device("bench", DeviceChange(DeviceVerb.RELEASE))
    assert (after.state, after.duty) == (DeviceState.ACTIVE, Duty.PROBATION)
    return store


def show(store: Store, *, sound: bool) -> None:
    """The device runs its trial."""
    granted = store.lease_round("id-bench", 60 * S, NOW_NS)
    assert granted is not None
    assert [run.canary for run in granted.runs] == [True], "nothing but its canary"
    shown: Result = result(granted)
    store.record("id-bench", [reported(replace(shown, failure=None) if sound else shown)], NOW_NS)
    assert store.lease_round("id-bench", 60 * S, NOW_NS) is None, "not before it is judged"
    sweeps.tend(store)


def test_a_device_that_ran_its_canary_is_given_work_again(released: Store) -> None:
    show(released, sound=True)
    assert released.device("bench").duty is Duty.ON
    granted = released.lease_round("id-bench", 60 * S, NOW_NS)
    assert granted is not None
    assert granted.sweep_id == "s1"


def test_a_device_that_could_not_is_cordoned_with_the_reason(released: Store) -> None:
    show(released, sound=False)
    after = released.device("bench")
    assert after.duty is Duty.CORDONED
    assert after.duty_reason == "taken off duty: its health canary failed: worker_crashed"
    assert released.lease_round("id-bench", 60 * S, NOW_NS) is None


def test_a_trial_that_never_came_back_is_a_failure(released: Store) -> None:
    for _ in range(3):
        granted = released.lease_round("id-bench", S, NOW_NS)
        assert granted is not None
        released.expire_leases(NOW_NS + 2 * S, 3)
    sweeps.tend(released)
    assert (
        released.device("bench").duty_reason
        == "taken off duty: its health canary failed: no result came"
    )


def test_an_operators_word_meanwhile_stands(released: Store) -> None:
    drained = replace(released.device("bench"), duty=Duty.DRAINING, duty_reason="moves house")
    assert health.judged(drained, []) is drained


def test_a_device_that_never_had_a_canary_returns_at_once(home: Home) -> None:
    store = open_store(home)
    store.add_device(device(state=DeviceState.QUARANTINED))
    office = Office(home, store, Caller("anna", Role.OPERATOR, "socket"), lambda: NOW_NS)
    assert office.change_device("bench", DeviceChange(DeviceVerb.RELEASE)).duty is Duty.ON
    assert store.sweeps() == []
    store.close()


def test_other_sweeps_end_no_probation(store: Store) -> None:
    store.update_device(replace(store.device("bench"), duty=Duty.PROBATION))
    health.conclude(store, store.sweep("s1"))
    assert store.device("bench").duty is Duty.PROBATION
    assert [r.state for r in store.rounds("s1")] == [RoundState.QUEUED]


def come_to_nothing(store: Store) -> tuple[Clockwork, list[int]]:
    """Three rounds of the bench end, with the clockwork looking after each; it, and its time."""
    store.add_rounds([queued(f"r{number}", index=number) for number in (1, 2)])
    now = [NOW_NS]
    clockwork = Clockwork(store, Presence(store), Tally(), lambda: now[0])
    for _ in range(3):
        granted = store.lease_round("id-bench", 60 * S, now[0])
        assert granted is not None
        store.record("id-bench", [reported(result(granted, p)) for p in range(2)], now[0])
        now[0] += 5 * S
        clockwork.tick()
    return clockwork, now


class TestTakenOffDuty:
    """A device whose rounds come to nothing."""

    def outcome(self, number: int, **changes: object) -> Outcome:
        runs = tuple(
            FailedRun(name, Failure(FailureClass.INFRA, "worker_crashed", "it died"))
            for name in ("fp32", "int8")
        )
        made = Outcome(f"r{number}", failed=False, trouble="", sound=False, failures=runs)
        return replace(made, **changes)  # type: ignore[arg-type]

    def lost(self, number: int, trouble: str = "lease_expired: x") -> Outcome:
        return self.outcome(number, failed=True, trouble=trouble, failures=())

    def judge(self, *outcomes: Outcome, **changes: object) -> DeviceRecord:
        return health.struck_out(device(**changes), outcomes)

    def test_three_rounds_in_a_row_that_came_to_nothing(self) -> None:
        after = self.judge(self.outcome(3), self.outcome(2), self.lost(1), self.outcome(0))
        assert after.duty is Duty.CORDONED
        assert after.duty_reason == (
            "taken off duty: 3 rounds in a row came to nothing: "
            "lease_expired (1), worker_crashed (2)"
        )
        assert health.must_show_health(after)

    def test_one_run_that_ended_well_among_them_is_enough(self) -> None:
        fine = self.outcome(1, sound=True, failures=())
        assert self.judge(self.outcome(2), fine, self.outcome(0)).duty is Duty.ON

    def test_two_are_not_enough(self) -> None:
        assert self.judge(self.outcome(1), self.outcome(0)).duty is Duty.ON

    def test_a_models_fault_is_not_the_devices(self) -> None:
        model = FailedRun("a", Failure(FailureClass.MODEL, "worker_oom", ""))
        faulty = self.outcome(0, failures=(model, replace(model, variant_id="b")))
        assert self.judge(faulty, faulty, faulty).duty is Duty.ON

    def test_one_variant_alone_speaks_against_the_variant(self) -> None:
        alone = self.outcome(0, failures=self.outcome(0).failures[:1])
        assert self.judge(alone, alone, alone).duty is Duty.ON
        assert self.judge(alone, alone, self.lost(0)).duty is Duty.CORDONED

    def test_rounds_that_nobody_took_are_no_sign(self) -> None:
        never = self.lost(0, "queue_timeout: x")
        assert self.judge(never, never, never).duty is Duty.ON

    @pytest.mark.parametrize(
        "changes", [{"duty": Duty.DRAINING}, {"state": DeviceState.QUARANTINED}]
    )
    def test_who_is_off_duty_already_stays_as_it_is(self, changes: dict[str, object]) -> None:
        struck = [self.outcome(number) for number in range(3)]
        assert self.judge(*struck, **changes) == device(**changes)

    def test_from_failing_rounds_to_the_trial_and_back(self, home: Home, store: Store) -> None:
        store.update_device(replace(store.device("bench"), state=DeviceState.ACTIVE))
        clockwork, now = come_to_nothing(store)
        after = store.device("bench")
        assert after.duty is Duty.CORDONED
        assert after.duty_reason.endswith("came to nothing: worker_crashed (3)")
        (entry,) = store.audit(9)
        assert (entry.actor, entry.action, entry.subject) == (
            "controller",
            "device cordon",
            "bench",
        )
        office = Office(home, store, Caller("anna", Role.OPERATOR, "socket"), lambda: now[0])
        back = office.change_device("bench", DeviceChange(DeviceVerb.UNCORDON))
        assert back.duty is Duty.PROBATION
        show(store, sound=True)
        now[0] += 5 * S
        clockwork.tick()
        assert store.device("bench").duty is Duty.ON

    def test_an_operators_word_is_not_overruled_by_what_was_seen_before(
        self, home: Home, store: Store
    ) -> None:
        store.update_device(replace(store.device("bench"), state=DeviceState.ACTIVE))
        store.add_rounds([queued(f"r{number}", index=number) for number in (1, 2)])
        for _ in range(3):
            granted = store.lease_round("id-bench", 60 * S, NOW_NS)
            assert granted is not None
            store.record("id-bench", [reported(result(granted, p)) for p in range(2)], NOW_NS)
        now = [NOW_NS]
        clockwork = Clockwork(store, Presence(store), Tally(), lambda: now[0])
        now[0] += 3 * S
        clockwork.tick()
        assert store.device("bench").duty is Duty.CORDONED
        store.update_device(replace(store.device("bench"), duty=Duty.ON, duty_reason=""))
        now[0] += 3 * S
        clockwork.tick()
        assert store.device("bench").duty is Duty.ON

    def test_shared_trouble_takes_nobody_off_duty(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "FEW", 1)
        store.update_device(replace(store.device("bench"), state=DeviceState.ACTIVE))
        come_to_nothing(store)
        assert store.device("bench").duty is Duty.ON and store.audit(9) == []


@pytest.mark.parametrize(
    ("struck", "worked", "shared"), [(2, 2, False), (3, 5, True), (3, 6, False), (40, 50, True)]
)
def test_when_most_devices_fail_at_once_none_is_to_blame(
    struck: int, worked: int, *, shared: bool
) -> None:
    assert health.is_shared_trouble(struck, worked) is shared
