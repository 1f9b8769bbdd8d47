"""A real browser opens the report: no complaint, no request, everything drawn, at two sizes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.controller.report import write_report
from assay.core.cas import ContentStore
from tests.chromium import Page, chromium
from tests.conftest import REPOSITORY, need
from tests.factories import FakeStore, make_sweep

pytestmark = pytest.mark.system

ARTIFACTS = REPOSITORY / "tests/artifacts"
WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    blobs = ContentStore(root / "artifacts")
    data = make_sweep(blobs=blobs, scratch=root)
    write_report(FakeStore(data), blobs, "demo", root / "report.html")  # type: ignore[arg-type]
    return root / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    need(program="chromium")
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    """The report, freshly opened."""
    browser.resize(*WIDE)
    browser.prefer("light")
    browser.forget()
    browser.open(report.as_uri())
    return browser


def measured(png: bytes) -> tuple[tuple[int, int], int]:
    """Width and height, and the size in bytes: a blank page packs to a few kilobytes."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return (width, height), len(png)


def test_it_opens_without_complaint_and_without_asking_for_anything(
    page: Page, report: Path
) -> None:
    assert page.run("document.title") == "demo – Assay report"
    assert page.complaints == []
    assert page.requests == [report.as_uri()]


def test_the_policy_stops_what_a_later_hand_might_add(page: Page) -> None:
    page.run("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))")
    page.run(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'evil = 1'}))"
    )
    assert page.run("typeof evil") == "undefined"
    assert any("Content Security Policy" in complaint for complaint in page.complaints)


def test_the_chart_is_drawn(page: Page) -> None:
    assert page.run("document.querySelectorAll('.scatter .point').length") == 15
    boxes = json.loads(
        page.run(
            "JSON.stringify([...document.querySelectorAll('.scatter .point')].map("
            "p => { const b = p.getBoundingClientRect(); return [b.width, b.height]; }))"
        )
    )
    assert all(width > 5 and height > 5 for width, height in boxes)
    assert page.run("document.querySelectorAll('.ecdf path.line').length") >= 40
    fill = "getComputedStyle(document.querySelector('.scatter .mark.s0')).fill"
    assert page.run(fill) == "rgb(0, 114, 178)"


def test_marks_of_two_runtimes_differ_in_shape_as_well_as_colour(page: Page) -> None:
    shapes = page.run(
        "[...new Set([...document.querySelectorAll('.scatter .mark:not(.out)')].map("
        "m => m.tagName + '.' + m.classList[1]))].sort().join()"
    )
    assert shapes == "circle.s0,polygon.s1"


def test_a_column_sorts_by_its_values_and_back(page: Page) -> None:
    column = "[...document.querySelectorAll('.ranking tbody tr')].map(r => r.cells[8].dataset.sort)"
    header = "document.querySelectorAll('.ranking thead th')[8]"
    page.run(f"{header}.querySelector('button').click()")
    upwards = [int(value) for value in page.run(column)]
    assert upwards == sorted(upwards)
    assert page.run(f"{header}.getAttribute('aria-sort')") == "ascending"
    page.run(f"{header}.querySelector('button').click()")
    assert [int(value) for value in page.run(column)] == sorted(upwards, reverse=True)


def test_missing_values_sort_last(page: Page) -> None:
    page.run("document.querySelectorAll('.ranking thead th')[3].querySelector('button').click()")
    last = "[...document.querySelectorAll('.ranking tbody tr')].at(-1).cells[3].textContent"
    assert page.run(last).strip() == "–"


def test_the_keyboard_reaches_links_and_points_and_shows_what_they_are(page: Page) -> None:
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(45):
        page.press("Tab")
        reached.add(page.run("document.activeElement.getAttribute('class') || ''"))
        if any(kind.startswith("point") for kind in reached):
            break
    assert any(kind.startswith("point") for kind in reached)
    assert page.run("document.getElementById('tip').hidden") is False
    said = page.run("document.activeElement.getAttribute('aria-label')")
    assert page.run("document.getElementById('tip').textContent").startswith(said[:5])
    lit = page.run("document.querySelectorAll('tr.lit').length")
    assert lit == 1


def test_a_link_into_the_variants_opens_them(page: Page) -> None:
    page.run("document.querySelector('.ranking tbody a').click()")
    page.run("new Promise(done => setTimeout(done, 100))")
    assert page.run("document.querySelector('#variants details').open") is True


def test_the_theme_can_be_switched(page: Page) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.run(background) == "rgb(255, 255, 255)"
    page.run("document.getElementById('theme').click()")
    assert page.run(background) == "rgb(20, 22, 26)"
    page.run("document.getElementById('theme').click()")
    assert page.run(background) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_it_can_be_read_at_two_sizes_in_both_themes(
    page: Page, report: Path, size: tuple[int, int], scheme: str
) -> None:
    width, height = size
    page.resize(width, height, mobile=width < 600)
    page.prefer(scheme)
    page.open(report.as_uri())
    assert page.run("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    name = f"report-{'wide' if width > 600 else 'phone'}-{scheme}"
    shown, weight = measured(page.screenshot(ARTIFACTS / f"{name}.png"))
    assert shown == size
    assert weight > 20_000
    page.run("document.querySelector('#trade-off').scrollIntoView({behavior: 'instant'})")
    page.screenshot(ARTIFACTS / f"{name}-chart.png")
    page.screenshot(ARTIFACTS / f"{name}-whole.png", whole=True)
    contrast = page.run(_CONTRAST)
    assert contrast >= 4.5, f"text and background differ by only {contrast:.2f} to 1"


def test_it_can_be_read_without_javascript(report: Path) -> None:
    need(program="chromium")
    with chromium() as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.resize(*WIDE)
        page.open(report.as_uri())
        snapshot = page.call("DOMSnapshot.captureSnapshot", computedStyles=[])
        laid_out = {
            snapshot["strings"][i] for i in snapshot["documents"][0]["layout"]["text"] if i >= 0
        }
        shown, weight = measured(page.screenshot(ARTIFACTS / "report-without-script.png"))
    assert {"student", "int8-static", "FAILED", "Ranking"} <= laid_out
    assert "◐" not in laid_out, "a switch that does nothing is shown"
    assert shown == WIDE and weight > 20_000


# The least contrast of any text of the page with what lies behind it (WCAG 2, relative luminance).
_CONTRAST = """(() => {
  const light = ([r, g, b]) => {
    const f = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
  };
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const c = parse(getComputedStyle(n).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return parse(getComputedStyle(document.documentElement).backgroundColor);
  };
  let least = 21;
  const walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !node.getClientRects().length) continue;
    if (node.closest('[aria-hidden="true"]') || node.tagName === 'TITLE') continue;
    const style = getComputedStyle(node);
    const ink = parse(node.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(node))];
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return least;
})()"""
