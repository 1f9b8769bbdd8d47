"""Coming back from quarantine: a trial, what it decides; nothing else is granted before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assay.controller.admin.base import DeviceChange, DeviceVerb
from assay.controller.admin.journal import Caller
from assay.controller.admin.office import Office
from assay.controller.home import Home
from assay.controller.planning import health, sweeps
from assay.controller.records import DeviceState, Duty, Role, RoundState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.model import Result
from tests.plane import S, cell, device, queued, reported, result, sweep

NOW_NS = 1_000 * S


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


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
    assert after.duty_reason == "its health canary failed: worker_crashed"
    assert released.lease_round("id-bench", 60 * S, NOW_NS) is None


def test_a_trial_that_never_came_back_is_a_failure(released: Store) -> None:
    for _ in range(3):
        granted = released.lease_round("id-bench", S, NOW_NS)
        assert granted is not None
        released.expire_leases(NOW_NS + 2 * S, 3)
    sweeps.tend(released)
    assert released.device("bench").duty_reason == "its health canary failed: no result came"


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
