"""What every store promises, whatever it is built on."""

from __future__ import annotations

import hashlib
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from assay.controller.home import Home
from assay.controller.records import (
    HEALTH_PRIORITY,
    Admission,
    AuditRecord,
    DeviceRecord,
    DeviceState,
    Duty,
    OperatorRecord,
    RecordOutcome,
    Role,
    RoundState,
    SweepState,
    Wishes,
)
from assay.controller.store import open_store
from assay.controller.store.arrival import arrived
from assay.controller.store.base import Store
from assay.controller.store.tables import sweeps as tables
from assay.core.errors import AlreadyExists, NotFound, Unauthenticated
from assay.core.model import MEDIA_NPZ, MEDIA_TFLITE, Round
from tests.factories import make_latency
from tests.plane import (
    SECRET_SHA256,
    S,
    cell,
    dataset,
    device,
    facts,
    queued,
    ref,
    reported,
    result,
    sweep,
    token,
    variant,
)

T = TypeVar("T")

Opener = Callable[[], Store]
"""Opens one more handle on the same database, as another process would."""


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An empty database, migrated once for all tests."""
    home = Home(tmp_path_factory.mktemp("migrated"))
    open_store(home).close()
    return home


@pytest.fixture(params=["sqlite"])
def opener(migrated: Home, tmp_path: Path) -> Iterator[Opener]:
    """A fresh database of each kind."""
    opened: list[Store] = []
    shutil.copytree(migrated.root, tmp_path / "home")

    def open_one() -> Store:
        opened.append(open_store(Home(tmp_path / "home")))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    """An empty store."""
    return opener()


@pytest.fixture
def fleet(store: Store) -> Store:
    """A store with one device and one sweep of two rounds."""
    store.add_device(device())
    store.add_sweep(sweep(), [cell(), cell("int8")], [queued("r0"), queued("r1", index=1)])
    return store


def lease(store: Store, now_ns: int = 0, lease_ns: int = 100) -> Round:
    """The next round of the device, granted."""
    granted = store.lease_round("id-bench", lease_ns, now_ns)
    assert granted is not None
    return granted


def state_of(store: Store, round_id: str) -> RoundState:
    return next(r.state for r in store.rounds("s1") if r.round_id == round_id)


def at_once(count: int, action: Callable[[int], T]) -> list[T | Exception]:
    """``action`` called from that many threads at the same time; what each gave or raised."""
    outcomes: list[T | Exception] = [RuntimeError("never ran")] * count
    start = threading.Barrier(count)

    def one(index: int) -> None:
        start.wait()
        try:
            outcomes[index] = action(index)
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


class TestTokens:
    def test_a_token_is_spent_use_by_use(self, store: Store) -> None:
        store.add_token(token(uses_left=2))
        assert store.spend_token(SECRET_SHA256, 5).uses_left == 1
        assert store.spend_token(SECRET_SHA256, 5).uses_left == 0
        with pytest.raises(Unauthenticated, match="used up"):
            store.spend_token(SECRET_SHA256, 5)

    def test_an_unknown_secret_buys_nothing(self, store: Store) -> None:
        store.add_token(token())
        with pytest.raises(Unauthenticated, match="unknown"):
            store.spend_token("0" * 64, 5)

    def test_a_token_expires_at_its_time(self, store: Store) -> None:
        store.add_token(token(expires_ns=100, uses_left=5))
        assert store.spend_token(SECRET_SHA256, 99)
        with pytest.raises(Unauthenticated, match="expired"):
            store.spend_token(SECRET_SHA256, 100)

    def test_a_revoked_token_buys_nothing(self, store: Store) -> None:
        store.add_token(token())
        store.revoke_token("tok1")
        with pytest.raises(Unauthenticated, match="revoked"):
            store.spend_token(SECRET_SHA256, 5)

    def test_revoking_an_unknown_token_is_an_error(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.revoke_token("nope")

    def test_one_use_goes_to_one_of_many_who_ask_at_once(self, opener: Opener) -> None:
        handles = [opener() for _ in range(4)]
        handles[0].add_token(token(uses_left=1))
        outcomes = at_once(4, lambda i: handles[i].spend_token(SECRET_SHA256, 5))
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Unauthenticated) for outcome in outcomes) == 3


class TestDevices:
    def test_a_device_is_found_by_name_and_by_id(self, store: Store) -> None:
        added = device(labels={"room": "lab"}, facts=facts(), last_seen_ns=3)
        store.add_device(added)
        assert store.device("bench") == added
        assert store.device("id-bench") == added
        assert store.devices() == [added]

    def test_cordoning_undoes_nothing_that_happened_meanwhile(self, store: Store) -> None:
        store.add_device(device())
        assert store.cordon("id-bench", "why")
        cordoned = store.device("bench")
        assert (cordoned.duty, cordoned.duty_reason) == (Duty.CORDONED, "why")
        assert not store.cordon("id-bench", "again")
        revoked = device(state=DeviceState.REVOKED)
        store.update_device(revoked)
        assert not store.cordon("id-bench", "why")
        assert store.device("bench") == revoked

    def test_an_unknown_device_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound, match="no device 'ghost'"):
            store.device("ghost")

    def test_a_name_belongs_to_one_device(self, store: Store) -> None:
        store.add_device(device())
        with pytest.raises(AlreadyExists, match="'bench' is taken"):
            store.add_device(device(device_id="other", key_sha256="k2"))

    def test_a_key_belongs_to_one_device(self, store: Store) -> None:
        store.add_device(device())
        with pytest.raises(AlreadyExists):
            store.add_device(device("second", key_sha256=device().key_sha256))

    def test_an_update_replaces_the_record(self, store: Store) -> None:
        store.add_device(device())
        changed = device(state=DeviceState.REVOKED, labels={"a": "b"})
        store.update_device(changed)
        assert store.device("bench") == changed

    def test_an_update_does_not_take_back_a_newer_sign_of_life(self, store: Store) -> None:
        store.add_device(device())
        read = store.device("bench")
        store.seen("id-bench", facts(), 50)
        store.update_device(replace(read, labels={"room": "lab"}))
        found = store.device("bench")
        assert (found.labels, found.facts, found.last_seen_ns) == ({"room": "lab"}, facts(), 50)

    def test_a_change_is_made_to_the_record_as_it_is(self, store: Store) -> None:
        store.add_device(device())
        store.update_device(device(state=DeviceState.REVOKED))
        after = store.change_device("id-bench", lambda now: replace(now, labels={"a": "b"}))
        assert after == store.device("bench")
        assert (after.state, after.labels) == (DeviceState.REVOKED, {"a": "b"})

        def refuse(_: DeviceRecord) -> DeviceRecord:
            raise NotFound("not this way")

        with pytest.raises(NotFound, match="not this way"):
            store.change_device("id-bench", refuse)
        with pytest.raises(NotFound):
            store.change_device("ghost", lambda now: now)
        assert store.device("bench") == after

    def test_a_rename_to_a_taken_name_is_refused(self, store: Store) -> None:
        store.add_device(device())
        store.add_device(device("second"))
        with pytest.raises(AlreadyExists):
            store.update_device(replace(device("second"), name="bench"))

    def test_updating_an_unknown_device_is_an_error(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.update_device(device())

    def test_a_sign_of_life_keeps_the_facts_it_does_not_bring(self, store: Store) -> None:
        store.add_device(device())
        store.seen("id-bench", facts(), 10)
        store.seen("id-bench", None, 20)
        found = store.device("bench")
        assert (found.facts, found.last_seen_ns) == (facts(), 20)

    def test_an_older_sign_of_life_changes_nothing(self, store: Store) -> None:
        store.add_device(device())
        store.seen_all([("id-bench", facts("new"), 20), ("id-bench", facts("old"), 10)])
        found = store.device("bench")
        assert found.last_seen_ns == 20
        assert found.facts == facts("new")


class TestEnrolment:
    def test_a_new_device_costs_one_use(self, store: Store) -> None:
        store.add_token(token(uses_left=2))
        assert store.enrol_device(SECRET_SHA256, device(), 5) == device()
        assert store.device("bench") == device()
        assert store.tokens()[0].uses_left == 1

    def test_the_same_key_again_keeps_its_identity_and_costs_nothing(self, store: Store) -> None:
        store.add_token(token(uses_left=1))
        store.enrol_device(SECRET_SHA256, device(), 5)
        again = replace(device(), device_id="id-new", name="renamed")
        assert store.enrol_device(SECRET_SHA256, again, 6) == device()
        assert len(store.devices()) == 1

    def test_a_taken_name_costs_no_use(self, store: Store) -> None:
        store.add_token(token(uses_left=1))
        store.add_device(device())
        with pytest.raises(AlreadyExists):
            store.enrol_device(SECRET_SHA256, device(device_id="x", key_sha256="k"), 5)
        assert store.tokens()[0].uses_left == 1

    def test_a_known_key_still_needs_a_token_in_time(self, store: Store) -> None:
        store.add_token(token(expires_ns=10))
        store.add_device(device())
        with pytest.raises(Unauthenticated):
            store.enrol_device(SECRET_SHA256, device(), 10)
        with pytest.raises(Unauthenticated):
            store.enrol_device("0" * 64, device(), 5)

    def test_one_use_enrols_one_of_many_who_ask_at_once(self, opener: Opener) -> None:
        handles = [opener() for _ in range(4)]
        handles[0].add_token(token(uses_left=1))
        outcomes = at_once(
            4, lambda i: handles[i].enrol_device(SECRET_SHA256, device(f"board-{i}"), 5)
        )
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
        assert len(handles[0].devices()) == 1


class TestApproval:
    def test_a_token_that_asks_for_approval_makes_a_device_wait(self, store: Store) -> None:
        store.add_token(token(approval=True))
        joined = store.enrol_device(SECRET_SHA256, device(), 5)
        assert joined.state is DeviceState.PENDING
        assert store.device("bench") == joined
        store.add_sweep(sweep(), [], [queued()])
        assert store.lease_round("id-bench", 100, 0) is None
        assert store.wishes().queued == frozenset()
        store.update_device(replace(joined, state=DeviceState.ACTIVE))
        assert store.lease_round("id-bench", 100, 0) is not None


class TestCatalogue:
    def test_a_dataset_comes_back_as_it_went_in(self, store: Store) -> None:
        store.add_dataset(dataset())
        assert store.dataset("digits") == dataset()
        assert store.datasets() == [dataset()]

    def test_the_same_dataset_again_is_no_error(self, store: Store) -> None:
        store.add_dataset(dataset())
        store.add_dataset(replace(dataset(), added_ns=99, source="elsewhere"))
        assert store.datasets() == [dataset()]

    def test_other_content_under_the_same_name_is_refused(self, store: Store) -> None:
        store.add_dataset(dataset())
        with pytest.raises(AlreadyExists):
            store.add_dataset(dataset(content="y"))

    def test_an_unknown_dataset_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.dataset("nope")

    def test_a_variant_comes_back_as_it_went_in(self, store: Store) -> None:
        store.add_variant(variant())
        assert store.variant("fp32") == variant()
        assert store.variant(variant().variant_id) == variant()

    def test_files_and_notes_of_the_same_variant_are_merged(self, store: Store) -> None:
        store.add_variant(variant())
        also = replace(variant(media_type=MEDIA_TFLITE), notes={"more": "1"})
        store.add_variant(also)
        found = store.variant("fp32")
        assert set(found.files) == {*variant().files, MEDIA_TFLITE}
        assert found.notes == {"loss": "0.1", "more": "1"}

    def test_a_name_with_other_content_is_refused(self, store: Store) -> None:
        store.add_variant(variant())
        with pytest.raises(AlreadyExists):
            store.add_variant(variant(identity="other"))

    def test_replacing_gives_the_name_away(self, store: Store) -> None:
        store.add_variant(variant())
        newer = variant(identity="other")
        store.replace_variant(newer)
        assert store.variant("fp32") == newer
        former = store.variant(variant().variant_id)
        assert former.name == f"fp32@{variant().variant_id[7:19]}"

    def test_replacing_back_gives_the_name_back(self, store: Store) -> None:
        store.add_variant(variant())
        store.replace_variant(variant(identity="other"))
        store.replace_variant(variant())
        assert store.variant("fp32") == variant()
        assert len(store.variants()) == 2

    def test_an_unknown_variant_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.variant("nope")


class TestSweeps:
    def test_a_sweep_comes_back_as_it_went_in(self, fleet: Store) -> None:
        assert fleet.sweep("s1") == sweep()
        assert fleet.sweep("sweep s1") == sweep()
        assert fleet.cells("s1") == [cell(), cell("int8")]
        assert fleet.rounds("s1") == [queued("r0"), queued("r1", index=1)]

    def test_a_seed_of_64_bits_is_kept(self, store: Store) -> None:
        store.add_device(device())
        store.add_sweep(sweep(seed=2**64 - 1), [], [queued()])
        assert store.sweep("s1").seed == 2**64 - 1

    def test_a_taken_name_is_refused_whole(self, fleet: Store) -> None:
        with pytest.raises(AlreadyExists):
            fleet.add_sweep(sweep("s2", name="sweep s1"), [], [queued("x", sweep_id="s2")])
        assert [s.sweep_id for s in fleet.sweeps()] == ["s1"]

    def test_an_unknown_sweep_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.sweep("nope")
        with pytest.raises(NotFound):
            store.set_sweep_state("nope", SweepState.DONE)

    def test_a_round_is_found_by_its_id(self, fleet: Store) -> None:
        assert fleet.round("r1") == queued("r1", index=1)
        with pytest.raises(NotFound):
            fleet.round("ghost")

    def test_rounds_are_filtered_by_state(self, fleet: Store) -> None:
        lease(fleet)
        leased = fleet.rounds("s1", [RoundState.LEASED])
        assert [r.round_id for r in leased] == ["r0"]

    def test_cancelling_cancels_what_is_queued(self, fleet: Store) -> None:
        lease(fleet)
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        assert state_of(fleet, "r1") is RoundState.CANCELLED
        assert state_of(fleet, "r0") is RoundState.LEASED

    def test_a_sweep_is_open_while_a_round_of_it_is_queued_or_leased(self, fleet: Store) -> None:
        assert fleet.is_open("s1") and not fleet.is_open("another")
        granted = lease(fleet)
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        assert fleet.is_open("s1"), "one is still out there"
        fleet.finish_round(granted.round_id, granted.fence, RoundState.FAILED, 1)
        assert not fleet.is_open("s1")

    def test_more_rounds_make_a_sweep_run_again(self, fleet: Store) -> None:
        for _ in range(2):
            granted = lease(fleet)
            fleet.finish_round(granted.round_id, granted.fence, RoundState.DONE, 0)
        fleet.set_sweep_state("s1", SweepState.DONE)
        fleet.add_rounds([queued("r2", index=2)])
        assert fleet.sweep("s1").state is SweepState.RUNNING
        assert lease(fleet).round_id == "r2"

    def test_others_write_while_a_large_sweep_is_made_ready(
        self, fleet: Store, opener: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other, made = opener(), tables.to_bytes

        def beside(value: Any) -> bytes:
            other.seen("id-bench", None, 7)  # it would wait for the transaction to end
            return made(value)

        monkeypatch.setattr(tables, "to_bytes", beside)
        fleet.add_sweep(sweep("s2"), [cell(sweep_id="s2")], [queued("r7", sweep_id="s2")])
        fleet.add_rounds([queued("r8", sweep_id="s2", index=1)])
        assert len(fleet.rounds("s2")) == 2 and len(fleet.cells("s2")) == 1

    def test_what_was_cancelled_runs_again_only_by_a_wish(self, fleet: Store) -> None:
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        fleet.set_sweep_state("s1", SweepState.DONE)
        fleet.add_rounds([queued("r2", index=2)], while_running=True)
        assert fleet.sweep("s1").state is SweepState.CANCELLED
        assert len(fleet.rounds("s1")) == 2
        fleet.add_rounds([queued("r2", index=2)])
        fleet.add_rounds([queued("r3", index=3)], while_running=True)
        assert fleet.sweep("s1").state is SweepState.RUNNING
        assert len(fleet.rounds("s1")) == 4


class TestLeases:
    def test_a_grant_raises_the_fence_and_names_fresh_attempts(self, fleet: Store) -> None:
        granted = lease(fleet, now_ns=10, lease_ns=100)
        assert (granted.round_id, granted.fence, granted.lease_ns) == ("r0", 1, 100)
        assert granted.sweep_name == "sweep s1"
        assert [run.attempt_id for run in granted.runs] == ["r0.1.0", "r0.1.1"]
        assert fleet.held_rounds("id-bench") == [granted]
        record = fleet.rounds("s1", [RoundState.LEASED])[0]
        assert (record.lease_expires_ns, record.grants) == (110, 1)
        assert record.runs == granted.runs

    def test_a_device_holds_one_round_at_a_time(self, fleet: Store) -> None:
        lease(fleet)
        assert fleet.lease_round("id-bench", 100, 0) is None

    def test_nothing_waits_for_another_device(self, fleet: Store) -> None:
        fleet.add_device(device("second"))
        assert fleet.lease_round("id-second", 100, 0) is None

    def test_an_unknown_device_is_not_found(self, fleet: Store) -> None:
        with pytest.raises(NotFound):
            fleet.lease_round("ghost", 100, 0)

    def test_a_revoked_device_gets_nothing(self, fleet: Store) -> None:
        fleet.update_device(device(state=DeviceState.REVOKED))
        assert fleet.lease_round("id-bench", 100, 0) is None

    def test_sweeps_take_turns_the_older_one_first(self, fleet: Store) -> None:
        older = sweep("s0", created_ns=0)
        rounds = [queued(f"q{i}", sweep_id="s0", index=i) for i in (1, 0)]
        fleet.add_sweep(older, [], rounds)
        waiting = [r.round_id for r in fleet.queued_rounds("id-bench")]
        assert waiting == ["q0", "r0", "q1", "r1"]
        assert lease(fleet).round_id == "q0"

    def test_a_higher_priority_goes_first_and_may_be_changed(self, fleet: Store) -> None:
        urgent = sweep("s0", created_ns=9, priority=5)
        fleet.add_sweep(urgent, [], [queued(f"q{i}", sweep_id="s0", index=i) for i in (0, 1)])
        waiting = [r.round_id for r in fleet.queued_rounds("id-bench")]
        assert waiting == ["q0", "q1", "r0", "r1"]
        fleet.set_sweep_priority("s0", -1)
        assert lease(fleet).round_id == "r0"
        assert fleet.sweep("s0").priority == -1
        with pytest.raises(NotFound):
            fleet.set_sweep_priority("ghost", 1)

    @pytest.mark.parametrize("duty", [Duty.CORDONED, Duty.DRAINING, Duty.PROBATION])
    def test_a_device_off_duty_keeps_what_it_holds_and_gets_nothing(
        self, fleet: Store, duty: Duty
    ) -> None:
        granted = lease(fleet)
        fleet.update_device(device(duty=duty, duty_reason="why"))
        assert fleet.held_rounds("id-bench") == [granted]
        assert fleet.wishes().queued == frozenset()
        fleet.finish_round(granted.round_id, granted.fence, RoundState.DONE, 0)
        assert fleet.lease_round("id-bench", 100, 0) is None
        assert (fleet.admission("id-bench").duty, fleet.device("bench").duty_reason) == (
            duty,
            "why",
        )

    def test_a_device_on_probation_gets_its_health_round_alone(self, fleet: Store) -> None:
        fleet.update_device(device(duty=Duty.PROBATION))
        health = sweep("h", priority=HEALTH_PRIORITY)
        fleet.add_sweep(health, [], [queued("h0", sweep_id="h")])
        assert fleet.wishes().queued == {"id-bench"}
        assert [r.round_id for r in fleet.queued_rounds("id-bench")] == ["h0"]
        assert lease(fleet).round_id == "h0"

    @pytest.mark.parametrize("by_facts", [False, True])
    def test_a_shared_meter_is_used_by_one_device_at_a_time(
        self, fleet: Store, by_facts: bool
    ) -> None:
        if by_facts:
            labelled = replace(facts(), capabilities=("label:shared.meter=um25c",))
            fleet.seen("id-bench", labelled, 5)
        else:
            fleet.update_device(device(labels={"shared.meter": "um25c"}))
        for name, label in (("second", "um25c"), ("third", "other")):
            fleet.add_device(device(name, labels={"shared.meter": label}))
            rounds = [queued(f"{name}-r", sweep_id=name, device_id=f"id-{name}")]
            fleet.add_sweep(sweep(name), [], rounds)
        granted = lease(fleet)
        assert fleet.lease_round("id-second", 100, 0) is None
        assert fleet.wishes().queued == {"id-third"}
        # Cancelled is not over: the device may still be measuring.
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        assert fleet.lease_round("id-second", 100, 0) is None
        assert fleet.lease_round("id-third", 100, 0) is not None
        fleet.release_round(granted.round_id, granted.fence, 3, 0)
        assert fleet.lease_round("id-second", 100, 0) is not None

    def test_what_was_ever_leased_is_remembered(self, fleet: Store) -> None:
        digests = [run.artifact.digest for run in queued().runs]
        assert fleet.ever_leased("id-bench", digests) == frozenset()
        granted = lease(fleet)
        fleet.finish_round(granted.round_id, granted.fence, RoundState.DONE, 0)
        assert fleet.ever_leased("id-bench", [*digests, ref("other").digest]) == set(digests)
        assert fleet.ever_leased("id-second", digests) == frozenset()

    def test_a_round_can_be_asked_for_by_id(self, fleet: Store) -> None:
        granted = fleet.lease_round("id-bench", 100, 0, round_id="r1")
        assert granted is not None
        assert granted.round_id == "r1"

    def test_a_round_that_does_not_wait_is_not_granted(self, fleet: Store) -> None:
        assert fleet.lease_round("id-bench", 100, 0, round_id="ghost") is None

    def test_rounds_of_a_cancelled_sweep_are_not_granted_and_not_held(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        assert fleet.held_rounds("id-bench") == []
        (held,) = fleet.leases("id-bench")
        assert (held.round, held.cancelled) == (granted, True)
        assert fleet.queued_rounds("id-bench") == []

    def test_many_who_ask_at_once_get_one_round(self, fleet: Store, opener: Opener) -> None:
        handles = [opener() for _ in range(4)]
        granted = at_once(4, lambda i: handles[i].lease_round("id-bench", 100, 0))
        assert sum(isinstance(one, Round) for one in granted) == 1

    def test_acceptance_is_noted_for_the_current_fence(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.accept_round(granted.round_id, granted.fence + 1)
        assert not fleet.leases("id-bench")[0].accepted
        fleet.accept_round(granted.round_id, granted.fence)
        assert fleet.leases("id-bench")[0].accepted

    def test_a_finished_round_is_done_once(self, fleet: Store) -> None:
        granted = lease(fleet)
        assert not fleet.finish_round("r0", granted.fence + 1, RoundState.DONE, 0)
        assert fleet.finish_round("r0", granted.fence, RoundState.DONE, 0)
        assert not fleet.finish_round("r0", granted.fence, RoundState.FAILED, 0)
        assert state_of(fleet, "r0") is RoundState.DONE

    def test_a_sweep_runs_until_it_is_said_to_be_done(self, fleet: Store) -> None:
        first = lease(fleet)
        fleet.finish_round(first.round_id, first.fence, RoundState.FAILED, 0)
        assert fleet.sweep("s1").state is SweepState.RUNNING
        second = lease(fleet)
        fleet.finish_round(second.round_id, second.fence, RoundState.DONE, 0)
        assert fleet.sweep("s1").state is SweepState.RUNNING
        fleet.set_sweep_state("s1", SweepState.DONE)
        assert fleet.sweep("s1").state is SweepState.DONE

    def test_a_released_round_is_granted_anew_with_a_higher_fence(self, fleet: Store) -> None:
        granted = lease(fleet)
        assert fleet.release_round("r0", granted.fence, 3, 0) is RoundState.QUEUED
        again = lease(fleet)
        assert (again.round_id, again.fence) == ("r0", 2)
        assert [run.attempt_id for run in again.runs] == ["r0.2.0", "r0.2.1"]

    def test_an_old_fence_moves_no_lease(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.release_round("r0", granted.fence, 3, 0)
        lease(fleet)
        assert fleet.release_round("r0", granted.fence, 3, 0) is None
        assert not fleet.finish_round("r0", granted.fence, RoundState.DONE, 0)
        assert state_of(fleet, "r0") is RoundState.LEASED

    def test_a_released_round_of_a_cancelled_sweep_is_cancelled(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        assert fleet.release_round("r0", granted.fence, 3, 0) is RoundState.CANCELLED
        assert fleet.leases("id-bench") == []

    def test_a_lease_expires_at_its_time(self, fleet: Store) -> None:
        lease(fleet, now_ns=10, lease_ns=100)
        assert fleet.expire_leases(109, 3) == []
        assert fleet.expire_leases(110, 3) == ["r0"]
        assert state_of(fleet, "r0") is RoundState.QUEUED
        assert fleet.held_rounds("id-bench") == []

    def test_a_device_that_is_spared_keeps_its_lease(self, fleet: Store) -> None:
        lease(fleet, now_ns=10, lease_ns=100)
        assert fleet.expire_leases(500, 3, spare={"id-bench"}) == []
        assert state_of(fleet, "r0") is RoundState.LEASED
        assert fleet.expire_leases(500, 3, spare={"another"}) == ["r0"]

    def test_a_round_fails_after_its_last_grant(self, fleet: Store) -> None:
        for _ in range(2):
            lease(fleet, now_ns=0, lease_ns=100)
            fleet.expire_leases(100, max_grants=2)
        assert state_of(fleet, "r0") is RoundState.FAILED
        assert lease(fleet).round_id == "r1"

    def test_the_expired_lease_of_a_cancelled_sweep_is_cancelled(self, fleet: Store) -> None:
        lease(fleet, now_ns=0, lease_ns=100)
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        fleet.expire_leases(100, 3)
        assert state_of(fleet, "r0") is RoundState.CANCELLED

    def test_standing_is_all_that_a_sync_is_decided_by(self, fleet: Store) -> None:
        before = fleet.standing("id-bench")
        assert before.device == fleet.admission("id-bench")
        assert before.device == Admission("id-bench", "bench", DeviceState.ACTIVE)
        assert before.leased == ()
        assert before.queued == (("r0", 0), ("r1", 0))
        granted = lease(fleet)
        after = fleet.standing("id-bench")
        assert [held.round for held in after.leased] == [granted]
        assert after.queued == (("r1", 0),)

    def test_a_stranger_has_no_standing(self, store: Store) -> None:
        for ask in (store.standing, store.admission):
            with pytest.raises(NotFound):
                ask("ghost")

    def test_wishes_name_who_has_something_to_do(self, fleet: Store) -> None:
        assert fleet.wishes() == Wishes(frozenset({"id-bench"}), {})
        granted = lease(fleet)
        held = {"id-bench": frozenset({("r0", granted.fence)})}
        assert fleet.wishes() == Wishes(frozenset({"id-bench"}), held)
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        assert fleet.wishes() == Wishes(frozenset(), {})

    def test_a_device_reads_only_what_its_lease_names(self, fleet: Store) -> None:
        fleet.add_device(device("second"))
        model = ref("model fp32").digest
        assert not fleet.may_read("id-bench", model)
        granted = lease(fleet)
        for content in ("model fp32", "model int8", "digits", "golden fp32"):
            assert fleet.may_read("id-bench", ref(content).digest)
        assert not fleet.may_read("id-bench", ref("something else").digest)
        assert not fleet.may_read("id-second", model)
        fleet.finish_round("r0", granted.fence, RoundState.DONE, 0)
        assert not fleet.may_read("id-bench", model)

    def test_at_rest_is_whoever_has_no_round_at_all(self, fleet: Store) -> None:
        fleet.add_device(device("second", state=DeviceState.REVOKED, duty=Duty.CORDONED))
        at_rest = {"id-second": fleet.admission("id-second")}
        assert fleet.resting() == at_rest, "rounds wait for the other"
        lease(fleet)
        assert fleet.resting() == at_rest, "it holds one"
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        assert fleet.resting() == at_rest, "it still does"
        granted = fleet.held_rounds("id-bench") or [h.round for h in fleet.leases("id-bench")]
        fleet.finish_round(granted[0].round_id, granted[0].fence, RoundState.FAILED, 1)
        assert fleet.resting().keys() == {"id-bench", "id-second"}

    def test_every_commit_of_anybody_makes_another_revision(
        self, fleet: Store, opener: Opener
    ) -> None:
        elsewhere = opener()
        before = fleet.revision()
        assert before is not None
        fleet.devices()
        assert fleet.revision() == before, "reading changes nothing"
        for writer, name in ((fleet, "second"), (elsewhere, "third")):
            writer.add_device(device(name))
            assert fleet.revision() != before
            before = fleet.revision()


class TestResults:
    def test_a_result_is_stored_verbatim_and_once(self, fleet: Store) -> None:
        granted = lease(fleet)
        entry = reported(result(granted))
        assert fleet.record("id-bench", [entry], 50) == [RecordOutcome.STORED]
        assert fleet.record("id-bench", [entry], 60) == [RecordOutcome.ALREADY_STORED]
        (found,) = fleet.results(sweep_id="s1")
        assert found.result == result(granted)
        assert (found.sha256, found.recorded_ns, found.superseded) == (entry[2], 50, False)
        assert fleet.result(entry[0]) == found

    def test_results_of_one_attempt_are_bounded(self, fleet: Store) -> None:
        granted = lease(fleet)
        entries = [reported(result(granted, seq=seq)) for seq in range(1, 1_003)]
        outcomes = fleet.record("id-bench", entries[:600], 50)
        outcomes += fleet.record("id-bench", entries[600:], 50)
        assert set(outcomes[:1_000]) == {RecordOutcome.STORED}
        assert outcomes[1_000:] == [RecordOutcome.REJECTED] * 2
        assert fleet.record("id-bench", entries[:1], 60) == [RecordOutcome.ALREADY_STORED]

    def test_a_replay_within_one_batch_counts_once(self, fleet: Store) -> None:
        entry = reported(result(lease(fleet)))
        outcomes = fleet.record("id-bench", [entry, entry], 50)
        assert outcomes == [RecordOutcome.STORED, RecordOutcome.ALREADY_STORED]

    def test_another_body_under_the_key_is_a_conflict_and_both_hashes_stay(
        self, fleet: Store
    ) -> None:
        granted = lease(fleet)
        first, other = reported(result(granted)), reported(result(granted, note="other"))
        fleet.record("id-bench", [first], 50)
        for now_ns in (60, 70):
            assert fleet.record("id-bench", [other], now_ns) == [RecordOutcome.CONFLICT]
        assert fleet.result(first[0]).sha256 == first[2]
        (conflict,) = fleet.conflicts()
        assert (conflict.stored_sha256, conflict.other_sha256) == (first[2], other[2])
        assert conflict.seen_ns == 60

    def test_what_cannot_be_true_is_rejected_and_changes_nothing(self, fleet: Store) -> None:
        fleet.add_device(device("second"))
        granted = lease(fleet)
        good = reported(result(granted))
        unknown = reported(replace(result(granted), attempt_id="ghost"))
        wrong_hash = (good[0], good[1], "0" * 64, good[3])
        wrong_key = (good[0], 2, good[2], good[3])
        noise = b"\xff garbage"
        garbage = (good[0], good[1], hashlib.sha256(noise).hexdigest(), noise)
        for entry in (unknown, wrong_hash, wrong_key, garbage):
            assert fleet.record("id-bench", [entry], 50) == [RecordOutcome.REJECTED], entry
        assert fleet.record("id-second", [good], 50) == [RecordOutcome.REJECTED]
        assert fleet.results() == []
        assert fleet.record("id-bench", [good], 50) == [RecordOutcome.STORED]

    @pytest.mark.parametrize("p50_ns", [5e-324, 1e300, 0.0, -1.0, math.inf, math.nan])
    def test_a_time_no_run_can_take_is_rejected(self, fleet: Store, p50_ns: float) -> None:
        latency = replace(make_latency(), p50_ns=p50_ns)
        measured = replace(result(lease(fleet)), latency=latency, failure=None)
        assert fleet.record("id-bench", [reported(measured)], 50) == [RecordOutcome.REJECTED]
        assert fleet.results() == []

    def test_the_reason_of_a_rejection_is_told(self, fleet: Store) -> None:
        good = reported(result(lease(fleet)))
        ((recorded,),) = fleet.record_all([("id-ghost", [arrived(good)])], 50)
        assert "never leased to this device" in recorded.detail

    def test_a_round_is_done_when_every_attempt_has_its_result(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.record("id-bench", [reported(result(granted, 0))], 50)
        assert state_of(fleet, "r0") is RoundState.LEASED
        fleet.record("id-bench", [reported(result(granted, 1))], 60)
        assert state_of(fleet, "r0") is RoundState.DONE
        assert lease(fleet).round_id == "r1"

    def test_a_result_proves_that_its_grant_was_accepted(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.record("id-bench", [reported(result(granted, 0))], 50)
        assert fleet.leases("id-bench")[0].accepted

    def test_a_late_result_of_a_round_granted_anew_is_superseded(self, fleet: Store) -> None:
        old = lease(fleet)
        fleet.release_round("r0", old.fence, 3, 0)
        new = lease(fleet)
        entries = [reported(result(old, i)) for i in (0, 1)]
        outcomes = fleet.record("id-bench", entries, 50)
        assert outcomes == [RecordOutcome.STORED_SUPERSEDED] * 2
        assert state_of(fleet, "r0") is RoundState.LEASED
        assert fleet.results(sweep_id="s1") == []
        assert len(fleet.results(sweep_id="s1", superseded=True)) == 2
        fleet.record("id-bench", [reported(result(new, i)) for i in (0, 1)], 60)
        assert state_of(fleet, "r0") is RoundState.DONE
        assert [r.result.fence for r in fleet.results()] == [2, 2]

    def test_half_a_round_no_longer_counts_once_it_is_granted_anew(self, fleet: Store) -> None:
        old = lease(fleet)
        fleet.record("id-bench", [reported(result(old, 0))], 50)
        fleet.release_round("r0", old.fence, 3, 0)
        assert len(fleet.results()) == 1
        lease(fleet)
        assert fleet.results() == []

    def test_a_whole_round_that_comes_late_but_first_still_counts(self, fleet: Store) -> None:
        granted = lease(fleet, now_ns=0, lease_ns=100)
        fleet.expire_leases(100, 3)
        entries = [reported(result(granted, i)) for i in (0, 1)]
        assert fleet.record("id-bench", entries, 200) == [RecordOutcome.STORED] * 2
        assert state_of(fleet, "r0") is RoundState.DONE

    def test_results_of_a_cancelled_round_are_kept(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.set_sweep_state("s1", SweepState.CANCELLED)
        fleet.release_round("r0", granted.fence, 3, 0)
        entries = [reported(result(granted, i)) for i in (0, 1)]
        assert fleet.record("id-bench", entries, 50) == [RecordOutcome.STORED] * 2
        assert state_of(fleet, "r0") is RoundState.CANCELLED

    def test_results_are_found_by_sweep_and_by_cell(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.record("id-bench", [reported(result(granted, i)) for i in (1, 0)], 50)
        order = [r.attempt_id for r in fleet.results(sweep_id="s1")]
        assert order == ["r0.1.1", "r0.1.0"]
        key = granted.runs[0].cell_key
        assert [r.attempt_id for r in fleet.results(cell_keys=[key])] == ["r0.1.0"]
        assert fleet.results(sweep_id="s2") == []

    def test_marks_move_where_a_result_or_a_round_has_moved(self, fleet: Store) -> None:
        before = fleet.sweep_marks("s1")
        assert (before.cells, before.rounds["r0"]) == ({}, (RoundState.QUEUED, 0))
        granted = lease(fleet)
        fleet.record("id-bench", [reported(result(granted, 0))], 50)
        halfway = fleet.sweep_marks("s1")
        assert halfway.cells.keys() == {granted.runs[0].cell_key}
        assert halfway.rounds == {**before.rounds, "r0": (RoundState.LEASED, 1)}
        fleet.record("id-bench", [reported(result(granted, 1))], 60)
        whole = fleet.sweep_marks("s1")
        assert whole.cells.keys() == {run.cell_key for run in granted.runs}
        assert halfway.cells.items() < whole.cells.items()
        assert whole.rounds["r0"] == (RoundState.DONE, 1)

    def test_marks_leave_superseded_results_out(self, fleet: Store) -> None:
        old = lease(fleet)
        fleet.record("id-bench", [reported(result(old, 0))], 50)
        fleet.release_round("r0", old.fence, 3, 0)
        lease(fleet)
        assert fleet.sweep_marks("s1").cells == {}

    def test_the_last_result_of_an_attempt_wins(self, fleet: Store) -> None:
        granted = lease(fleet)
        entries = [reported(result(granted, seq=seq)) for seq in (1, 2)]
        fleet.record("id-bench", entries, 50)
        assert fleet.result("r0.1.0").seq == 2

    def test_an_attempt_without_a_result_is_not_found(self, fleet: Store) -> None:
        with pytest.raises(NotFound):
            fleet.result("r0.1.0")

    def test_batches_of_many_devices_are_told_apart(self, fleet: Store) -> None:
        fleet.add_device(device("second"))
        fleet.add_sweep(sweep("s2"), [], [queued("q", sweep_id="s2", device_id="id-second")])
        mine = lease(fleet)
        theirs = fleet.lease_round("id-second", 100, 0)
        assert theirs is not None
        batches = [
            ("id-bench", [result(mine, 0)]),
            ("id-second", [result(theirs, 0), result(mine, 1)]),
        ]
        first, second = fleet.record_all(
            [(device_id, [arrived(reported(one)) for one in each]) for device_id, each in batches],
            50,
        )
        assert [r.outcome for r in first] == [RecordOutcome.STORED]
        assert [r.outcome for r in second] == [RecordOutcome.STORED, RecordOutcome.REJECTED]

    def test_the_same_results_from_many_at_once_are_stored_once(
        self, fleet: Store, opener: Opener
    ) -> None:
        granted = lease(fleet)
        entries = [reported(result(granted, seq=seq)) for seq in range(1, 21)]
        handles = [opener() for _ in range(4)]
        outcomes = at_once(4, lambda i: handles[i].record("id-bench", entries, 50))
        stored = [o for each in outcomes if isinstance(each, list) for o in each]
        assert stored.count(RecordOutcome.STORED) == 20
        assert stored.count(RecordOutcome.ALREADY_STORED) == 60
        assert len(fleet.results()) == 20


class TestAdministration:
    ANNA = OperatorRecord("anna", Role.VIEWER, "c1", 1, 2)

    def test_an_operator_has_one_good_certificate(self, store: Store) -> None:
        store.put_operator(self.ANNA)
        store.put_operator(replace(self.ANNA, name="ben"))
        again = replace(self.ANNA, role=Role.OPERATOR, certificate_id="c2", revoked=True)
        store.put_operator(again)
        assert [o.name for o in store.operators()] == ["anna", "ben"]
        assert store.operator("anna") == again
        with pytest.raises(NotFound):
            store.operator("ghost")

    def test_the_audit_log_keeps_its_order_and_is_pruned_by_age(self, store: Store) -> None:
        entries = [
            AuditRecord(at, "anna", Role.VIEWER, "home", "device list", "", "ok", f"{at}")
            for at in (3, 1, 2)
        ]
        numbers = [store.add_audit(entry) for entry in entries]
        assert store.audit(10) == entries
        store.end_audit(numbers[1], "bench", "not_found", "why")
        entries[1] = replace(entries[1], subject="bench", outcome="not_found", detail="why")
        assert store.audit(10) == entries
        assert store.audit(2) == entries[1:]
        assert store.prune_audit(2) == 1
        assert store.audit(10) == [entries[0], entries[2]]

    def test_results_are_read_page_by_page(self, fleet: Store) -> None:
        granted = lease(fleet)
        for seq in (1, 2, 3):
            fleet.record("id-bench", [reported(result(granted, seq=seq))], seq)
        first, after = fleet.result_page("s1", 0, 2)
        rest, last = fleet.result_page("s1", after, 2)
        assert [len(first), len(rest)] == [2, 1]
        assert first + rest == fleet.results(sweep_id="s1")
        assert fleet.result_page("s1", last, 2) == ([], last)
        assert fleet.result_page("s2", 0, 2) == ([], 0)
        fleet.release_round("r0", granted.fence, 3, 9)
        lease(fleet)
        assert fleet.result_page("s1", 0, 2) == ([], 0), "superseded"

    def test_attempts_are_found_by_how_they_begin(self, fleet: Store) -> None:
        granted = lease(fleet)
        fleet.record("id-bench", [reported(result(granted, at)) for at in (0, 1)], 1)
        assert fleet.attempts("r0.", 9) == fleet.attempts("", 9) == ["r0.1.0", "r0.1.1"]
        assert fleet.attempts("r0.1.1", 9) == ["r0.1.1"]
        assert fleet.attempts("r0.", 1) == ["r0.1.0"]
        assert fleet.attempts("r%", 9) == fleet.attempts("R0", 9) == []


class TestUpkeep:
    def test_what_is_stored_is_there_for_the_next_process(
        self, fleet: Store, opener: Opener
    ) -> None:
        granted = lease(fleet, now_ns=5 * S)
        assert opener().held_rounds("id-bench") == [granted]

    def test_what_records_name_is_named(self, store: Store) -> None:
        store.add_dataset(dataset())
        store.add_variant(variant())
        (split,) = dataset().splits.values()
        (file,) = variant().files.values()
        assert file.golden is not None
        catalogued = {split.digest, file.artifact.digest, file.golden.artifact.digest}
        assert catalogued <= store.named_artifacts()
        store.add_device(device())
        assert ref("model fp32").digest not in store.named_artifacts()

    def test_a_sweep_names_its_files_while_it_runs_and_where_it_has_results(
        self, store: Store
    ) -> None:
        store.add_device(device())
        names = ("model fp32", "golden fp32", "digits")
        for sweep_id, round_id in (("s1", "r1"), ("s2", "r2")):
            store.add_sweep(
                sweep(sweep_id),
                [cell(sweep_id=sweep_id)],
                [queued(round_id, sweep_id=sweep_id)],
            )
        assert {ref(name).digest for name in names} <= store.named_artifacts()
        granted = store.lease_round("id-bench", 100 * S, 0, round_id="r1")
        assert granted is not None
        store.set_sweep_state("s1", SweepState.CANCELLED)
        store.set_sweep_state("s2", SweepState.CANCELLED)
        assert ref("model fp32").digest in store.named_artifacts(), "the device still holds it"
        trace = ref("trace", MEDIA_NPZ)
        store.record("id-bench", [reported(replace(result(granted), trace=trace))], 1)
        store.release_round("r1", granted.fence, 3, 0)
        assert {trace.digest, ref("model int8").digest} <= store.named_artifacts()

    def test_a_cancelled_sweep_without_results_names_its_canary_alone(self, store: Store) -> None:
        store.add_device(device())
        canary = cell("canary")
        canary = replace(canary, run=replace(canary.run, canary=True))
        store.add_sweep(sweep(), [cell(), canary], [queued()])
        store.set_sweep_state("s1", SweepState.CANCELLED)
        named = store.named_artifacts()
        assert ref("model canary").digest in named
        assert ref("model fp32").digest not in named

    def test_counts_name_every_table(self, fleet: Store) -> None:
        counts = fleet.counts()
        assert (counts["devices"], counts["sweeps"], counts["rounds"]) == (1, 1, 2)
        assert counts["results"] == 0

    def test_a_sound_database_has_no_problems(self, fleet: Store) -> None:
        assert fleet.check() == []


class TestQueuesAndOutcomes:
    def idle(self, store: Store) -> list[tuple[str, str, int]]:
        return [(q.sweep_id, q.device_id, q.since_ns) for q in store.idle_queues()]

    @pytest.fixture
    def waiting(self, store: Store) -> Store:
        """One device with two rounds that wait since 10 and 20."""
        store.add_device(device())
        rounds = [replace(queued(f"r{i}", index=i), since_ns=10 * (i + 1)) for i in (0, 1)]
        store.add_sweep(sweep(), [cell(), cell("int8")], rounds)
        return store

    def test_a_queue_is_idle_while_its_device_holds_nothing(self, waiting: Store) -> None:
        assert self.idle(waiting) == [("s1", "id-bench", 10)]
        granted = lease(waiting, now_ns=30)
        assert self.idle(waiting) == []
        assert waiting.round("r0").since_ns == 30
        waiting.release_round("r0", granted.fence, 3, 40, "given_up: x")
        assert self.idle(waiting) == [("s1", "id-bench", 20)]
        assert (waiting.round("r0").since_ns, waiting.round("r0").trouble) == (40, "given_up: x")
        waiting.set_sweep_state("s1", SweepState.CANCELLED)
        assert self.idle(waiting) == []

    def test_last_work_is_the_newest_grant_or_end(self, waiting: Store) -> None:
        assert waiting.last_work_ns("id-bench", "queue_timeout") == 0
        granted = lease(waiting, now_ns=30)
        assert waiting.last_work_ns("id-bench", "queue_timeout") == 30
        waiting.finish_round("r0", granted.fence, RoundState.DONE, 50)
        assert waiting.last_work_ns("id-bench", "queue_timeout") == 50
        (queue,) = waiting.idle_queues()
        assert waiting.fail_queue(queue, 90, "queue_timeout: x") == ["r1"]
        assert waiting.last_work_ns("id-bench", "queue_timeout") == 50

    def test_what_is_put_off_does_not_count_up_to_a_limit(self, waiting: Store) -> None:
        grants = []
        for uncounted in (2, 2, 0, 2, 2):
            granted = lease(waiting)
            waiting.release_round("r0", 0, 3, 40, "x", most_uncounted=2)
            assert waiting.round("r0").grants == (grants[-1] if grants else 0) + 1, "an old fence"
            waiting.release_round("r0", granted.fence, 3, 40, "x", most_uncounted=uncounted)
            grants.append(waiting.round("r0").grants)
        assert grants == [0, 0, 1, 2, 3], "two of them for nothing, and the fence grows"
        found = waiting.round("r0")
        assert (found.state, found.fence) == (RoundState.FAILED, 5)

    def test_a_queue_fails_whole_unless_somebody_came(self, waiting: Store) -> None:
        (queue,) = waiting.idle_queues()
        granted = lease(waiting)
        assert waiting.fail_queue(queue, 90, "queue_timeout: x") == []
        waiting.release_round("r0", granted.fence, 3, 40)
        assert waiting.fail_queue(queue, 90, "queue_timeout: x") == ["r0", "r1"]
        found = {(r.state, r.since_ns, r.trouble) for r in waiting.rounds("s1")}
        assert found == {(RoundState.FAILED, 90, "queue_timeout: x")}
        assert waiting.fail_queue(queue, 95, "queue_timeout: y") == []

    def test_what_another_holds_of_what_is_shared_is_no_idling(self, waiting: Store) -> None:
        waiting.update_device(device(labels={"shared.meter": "a", "shared.hub": "b"}))
        others = (("mate", {"shared.hub": "b"}), ("stranger", {"shared.hub": "c"}))
        for number, (name, labels) in enumerate(others):
            waiting.add_device(device(name, labels=labels))
            one = replace(queued(f"q{number}", sweep_id=f"s-{name}"), device_id=f"id-{name}")
            waiting.add_sweep(sweep(f"s-{name}"), [], [one])
        found = {device_id for _, device_id, _ in self.idle(waiting)}
        (queue,) = (q for q in waiting.idle_queues() if q.device_id == "id-bench")
        assert found == {"id-bench", "id-mate", "id-stranger"}
        granted = waiting.lease_round("id-mate", 100, 30)
        assert granted is not None
        assert [device_id for _, device_id, _ in self.idle(waiting)] == ["id-stranger"]
        assert waiting.fail_queue(queue, 90, "queue_timeout: x") == []
        waiting.finish_round("q0", granted.fence, RoundState.DONE, 50)
        assert "id-bench" in {device_id for _, device_id, _ in self.idle(waiting)}
        names = ("bench", "mate", "stranger")
        worked = [waiting.last_work_ns(f"id-{name}", "queue_timeout") for name in names]
        assert worked == [50, 50, 0]
        assert waiting.fail_queue(queue, 90, "queue_timeout: x") == ["r0", "r1"]

    def test_an_expired_lease_waits_for_its_delivery_and_leaves_its_trouble(
        self, waiting: Store
    ) -> None:
        lease(waiting, now_ns=0, lease_ns=100)
        assert waiting.expire_leases(109, 3, delivery_ns=10, trouble="lease_expired: x") == []
        assert waiting.expire_leases(110, 3, delivery_ns=10, trouble="lease_expired: x") == ["r0"]
        again = waiting.round("r0")
        assert (again.since_ns, again.trouble) == (110, "lease_expired: x")

    def test_outcomes_come_with_the_newest_first(self, waiting: Store) -> None:
        assert waiting.last_outcomes("id-bench", 3) == []
        first = lease(waiting, now_ns=30)
        failed = [reported(result(first, position)) for position in range(2)]
        waiting.record("id-bench", failed, now_ns=50)
        second = lease(waiting, now_ns=60)
        waiting.finish_round("r1", second.fence, RoundState.FAILED, 70)
        late, early = waiting.last_outcomes("id-bench", 3)
        assert (late.round_id, late.failed, late.sound, late.failures) == ("r1", True, False, ())
        assert (early.round_id, early.failed, early.sound) == ("r0", False, False)
        assert [one.failure.code for one in early.failures] == ["worker_crashed"] * 2
        assert waiting.ended_lately(40) == {"id-bench"}
        assert waiting.ended_lately(70) == frozenset()
        assert len(waiting.last_outcomes("id-bench", 1)) == 1

    def test_one_sound_run_makes_an_outcome_sound(self, waiting: Store) -> None:
        granted = lease(waiting)
        made = [result(granted), replace(result(granted, 1), failure=None)]
        waiting.record("id-bench", [reported(one) for one in made], 1)
        (outcome,) = waiting.last_outcomes("id-bench", 3)
        assert outcome.sound and outcome.failures == ()
