"""``assay watch``: the fleet in the terminal, from the store and the controller's own page."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from assay.controller.home import Home
from assay.controller.live.source import StateReader
from assay.controller.metrics.page import render_once
from assay.controller.metrics.vitals import VitalsBoard, from_line, to_line
from assay.controller.terminal.watch import render, scraped_vitals, vitals_of_page, watch
from tests.factories import SHAPES, T0_NS, FakeStore, make_sweep, make_vitals

NOW_NS = T0_NS + 705 * 10**9


def shown(store: FakeStore, sweep: str | None = None, *, serving: bool = True) -> str:
    out = io.StringIO()
    vitals = {"id-pi-bench-1": make_vitals()}
    state = StateReader(store, lambda: vitals).read(NOW_NS)  # type: ignore[arg-type]
    Console(file=out, width=200).print(render(state, sweep, serving=serving))
    return out.getvalue()


def test_devices_sweeps_and_results_are_shown() -> None:
    text = shown(FakeStore(make_sweep(shapes=SHAPES[:3], spoil=False)))
    assert "pi-bench-1" in text and "online" in text and "52 °C" in text
    assert "demo" in text and "done" in text
    assert "int8-dynamic" in text and "valid" in text


def test_a_controller_that_is_gone_is_said() -> None:
    assert "no controller serves this home" in shown(FakeStore(), serving=False)


def test_only_the_sweep_asked_for_is_shown() -> None:
    data = make_sweep(shapes=SHAPES[:1], spoil=False)
    text = shown(FakeStore(data), "another")
    assert "demo" not in text and "fp32" not in text


@pytest.mark.parametrize("changes", [{}, {"temperature_c": None, "throttled": True}])
def test_vitals_survive_the_way_to_the_watching_process(changes: dict[str, Any]) -> None:
    there, here = VitalsBoard(), VitalsBoard()
    there.put("id-pi", make_vitals(**changes))
    (line,) = [to_line(name, each) for name, each in there.fresh().items()]
    here.put(*from_line(line))
    assert here.all() == there.all()
    assert not there.fresh()


def test_vitals_survive_the_way_over_the_page() -> None:
    store = FakeStore(make_sweep(shapes=SHAPES[:1], spoil=False))
    vitals = make_vitals(throttled=True, quiet_until_ns=T0_NS + 900 * 10**9)
    page = render_once(store, vitals=lambda: {"id-pi-bench-1": vitals}, now_ns=lambda: NOW_NS)  # type: ignore[arg-type]
    assert vitals_of_page(page.decode(), NOW_NS) == {"pi-bench-1": vitals}


def test_without_a_controller_there_are_no_vitals(tmp_path: Path) -> None:
    assert scraped_vitals(Home(tmp_path), NOW_NS) == {}


def test_output_that_is_no_terminal_gets_it_once(tmp_path: Path) -> None:
    out = io.StringIO()
    data = make_sweep(shapes=SHAPES[:1], spoil=False)
    hostile = replace(data, sweep=replace(data.sweep, name="[red]x[/]"))
    console = Console(file=out, width=160)
    watch(FakeStore(hostile), Home(tmp_path), console, now_ns=lambda: NOW_NS)  # type: ignore[arg-type]
    assert "[red]x[/]" in out.getvalue()
