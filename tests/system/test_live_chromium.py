"""A real browser clicks through the live page: no complaint, no request elsewhere, accessible."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.controller.home import Home
from assay.controller.live.access import Access
from assay.controller.live.server import LiveServer
from assay.core.cas import ContentStore
from tests.chromium import Page, chromium
from tests.conftest import REPOSITORY, need
from tests.factories import SHAPES, T0_NS, FakeStore, make_device, make_sweep, make_vitals

pytestmark = pytest.mark.system

ARTIFACTS = REPOSITORY / "tests/artifacts"
WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def vitals() -> dict[str, object]:
    return {"id-pi-1": make_vitals(), "id-pi-2": make_vitals(throttled=True, doing="")}


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory, vitals: dict[str, object]
) -> Iterator[LiveServer]:
    home = Home(tmp_path_factory.mktemp("home"))
    blobs = ContentStore(home.create().artifacts)
    devices = [make_device(f"pi-{i}", last_seen_ns=T0_NS + i) for i in range(1, 4)]
    data = make_sweep(
        shapes=SHAPES[:5],
        devices=devices,
        blobs=blobs,
        scratch=tmp_path_factory.mktemp("scratch"),
        samples=400,
    )
    store = FakeStore(data)
    with LiveServer(
        lambda: store,  # type: ignore[arg-type, return-value]
        blobs,
        lambda: dict(vitals),  # type: ignore[arg-type]
        "127.0.0.1",
        0,
        Access(),
    ) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    need(program="chromium")
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser: Page, live: LiveServer) -> Page:
    browser.resize(*WIDE)
    browser.prefer("light")
    browser.forget()
    browser.open(f"http://127.0.0.1:{live.port}/")
    return browser


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    need(program="npm")
    root = tmp_path_factory.mktemp("axe")
    got = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "axe-core@4.10.3"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert got.returncode == 0, got.stderr
    return (root / "node_modules/axe-core/axe.min.js").read_text()


def until(page: Page, condition: str) -> None:
    """Waits until a condition holds in the page, which may be on its way to another."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError):
            if page.run(f"Boolean({condition})"):
                return
        time.sleep(0.05)
    raise AssertionError(condition)


def test_clicking_through_asks_for_nothing_elsewhere_and_complains_of_nothing(
    page: Page, live: LiveServer
) -> None:
    until(page, "document.getElementById('link').textContent === 'live'")
    # A canary leaves no raw samples; the first row of fp32 has them.
    row = "tr[id^='result-']:has(.badge.valid) th a"
    result = f'[...document.querySelectorAll("{row}")].find(a => a.textContent === "fp32")'
    for link in ("document.querySelector(\"tr[id^='sweep-'] th a\")", result):
        before = page.run("location.href")
        page.run(f"{link}.click()")
        until(page, f"location.href !== {before!r} && document.readyState === 'complete'")
    until(page, "document.querySelectorAll('svg .bar').length > 5")
    page.open(f"http://127.0.0.1:{live.port}/report/demo")
    assert page.run("document.title") == "demo – Assay report"
    assert page.complaints == []
    here = f"http://127.0.0.1:{live.port}/"
    assert [url for url in page.requests if not url.startswith((here, "data:"))] == []


def test_what_changes_appears_without_a_reload(page: Page, vitals: dict[str, object]) -> None:
    until(page, "document.getElementById('link').textContent === 'live'")
    page.run("window.before = 1")
    vitals["id-pi-1"] = make_vitals(temperature_c=77.0)
    until(page, "document.getElementById('device-pi-1').textContent.includes('77 °C')")
    assert page.run("window.before") == 1


def test_the_filter_and_the_theme_work(page: Page) -> None:
    page.run(
        "(f => { f.value = 'pi-2'; f.dispatchEvent(new Event('input')); })"
        "(document.getElementById('filter'))"
    )
    assert (
        page.run("document.querySelectorAll('[data-table=devices] > tr:not([hidden])').length") == 1
    )
    background = page.run("getComputedStyle(document.documentElement).backgroundColor")
    page.run("document.getElementById('theme').click()")
    assert page.run("getComputedStyle(document.documentElement).backgroundColor") != background
    page.run("localStorage.clear()")


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(30):
        page.press("Tab")
        reached.add(page.run("document.activeElement.tagName + document.activeElement.id"))
    assert {"A", "BUTTONtheme", "INPUTfilter"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/sweep/demo", "/report/demo"])
def test_axe_finds_no_serious_fault(
    page: Page, live: LiveServer, axe: str, path: str, scheme: str
) -> None:
    page.prefer(scheme)
    page.open(f"http://127.0.0.1:{live.port}{path}")
    page.run("new Promise(done => setTimeout(done, 1500))")  # rows that change are lit for 1.2 s
    page.run(axe + "; 0")
    found = page.run(
        "axe.run({resultTypes: ['violations']}).then(r => r.violations"
        ".filter(v => ['serious', 'critical'].includes(v.impact))"
        ".map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 3).join(', ')))"
    )
    assert found == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_at_two_sizes(
    page: Page, live: LiveServer, size: tuple[int, int], scheme: str
) -> None:
    page.resize(*size, mobile=size is PHONE)
    page.prefer(scheme)
    for name, path in (("index", "/"), ("sweep", "/sweep/demo")):
        page.open(f"http://127.0.0.1:{live.port}{path}")
        width = page.run("document.documentElement.scrollWidth")
        assert width <= size[0], "the page scrolls sideways"
        kind = "wide" if size is WIDE else "phone"
        picture = Path(ARTIFACTS / f"live-{name}-{kind}-{scheme}.png")
        assert len(page.screenshot(picture)) > 15_000


def test_it_can_be_read_without_javascript(live: LiveServer) -> None:
    need(program="chromium")
    with chromium() as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.open(f"http://127.0.0.1:{live.port}/")
        snapshot = page.call("DOMSnapshot.captureSnapshot", computedStyles=[])
        laid_out = {
            snapshot["strings"][i] for i in snapshot["documents"][0]["layout"]["text"] if i >= 0
        }
    assert {"pi-1", "demo", "Newest results"} <= laid_out
    assert "◐" not in laid_out
