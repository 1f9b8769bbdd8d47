"""Starting, resuming, retrying and cancelling sweeps on a real store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assay.controller.home import Home
from assay.controller.planning import sweeps
from assay.controller.records import RoundState, SweepState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.errors import AlreadyExists, SpecError
from tests.planning import DATASET, VARIANTS, device, spec


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def blobs(home: Home) -> ContentStore:
    return ContentStore(home.create().artifacts)


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = open_store(home)
    opened.add_dataset(DATASET)
    for variant in VARIANTS:
        opened.add_variant(variant)
    opened.add_device(device())
    yield opened
    opened.close()


def fail_everything(store: Store, sweep_id: str) -> None:
    for round_ in store.rounds(sweep_id, [RoundState.QUEUED]):
        store.finish_round(round_.round_id, round_.fence, RoundState.FAILED, 0)


def test_a_plan_writes_no_sweep(store: Store, blobs: ContentStore) -> None:
    made = sweeps.plan_sweep(spec(), store, blobs)
    assert len(made.rounds) == 3
    assert store.sweeps() == []


def test_a_submitted_sweep_is_in_the_store_as_planned(store: Store, blobs: ContentStore) -> None:
    done = sweeps.submit(spec(), store, blobs)
    assert done.plan is not None
    assert store.sweep("lab") == done.sweep
    assert store.cells(done.sweep.sweep_id) == list(done.plan.cells)
    assert {r.state for r in store.rounds(done.sweep.sweep_id)} == {RoundState.QUEUED}


def test_the_same_file_again_adds_nothing_while_its_rounds_wait(
    store: Store, blobs: ContentStore
) -> None:
    first = sweeps.submit(spec(), store, blobs)
    again = sweeps.submit(spec(), store, blobs)
    assert (again.sweep, again.added, again.plan) == (first.sweep, (), None)


def test_another_file_of_the_same_name_is_refused(store: Store, blobs: ContentStore) -> None:
    sweeps.submit(spec(), store, blobs)
    with pytest.raises(AlreadyExists, match="made from another file"):
        sweeps.submit(spec(rounds=5), store, blobs)


def test_a_sweep_goes_on_with_the_cells_it_began_with(store: Store, blobs: ContentStore) -> None:
    sweeps.submit(spec(), store, blobs)
    store.add_device(replace(device("second"), key_sha256="other"))
    with pytest.raises(AlreadyExists, match="made from other variants, data or devices"):
        sweeps.submit(spec(), store, blobs)


@pytest.mark.parametrize("mode", ["burst", "paced"])
def test_a_sweep_of_a_version_with_another_default_goes_on(
    store: Store, blobs: ContentStore, mode: str
) -> None:
    scenarios = [{"mode": mode, "target_qps": 10} if mode == "paced" else {"mode": mode}]
    runtime = {"name": "onnxruntime"}
    # What an older version wrote down where the file said nothing.
    before = spec(runtimes=[{**runtime, "allow_spinning": True}], scenarios=scenarios)
    first = sweeps.submit(before, store, blobs)
    again = sweeps.submit(spec(runtimes=[runtime], scenarios=scenarios), store, blobs)
    assert (again.sweep, again.added) == (first.sweep, ())
    changed = spec(runtimes=[{**runtime, "allow_spinning": False}], scenarios=scenarios)
    with pytest.raises(AlreadyExists):
        sweeps.submit(changed, store, blobs)


def test_nothing_is_stored_where_the_file_names_what_is_not_there(
    store: Store, blobs: ContentStore
) -> None:
    with pytest.raises(SpecError):
        sweeps.submit(spec(variants=["absent"]), store, blobs)
    assert store.sweeps() == []


def test_a_cancelled_sweep_is_taken_up_again(store: Store, blobs: ContentStore) -> None:
    done = sweeps.submit(spec(), store, blobs)
    sweeps.cancel(done.sweep, store)
    assert store.sweep("lab").state is SweepState.CANCELLED
    again = sweeps.resume(store.sweep("lab"), store)
    assert len(again.added) == 3
    assert again.sweep.state is SweepState.RUNNING


def test_a_sweep_that_ended_short_gets_rounds_while_retries_last(
    store: Store, blobs: ContentStore
) -> None:
    sweep_id = sweeps.submit(spec(retries=1), store, blobs).sweep.sweep_id
    sweeps.tend(store)
    assert len(store.rounds(sweep_id)) == 3, "rounds still wait: nothing to add"
    fail_everything(store, sweep_id)
    sweeps.tend(store)
    assert len(store.rounds(sweep_id)) == 6
    assert store.sweep("lab").state is SweepState.RUNNING
    fail_everything(store, sweep_id)
    sweeps.tend(store)
    assert len(store.rounds(sweep_id)) == 6
    assert store.sweep("lab").state is SweepState.DONE


def test_the_stored_file_is_the_checked_one(store: Store, blobs: ContentStore) -> None:
    done = sweeps.submit(spec(), store, blobs)
    assert json.loads(done.sweep.spec_json)["runtimes"][0]["threads"] == [1]
