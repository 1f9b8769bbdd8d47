"""What lies under sweeps run from elsewhere: looks, processes beside the controller, batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assay.controller.admin.aside import Aside
from assay.controller.admin.looks import SweepLooks, watched
from assay.controller.admin.views import SweepFile
from assay.controller.admin.wire import is_markdown, look_message, look_of
from assay.controller.home import Home
from assay.controller.records import ResultRecord, SweepState
from assay.controller.server.admin import _result_batches
from assay.controller.server.running import sole_controller
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.controller.terminal.follow import follow
from assay.core.channel import MAX_REPORT_BYTES
from assay.core.errors import AssayError, BadMessage, NotFound, SpecError, Unreachable
from tests.factories import make_result
from tests.plane import S, cell, device, queued, reported, result, sweep


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = open_store(home)
    opened.add_device(device())
    opened.add_sweep(sweep(), [cell()], [queued()])
    yield opened
    opened.close()


def measure(store: Store, position: int) -> None:
    granted = store.lease_round("id-bench", 100 * S, 1) or store.held_rounds("id-bench")[0]
    store.record("id-bench", [reported(result(granted, position))], 2)


class TestLooks:
    def test_results_are_read_again_only_where_something_moved(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = SweepLooks(store)
        measure(store, 0)
        before = looks.look("sweep s1")
        assert (before.runs_done, before.runs_total, before.cells_short) == (1, 2, 1)
        with monkeypatch.context() as patch:
            patch.delattr(type(store), "results")
            store.set_sweep_priority("s1", 3)
            assert looks.look("s1") == replace(before, sweep=store.sweep("s1"))
        measure(store, 1)
        assert looks.all()[0].runs_done == 2

    def test_a_look_survives_the_wire(self, store: Store) -> None:
        measure(store, 0)
        look = SweepLooks(store).look("s1")
        assert look_of(look_message(look)) == look
        assert look_of(look_message(look, latest=False)) == replace(look, latest=None)

    def test_a_home_without_a_controller_says_what_to_do(self, home: Home, store: Store) -> None:
        with pytest.raises(Unreachable, match=r"stored and waits.*assay controller serve"):
            next(watched(home, store, "s1"))

    def test_a_watch_ends_with_the_sweep_or_with_the_controller(
        self, home: Home, store: Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def pause(_s: float) -> None:
            store.set_sweep_state("s1", SweepState.CANCELLED)

        (home.addresses).write_text("{}")
        with sole_controller(home):
            home.addresses.write_text(SERVING)
            assert follow(watched(home, store, "s1", pause)).ended
        assert capsys.readouterr().err.startswith("measured 0 of ")
        store.set_sweep_state("s1", SweepState.RUNNING)
        with sole_controller(home):
            looks = watched(home, store, "s1", lambda _s: None)
            next(looks)
        with pytest.raises(Unreachable, match="goes on when it is back"):
            next(looks)


SERVING = (
    '{"pid": 1, "host": "127.0.0.1", "enrol_port": 1, "fleet_port": 2, "blobs_port": 3, '
    '"metrics_port": 0, "started_ns": 1, "version": "1", "live_port": 0, "live_secure": false, '
    '"admin_port": 0, "admin_socket": ""}'
)


class TestAside:
    def test_errors_come_back_as_themselves(self, home: Home, store: Store) -> None:
        aside = Aside(home)
        with pytest.raises(SpecError, match=r"^a\.toml: name: is missing\n") as refused:
            aside.plan(SweepFile("a.toml", 'nmae = "x"'))
        assert refused.value.problems[-1].startswith("nmae: no such key")
        with pytest.raises(NotFound, match="no sweep 'ghost'"):
            aside.report("ghost", markdown=True)

    def test_one_that_takes_too_long_is_ended(self, home: Home) -> None:
        aside = Aside(home, longest_s=0.01)
        with pytest.raises(AssayError, match="crashed or took too long"):
            aside.report("s1", markdown=True)

    def test_none_is_begun_after_the_end(self, home: Home) -> None:
        aside = Aside(home)
        aside.close()
        with pytest.raises(AssayError, match="is stopping"):
            aside.report("s1", markdown=True)


def test_results_go_in_messages_of_a_mebibyte() -> None:
    found: list[ResultRecord] = [make_result(round_index=n) for n in range(1_500)]
    batches = list(_result_batches(found))
    assert len(batches) > 1
    assert all(batch.ByteSize() <= MAX_REPORT_BYTES for batch in batches)
    assert [r.attempt_id for b in batches for r in b.results] == [r.attempt_id for r in found]
    assert list(_result_batches([])) == []


@pytest.mark.parametrize("number", [0, 99])
def test_a_report_of_a_newer_kind_is_refused(number: int) -> None:
    with pytest.raises(BadMessage, match="report format"):
        is_markdown(number)
