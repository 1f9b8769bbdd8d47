"""What lies under sweeps run from elsewhere: looks, processes beside the controller, batches."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from assay.controller.admin.aside import Aside
from assay.controller.admin.looks import SweepLooks, watched
from assay.controller.admin.remote import RemoteOffice
from assay.controller.admin.sweeping import Here
from assay.controller.admin.views import Exported, ExportOrder, SweepFile
from assay.controller.admin.wire import is_markdown, look_message, look_of
from assay.controller.home import Home
from assay.controller.records import ResultRecord, SweepState
from assay.controller.server import admin
from assay.controller.server.admin import _result_batches
from assay.controller.server.door import Door
from assay.controller.server.exports import Exports
from assay.controller.server.running import sole_controller
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.controller.terminal.follow import follow
from assay.core.channel import MAX_REPORT_BYTES
from assay.core.convert import fill
from assay.core.errors import (
    AssayError,
    BadMessage,
    NotFound,
    SpecError,
    Unreachable,
    UsageError,
    VersionMismatch,
)
from assay.v1 import admin_pb2
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

    def test_a_sweep_that_takes_long_to_read_is_not_read_all_the_time(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now_s, read = 0.0, type(store).results

        def slow(*arguments: Any, **named: Any) -> list[ResultRecord]:
            nonlocal now_s
            now_s += 2
            return read(*arguments, **named)

        monkeypatch.setattr(type(store), "results", slow)
        looks = SweepLooks(store, lambda: now_s)
        assert looks.look("s1").runs_done == 0
        measure(store, 0)
        now_s += 19
        assert looks.look("s1").runs_done == 0
        now_s += 1
        assert looks.look("s1").runs_done == 1
        measure(store, 1)
        assert looks.look("s1").runs_done == 1
        store.set_sweep_state("s1", SweepState.DONE)
        assert looks.look("s1").runs_done == 2, "the last look is a true one"

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

    def test_a_file_of_results_is_the_one_made_here(
        self, home: Home, store: Store, tmp_path: Path
    ) -> None:
        measure(store, 0)
        order, here = ExportOrder("s1", "json", samples=True), tmp_path / "here.json"
        made = Aside(home).export(order, tmp_path / "aside.json")
        assert made == Here(home, store).export(order, here) == Exported(1, 0)
        assert (tmp_path / "aside.json").read_bytes() == here.read_bytes()
        with pytest.raises(UsageError, match="no place for raw samples"):
            Here(home, store).export(replace(order, file_format="csv"), here)

    def test_one_that_takes_too_long_is_ended(self, home: Home) -> None:
        aside = Aside(home, longest_s=0.01)
        with pytest.raises(AssayError, match="crashed or took too long"):
            aside.report("s1", markdown=True)

    def test_it_goes_before_the_controller_where_memory_runs_out(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        popen = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", lambda _, **named: popen(command, **named))
        aside = Aside(home)
        child = aside._start()
        try:
            assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "1000"
        finally:
            aside._end(child)

    def test_none_is_begun_after_the_end(self, home: Home) -> None:
        aside = Aside(home)
        aside.close()
        with pytest.raises(AssayError, match="is stopping"):
            aside.report("s1", markdown=True)


class TestFromElsewhere:
    @pytest.fixture
    def office(self) -> Iterator[RemoteOffice]:
        made = RemoteOffice(grpc.insecure_channel("unix:/nobody"))
        yield made
        made.close()

    def test_a_controller_that_cannot_force_is_not_taken_for_one_that_did(
        self, office: RemoteOffice
    ) -> None:
        plain = admin_pb2.GetReportResponse(data=b"report")
        office._stub = cast(Any, SimpleNamespace(GetReport=lambda *_, **__: iter([plain])))
        assert office.report("s1") == b"report"
        with pytest.raises(VersionMismatch, match="--force"):
            office.report("s1", force=True)

    def test_a_file_that_breaks_off_is_not_left(self, office: RemoteOffice, tmp_path: Path) -> None:
        def broken(*_: object, **__: object) -> Iterator[admin_pb2.ExportResultsResponse]:
            yield admin_pb2.ExportResultsResponse(results=2)
            yield admin_pb2.ExportResultsResponse(data=b"half")
            raise Unreachable("gone")

        office._stub = cast(Any, SimpleNamespace(ExportResults=broken))
        with pytest.raises(Unreachable):
            office.export(ExportOrder("s1", "csv"), tmp_path / "out.csv")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left_s", [None, 1e9])
def test_a_file_is_made_only_for_a_call_that_ends(home: Home, left_s: float | None) -> None:
    async def place() -> None:
        async with Exports(home).place(SimpleNamespace(time_remaining=lambda: left_s)):
            pytest.fail("a place was given")

    with pytest.raises(UsageError, match="deadline"):
        asyncio.run(place())


def test_what_a_killed_controller_left_is_removed(home: Home) -> None:
    async def made(left_s: float) -> Path:
        async with Exports(home).place(SimpleNamespace(time_remaining=lambda: left_s)) as path:
            path.write_text("x")
            assert Exports(home) and not path.exists()
        return path.parent

    assert not asyncio.run(made(10.0)).exists()


def test_no_file_is_left_for_who_has_gone_meanwhile(home: Home, store: Store) -> None:
    """A call that is cancelled takes its place with it, while its file is still being made."""
    measure(store, 0)

    async def gone() -> Path:
        async with Exports(home).place(SimpleNamespace(time_remaining=lambda: 10.0)) as path:
            return path

    path = asyncio.run(gone())
    with pytest.raises(FileNotFoundError):
        Here(home, store).export(ExportOrder("", "csv"), path)
    assert not path.parent.exists()


def test_long_lists_are_made_outside_the_event_loop(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet's devices, or a sweep's results, take seconds: no Sync must wait for them. Nor do all
    results stand in memory at once."""
    for position in (0, 1):
        measure(store, position)
    made: list[tuple[type[Any], bool]] = []

    def watched_fill(message: Any, value: Any) -> Any:
        made.append((type(value), threading.current_thread() is threading.main_thread()))
        return fill(message, value)

    monkeypatch.setattr(admin, "fill", watched_fill)
    monkeypatch.setattr(admin, "_PAGE", 1)
    monkeypatch.delattr(type(store), "results")
    pool = ThreadPoolExecutor(1)
    servicer = admin.AdminServicer(
        home, Door(store, lambda: 1), admin.Threads(pool, pool, pool, pool), Here(home, store)
    )
    caller: Any = SimpleNamespace(peer=lambda: "unix:", auth_context=dict)

    async def listed() -> None:
        await servicer.ListDevices(admin_pb2.ListDevicesRequest(), caller)
        await servicer.ListSweeps(admin_pb2.ListSweepsRequest(), caller)
        await servicer.ListRounds(admin_pb2.ListRoundsRequest(sweep="s1"), caller)
        await servicer.ListAudit(admin_pb2.ListAuditRequest(limit=9), caller)
        request = admin_pb2.ListResultsRequest(sweep="s1")
        assert len([reply async for reply in servicer.ListResults(request, caller)]) == 2

    asyncio.run(listed())
    pool.shutdown()
    assert {one.__name__ for one, _ in made} == {
        *("DeviceRecord", "SweepRecord", "SweepRound", "AuditRecord", "ResultRecord")
    }
    assert not any(in_loop for _, in_loop in made)


def test_who_looks_on_holds_up_nobody_who_works(home: Home, store: Store) -> None:
    """A report that never ends leaves room for a sweep to be planned."""
    stuck, gate = ThreadPoolExecutor(1), threading.Event()
    stuck.submit(gate.wait)
    free = ThreadPoolExecutor(1)
    threads = admin.Threads(free, free, planned=free, made=stuck)
    servicer = admin.AdminServicer(home, Door(store, lambda: 1), threads, Here(home, store))
    caller: Any = SimpleNamespace(peer=lambda: "unix:", auth_context=dict)

    async def both() -> None:
        report = servicer.GetReport(admin_pb2.GetReportRequest(sweep="ghost", format=2), caller)
        looking = asyncio.ensure_future(anext(report))
        resuming = servicer.ResumeSweep(admin_pb2.ResumeSweepRequest(name="s1"), caller)
        resumed = await asyncio.wait_for(resuming, 20)
        assert resumed.sweep.name == "sweep s1" and not looking.done()
        gate.set()
        with pytest.raises(NotFound):
            await looking

    try:
        asyncio.run(both())
    finally:
        gate.set()
        threads.shutdown()


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
