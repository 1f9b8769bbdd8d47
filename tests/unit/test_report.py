"""The report: one file, nothing from outside, every number that of the summary."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tomllib

from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import SweepData
from assay.controller.report import write_report
from assay.controller.report.distribution import RunQuantiles, common_scale, small_ecdf
from assay.controller.report.evidence import SHARES, Evidence, gather
from assay.controller.report.page import render
from assay.controller.report.reproduce import sweep_toml
from assay.controller.report.scatter import scatter
from assay.controller.report.svg import Scale, element, path, text
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ
from assay.core.trace import write_trace
from tests.factories import (
    DATASET,
    SHAPES,
    T0_NS,
    FakeStore,
    make_device,
    make_energy,
    make_sweep,
    make_sweep_record,
    make_trace,
)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepData, ContentStore]:
    """A spoilt sweep whose results all have traces."""
    root = tmp_path_factory.mktemp("report")
    blobs = ContentStore(root / "artifacts")
    return make_sweep(blobs=blobs, scratch=root, samples=300), blobs


@pytest.fixture(scope="module")
def page(measured: tuple[SweepData, ContentStore]) -> str:
    data, blobs = measured
    summary = summarise(data)
    return render(summary, data, gather(summary, data, blobs), T0_NS // 10**9)


class Outline(HTMLParser):
    """What a browser would load, run and show as text."""

    _VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, document: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.styles: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.policy = ""
        self.scripts: dict[str, str] = {}
        self.style = ""
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "srcset", "poster", "xlink:href"):
                self.links.append(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)
            elif name == "style":
                self.styles.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag not in self._VOID:
            self.open.append(tag + ":" + (given.get("type") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().split(":")[0] == tag, f"</{tag}> closes nothing"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside.startswith("script:"):
            self.scripts[inside[7:]] = self.scripts.get(inside[7:], "") + data
        elif inside.startswith("style:"):
            self.style += data
        else:
            self.text += data


def data_of(document: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(Outline(document).scripts["application/json"])
    return found


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    outline = Outline(page)
    assert outline.links
    assert [link for link in outline.links if not link.startswith(("#", "data:,"))] == []
    assert "@import" not in outline.style and "url(" not in outline.style


def test_every_link_inside_the_page_has_a_target(page: str) -> None:
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)


def test_the_policy_allows_exactly_the_style_and_script_inside(page: str) -> None:
    outline = Outline(page)

    def allowed(content: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

    assert outline.policy.startswith("default-src 'none'")
    assert allowed(outline.style) in outline.policy
    assert allowed(outline.scripts[""]) in outline.policy
    assert "unsafe" not in outline.policy
    assert outline.handlers == [] and outline.styles == []


def test_every_drawing_is_well_formed_and_has_a_name(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(drawings) > 40
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert root.get("aria-label") or root.get("aria-hidden") == "true"
        assert "NaN" not in drawing and "nan" not in drawing.lower().replace("tenan", "")


def test_the_tables_stand_in_the_page_without_javascript(page: str) -> None:
    shown = Outline(page).text
    for name in (shape.name for shape in SHAPES):
        assert name in shown
    for said in ("91.31 %", "12.5 M", "312 kB", "runtime_rejected", "cpu_contended", "0.28×"):
        assert said in shown
    assert "9 of 48 results are not VALID because" in shown


def test_results_that_do_not_count_are_listed_with_reason_and_cure(page: str) -> None:
    shown = Outline(page).text
    assert "All 12 of them" in shown or "All 9 of them" in shown
    assert "wall/cpu 1.31, at most 1.02 is fair" in shown
    assert "NOT_IMPLEMENTED: ConvInteger(10)" in shown
    assert "export the variant with operators" in shown


def test_recipe_provenance_and_reproduction_are_there(page: str) -> None:
    shown = Outline(page).text
    assert "prune: criterion l1, macs_ratio 0.5" in shown
    assert "Raspberry Pi 5 Model B Rev 1.0 (Cortex-A76, aarch64)" in shown
    assert "kernel 6.6.51+rpt-rpi-2712" in shown
    assert "assay sweep run demo.toml" in shown
    assert DATASET.splits["test"].digest in shown


def test_the_data_block_holds_the_numbers_of_the_summary(
    page: str, measured: tuple[SweepData, ContentStore]
) -> None:
    block = data_of(page)
    summary = summarise(measured[0])
    assert block["schema"] == "assay.report/1"
    rows = block["sections"][0]["rows"]  # type: ignore[index]
    assert len(rows) == len(summary.rows)
    for found, row in zip(rows, summary.rows, strict=True):
        p50 = row.figures.p50
        shown = found["latency_seconds"].get("0.5")
        assert shown == (
            None
            if p50 is None
            else {
                "value": p50.value / 1e9,
                "low": p50.low / 1e9,
                "high": p50.high / 1e9,
                "restarts": p50.restarts,
                "bounds": p50.spread.value,
            }
        )
        assert (found["status"], found["rank"]) == (row.status.value, row.rank)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"
    shapes = [replace(SHAPES[0], name=evil), replace(SHAPES[7], name=f"{evil}2")]
    blobs = ContentStore(tmp_path / "blobs")
    data = make_sweep(
        shapes=shapes,
        devices=[make_device("<b>pi</b>")],
        spoil=False,
        blobs=blobs,
        scratch=tmp_path,
    )
    data = replace(data, sweep=make_sweep_record(name="<i>x</i>"))
    summary = summarise(data)
    document = render(summary, data, gather(summary, data, blobs), 1)
    outline = Outline(document)
    assert set(outline.scripts) == {"application/json", ""}
    assert "alert" not in outline.scripts[""]
    assert outline.handlers == []
    assert evil in outline.text
    for drawing in re.findall(r"<svg.*?</svg>", document, re.S):
        ET.fromstring(drawing)


def test_equal_inputs_give_equal_bytes(measured: tuple[SweepData, ContentStore], page: str) -> None:
    data, blobs = measured
    summary = summarise(data)
    assert render(summary, data, gather(summary, data, blobs), T0_NS // 10**9) == page


def test_thirty_variants_on_five_devices_stay_below_three_megabytes() -> None:
    shapes = [replace(SHAPES[i % 10], name=f"variant-{i}") for i in range(30)]
    devices = [make_device(f"pi-{i}") for i in range(5)]
    data = make_sweep(shapes=shapes, devices=devices, runtimes=["onnxruntime"], rounds=3)
    summary = summarise(data)
    rng = np.random.default_rng(0)
    runs = [
        RunQuantiles(SHARES, list(1e6 * np.sort(rng.lognormal(0, 0.1, len(SHARES)))), True, i == 1)
        for i in range(3)
    ]
    lines = {c.cell_key: runs for c in data.cells}
    document = render(summary, data, Evidence(distributions=lines), 1)
    assert len(summary.rows) == 150
    assert len(document.encode()) < 3_000_000


def test_a_sweep_without_results_says_so() -> None:
    data = replace(make_sweep(), results=())
    summary = summarise(data)
    shown = Outline(render(summary, data, Evidence(), 1)).text
    assert "the sweep has measured nothing so far" in shown.lower().replace("The", "the")
    assert "No cell has both a latency and an accuracy yet." in shown


def test_energy_has_a_column_only_where_it_was_measured(page: str) -> None:
    assert "Energy <span" not in page
    assert "Energy not measured: no power sensor" in Outline(page).text
    data = make_sweep(shapes=SHAPES[:2], spoil=False)
    results = tuple(
        replace(r, result=replace(r.result, energy=make_energy())) for r in data.results
    )
    data = replace(data, results=results)
    shown = render(summarise(data), data, Evidence(), 1)
    assert 'Energy <span class="unit">mJ</span>' in shown
    assert "± 0.098" in shown


def test_write_report_writes_whole_or_not_at_all(
    measured: tuple[SweepData, ContentStore], tmp_path: Path
) -> None:
    data, blobs = measured
    target = tmp_path / "deep" / "report.html"
    size = write_report(FakeStore(data), blobs, "demo", target)  # type: ignore[arg-type]
    assert target.stat().st_size == size
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


# evidence


def test_distributions_are_those_of_the_raw_samples(
    measured: tuple[SweepData, ContentStore],
) -> None:
    data, blobs = measured
    summary = summarise(data)
    evidence = gather(summary, data, blobs)
    row = next(r for r in summary.rows if r.counts)
    runs = evidence.distributions[row.cell.cell_key]
    assert len(runs) == 3
    (middle,) = [run for run in runs if run.middle]
    assert row.figures.p50 is not None
    assert middle.at(0.5) == pytest.approx(row.figures.p50.value, rel=0.01)
    bins, sides = evidence.timelines[row.cell.cell_key]
    assert len(bins.t_s) == 80
    assert {side.unit for side in sides} == {"°C", "MHz"}


def test_a_trace_that_is_gone_or_damaged_is_counted_and_named(tmp_path: Path) -> None:
    blobs = ContentStore(tmp_path / "blobs")
    data = make_sweep(shapes=SHAPES[:1], blobs=blobs, scratch=tmp_path, spoil=False)
    refs = [r.result.trace for r in data.results if r.result.trace]
    blobs.remove(refs[0].digest)
    blobs.path(refs[1].digest).write_bytes(b"nonsense")
    summary = summarise(data)
    evidence = gather(summary, data, blobs)
    assert evidence.unreadable == 2
    shown = Outline(render(summary, data, evidence, 1)).text
    assert "2 traces could not be read and are missing here." in shown


def test_accuracy_is_paired_where_the_labels_are_held(tmp_path: Path) -> None:
    blobs = ContentStore(tmp_path / "blobs")
    labels = np.arange(100) % 10
    np.savez(tmp_path / "test.npz", x=np.zeros((100, 1)), y=labels)
    split = blobs.add_file(tmp_path / "test.npz", MEDIA_NPZ)
    data = make_sweep(shapes=SHAPES[:2], runtimes=["onnxruntime"], rounds=1, spoil=False)
    results = []
    for record in data.results:
        wrong = 3 if record.result.run.variant_name == "fp16" else 0
        predictions = np.where(np.arange(100) < wrong, (labels + 1) % 10, labels).astype(np.int32)
        trace = replace(make_trace(1e6), predictions=predictions)
        write_trace(tmp_path / "t.npz", trace)
        ref = blobs.add_file(tmp_path / "t.npz", MEDIA_NPZ)
        results.append(replace(record, result=replace(record.result, trace=ref)))
    cells = [
        replace(cell, run=replace(cell.run, inputs=replace(cell.run.inputs, artifact=split)))
        for cell in data.cells
    ]
    # The sweep's first data set is another one, with as many samples.
    np.savez(tmp_path / "other.npz", x=np.zeros((100, 1)), y=labels[::-1])
    first = blobs.add_file(tmp_path / "other.npz", MEDIA_NPZ)
    dataset = replace(DATASET, splits={"test": first})
    data = replace(data, results=tuple(results), cells=tuple(cells), dataset=dataset)
    (found,) = gather(summarise(data), data, blobs).accuracy.values()
    assert (found.n, found.lost, found.gained) == (100, 3, 0)
    # Forced, a section may hold answers to two data sets: these are no pairs.
    np.savez(tmp_path / "short.npz", x=np.zeros((60, 1)), y=labels[:60])
    short = blobs.add_file(tmp_path / "short.npz", MEDIA_NPZ)
    write_trace(
        tmp_path / "t.npz", replace(make_trace(1e6), predictions=labels[:60].astype(np.int32))
    )
    ref = blobs.add_file(tmp_path / "t.npz", MEDIA_NPZ)
    data = replace(
        data,
        cells=tuple(
            replace(c, run=replace(c.run, inputs=replace(c.run.inputs, artifact=short)))
            if c.run.variant_name == "fp16"
            else c
            for c in cells
        ),
        results=tuple(
            replace(r, result=replace(r.result, trace=ref))
            if r.result.run.variant_name == "fp16"
            else r
            for r in results
        ),
    )
    assert gather(summarise(data), data, blobs).accuracy == {}


def test_samples_of_several_blocks_are_placed_on_the_clock(tmp_path: Path) -> None:
    blobs = ContentStore(tmp_path / "blobs")
    trace = make_trace(1e6, n=200)
    start = int(trace.block_start_ns[0])  # type: ignore[index]
    trace = replace(
        trace,
        block_start_ns=np.array([start, start + 10 * 10**9]),
        block_queries=np.array([100, 100]),
    )
    write_trace(tmp_path / "t.npz", trace)
    ref = blobs.add_file(tmp_path / "t.npz", MEDIA_NPZ)
    data = make_sweep(shapes=SHAPES[:1], runtimes=["onnxruntime"], rounds=1, spoil=False)
    results = tuple(replace(r, result=replace(r.result, trace=ref)) for r in data.results)
    data = replace(data, results=results)
    ((bins, _),) = gather(summarise(data), data, blobs).timelines.values()
    early = [t for t in bins.t_s if t < 0.2]
    late = [t for t in bins.t_s if t > 10.0]
    assert len(early) + len(late) >= len(bins.t_s) - 1
    assert len(early) > 30 and len(late) > 30


# drawing


def test_scatter_draws_a_mark_a_spread_and_a_name_for_each_cell() -> None:
    (section,) = summarise(make_sweep()).sections
    drawing = scatter(section)
    assert drawing is not None
    root = ET.fromstring(drawing.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
    points = [g for g in root.iter(f"{SVG}g") if g.get("class") == "point"]
    drawn = [r for r in section.rows if r.figures.p50 and r.figures.quality]
    assert len(points) == len(drawn) == 15
    assert len([g for g in root.iter(f"{SVG}g") if "whisker" in (g.get("class") or "")]) == 15
    shapes = [*root.iter(f"{SVG}polygon"), *root.iter(f"{SVG}circle")]
    assert len([each for each in shapes if each.get("class") != "front-band"]) == 16
    assert all(g.get("tabindex") == "0" and g.get("aria-label") for g in points)
    names = [t.text for t in root.iter(f"{SVG}text") if (t.get("class") or "").startswith("label")]
    assert "tucker (SUSPECT)" in names


def test_scatter_places_faster_left_and_more_accurate_higher() -> None:
    shapes = [
        replace(SHAPES[0], name="slow", p50_ns=4e6, accuracy=0.95),
        replace(SHAPES[0], name="fast", p50_ns=1e6, accuracy=0.90),
    ]
    (section,) = summarise(make_sweep(shapes=shapes, runtimes=["litert"], spoil=False)).sections
    drawing = scatter(section)
    assert drawing is not None
    root = ET.fromstring(drawing.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
    places = {}
    for group in (g for g in root.iter(f"{SVG}g") if g.get("class") == "point"):
        mark = list(group.iter(f"{SVG}circle"))[-1]
        name = (group.get("aria-label") or "").split(" ")[0]
        places[name] = (float(mark.get("cx", "0")), float(mark.get("cy", "0")))
    assert places["fast"][0] < places["slow"][0]
    assert places["slow"][1] < places["fast"][1]


def test_scales_map_ends_and_keep_outliers_inside() -> None:
    scale = Scale(1.0, 100.0, 0.0, 200.0, log=True)
    assert [scale(v) for v in (1.0, 10.0, 100.0, 1e6)] == [0.0, 100.0, 200.0, 200.0]
    assert scale.ticks() == [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    assert Scale(0.0, 1.0, 0.0, 10.0).ticks(5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(5.0, 5.0, 0.0, 10.0)(5.0) == 5.0


def test_one_scale_serves_every_distribution() -> None:
    run = RunQuantiles([0.0, 0.5, 1.0], [90.0, 100.0, 900.0], True, True)
    scale = common_scale([(100.0, [run])])
    assert 0.5 <= scale.low < 1 < scale.high <= 3.0


def test_a_line_that_leaves_its_panel_is_cut_at_the_edge() -> None:
    run = RunQuantiles([0.0, 0.5, 0.9, 0.99], [95.0, 100.0, 140.0, 900.0], True, True)
    drawing = small_ecdf("x", 100.0, [run], Scale(0.9, 1.2, 40.0, 240.0), 0)
    line = re.search(r'<path d="M([^"]*)" fill="none" class="line', drawing)
    assert line is not None
    x = y = 0.0
    ends = []
    for i, step in enumerate(re.findall(r"(-?[\d.]+) (-?[\d.]+)", line[1])):
        x, y = (
            (float(step[0]), float(step[1])) if i == 0 else (x + float(step[0]), y + float(step[1]))
        )
        ends.append((round(x, 1), round(y, 1)))
    assert [end[0] for end in ends] == [73.3, 106.7, 240.0]
    assert ends[-1][1] == pytest.approx(138 - 130 * -np.log10(1 - 0.7) / 3, abs=0.2)


def test_markup_is_escaped() -> None:
    assert text("<&", 1.0, 2.5) == '<text x="1" y="2.5">&lt;&amp;</text>'
    assert element("g", aria_label='"<', class_="a", x=None) == (
        '<g aria-label="&quot;&lt;" class="a"/>'
    )


def test_paths_are_relative_and_skip_what_does_not_move() -> None:
    assert path([(1.0, 1.0), (1.01, 1.0), (3.0, 0.5)]) == '<path d="M1 1l2 -0.5" fill="none"/>'


def test_the_sweep_file_is_given_as_toml_that_says_the_same() -> None:
    spec = {
        "name": "x",
        "rounds": 3,
        "canary": True,
        "models": ["a", 'quo"te'],
        "devices": {"names": [], "labels": {"rack": "a.b"}},
        "runtimes": [{"name": "litert", "threads": [1, 2], "options": {"k-1": "v"}}],
        "exclude": [],
        "target": None,
    }
    read = tomllib.loads(sweep_toml(json.dumps(spec)))
    assert read == {
        "name": "x",
        "rounds": 3,
        "canary": True,
        "models": ["a", 'quo"te'],
        "devices": {"labels": {"rack": "a.b"}},
        "runtimes": [{"name": "litert", "threads": [1, 2], "options": {"k-1": "v"}}],
    }
