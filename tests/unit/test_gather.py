"""Running sweeps are read again only where they have moved, and say the same as when read whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import load_sweep
from assay.controller.metrics.exposition import results_page, sweep_facts
from assay.controller.metrics.gather import SweepReader
from assay.controller.metrics.running import Catalogue, SweepGroups
from assay.controller.records import ResultRecord, RoundState
from tests.factories import SHAPES, FakeStore, make_device, make_result, make_sweep


class CountingStore(FakeStore):
    """Tells how many results were read."""

    count = 0

    def results(self, **options: Any) -> list[ResultRecord]:
        found = super().results(**options)
        self.count += len(found)
        return found


@pytest.fixture
def store() -> CountingStore:
    devices = [make_device("pi-1"), make_device("pi-2")]
    return CountingStore(make_sweep(shapes=SHAPES[:3], devices=devices))


def more(store: FakeStore, index: int = 0) -> None:
    """One more result of a cell."""
    data = store.held["s1"]
    added = make_result(data.cells[index], round_index=8)
    store.put(replace(data, results=(*data.results, added)))


def test_nothing_moved_is_nothing_read(store: CountingStore) -> None:
    reader = SweepReader(store)  # type: ignore[arg-type]
    first = reader.read("s1")
    assert first.results == store.results(sweep_id="s1")
    store.count = 0
    assert reader.read("s1") is first
    assert store.count == 0


def test_one_result_makes_its_cell_alone_be_read_again(store: CountingStore) -> None:
    reader = SweepReader(store)  # type: ignore[arg-type]
    first = reader.read("s1")
    more(store)
    store.count = 0
    second = reader.read("s1")
    key = store.held["s1"].cells[0].cell_key
    assert store.count == len(second.by_cell[key]) == len(first.by_cell[key]) + 1
    others = [name for name in first.by_cell if name != key]
    assert all(second.by_cell[name] is first.by_cell[name] for name in others)
    assert second.rounds is first.rounds
    assert second.results == store.results(sweep_id="s1")


def test_a_round_that_moved_is_seen_and_a_superseded_result_goes(store: CountingStore) -> None:
    reader = SweepReader(store)  # type: ignore[arg-type]
    first = reader.read("s1")
    data = store.held["s1"]
    key = data.cells[0].cell_key
    store.put(
        replace(
            data,
            rounds=(replace(data.rounds[0], state=RoundState.LEASED), *data.rounds[1:]),
            results=tuple(
                replace(r, superseded=r.result.run.cell_key == key) for r in data.results
            ),
        )
    )
    second = reader.read("s1")
    assert key in first.by_cell and key not in second.by_cell
    assert [r.state for r in second.rounds][:2] == [RoundState.LEASED, RoundState.DONE]
    reader.forget("s1")
    assert reader.read("s1").results == second.results


def pages(store: CountingStore) -> Iterator[tuple[bytes, bytes]]:
    """By groups and whole, after one result after another."""
    reader = SweepReader(store)  # type: ignore[arg-type]
    groups = SweepGroups(store, store.sweep("s1"))  # type: ignore[arg-type]
    for index in (0, 0, 3, 7):
        data = load_sweep(store, "s1")  # type: ignore[arg-type]
        catalogue = Catalogue(data.variants, data.devices)
        parts = groups.facts(reader.read("s1"), catalogue)
        whole = sweep_facts(summarise(data), data.results, data.variants)
        yield results_page([parts])[0], results_page([whole])[0]
        more(store, index)


def test_groups_say_what_the_whole_sweep_says(store: CountingStore) -> None:
    for by_groups, whole in pages(store):
        assert sorted(by_groups.splitlines()) == sorted(whole.splitlines())


def test_a_canary_of_two_groups_is_counted_once(store: CountingStore) -> None:
    data = store.held["s1"]
    twice = tuple(replace(c, group=f"{c.group}-offline") for c in data.cells if c.run.canary)
    store.put(replace(data, cells=(*data.cells, *twice)))
    for by_groups, whole in pages(store):
        counted = [line for line in by_groups.splitlines() if b"_results_total{" in line]
        assert counted == [line for line in whole.splitlines() if b"_results_total{" in line]
