"""The store as Prometheus text: points from sweeps, families from points. No threads, no sockets.

Every number comes from the :mod:`summary` the report is made of, so that the two agree. A label set
that several sweeps or several devices share shows its newest result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from assay.controller.figures import CellFigures, EnergyFigure, Estimate
from assay.controller.labels import scenario_label
from assay.controller.records import DeviceRecord, DeviceState, ResultRecord, VariantRecord
from assay.controller.rows import CanaryRow, Row, Section, Summary
from assay.core.metrics import METRICS
from assay.core.model import VerdictKind

SERIES_BUDGET = 50_000
_SECOND_NS = 1e9

Labels = tuple[str, ...]
Sample = tuple[str, Labels, float]


@dataclass(frozen=True, slots=True)
class Point:
    """What one label set shows: ``labels`` without the device, which the budget may take away."""

    device: str
    labels: Labels
    recorded_ns: int
    samples: tuple[tuple[str, Labels, float], ...]


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """One sweep, reduced to what the page needs of it."""

    points: tuple[Point, ...] = ()
    variants: tuple[Sample, ...] = ()
    verdicts: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)


def sweep_facts(
    summary: Summary, own: Iterable[ResultRecord], variants: Mapping[str, VariantRecord]
) -> SweepFacts:
    """Reduces a sweep; ``own`` are the results it measured itself, which alone are counted."""
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for record in own:
        verdicts[record.result.verdict.kind.value] += 1
        reasons.update(reason.code for reason in record.result.verdict.reasons)
        if record.result.failure is not None:
            reasons[record.result.failure.code] += 1
    points = [_row_point(s, row) for s in summary.sections for row in s.rows if row.counts]
    points += [_canary_point(c) for c in summary.canaries if c.figures.counts]
    samples = {s[:2]: s for row in summary.rows for s in _variant_samples(row, variants)}
    return SweepFacts(tuple(points), tuple(samples.values()), verdicts, reasons)


def results_page(facts: Sequence[SweepFacts], budget: int = SERIES_BUDGET) -> tuple[bytes, int]:
    """The page's part about results, and how many series the budget left out.

    ``facts`` run from the oldest sweep to the newest.
    """
    points, dropped = within_budget([p for f in facts for p in f.points], budget)
    families = _Families()
    for point in points:
        for name, tail, value in point.samples:
            families.add(name, (*point.labels[:1], point.device, *point.labels[1:], *tail), value)
    for sample in {s[:2]: s for f in facts for s in f.variants}.values():
        families.add(*sample)
    verdicts = Counter({kind.value: 0 for kind in VerdictKind})
    reasons: Counter[str] = Counter()
    for fact in facts:
        verdicts.update(fact.verdicts)
        reasons.update(fact.reasons)
    for verdict, n in sorted(verdicts.items()):
        families.add("assay_results_total", (verdict,), n)
    for code, n in sorted(reasons.items()):
        families.add("assay_result_reasons_total", (code,), n)
    families.add("assay_series_dropped", (), dropped)
    return families.page(), dropped


def within_budget(points: Sequence[Point], budget: int) -> tuple[list[Point], int]:
    """The newest point of each label set, and how many series had to go.

    Over the budget the device label goes first; if that is not enough, the oldest points go.
    """
    kept = _newest(points)
    wanted = _series(kept)
    if wanted <= budget:
        return kept, 0
    kept = _newest([replace(point, device="") for point in kept])
    room, fitting = budget, []
    for point in sorted(kept, key=lambda p: p.recorded_ns, reverse=True):
        room -= len(point.samples)
        if room < 0:
            break
        fitting.append(point)
    return fitting, wanted - _series(fitting)


def plane_page(
    devices: Sequence[DeviceRecord],
    plane: Iterable[Sample],
) -> bytes:
    """The page's part about devices and the controller itself."""
    families = _Families()
    for device in devices:
        for sample in _device_samples(device):
            families.add(*sample)
    for sample in plane:
        families.add(*sample)
    return families.page()


def _row_point(section: Section, row: Row) -> Point:
    figures = row.figures
    samples = list(_cell_samples(figures))
    if row.latency_ratio is not None:
        samples.append(("assay_latency_ratio", (), row.latency_ratio))
    return Point(
        device=section.device,
        labels=(section.device_class, row.model, row.variant, row.runtime, section.scenario),
        recorded_ns=figures.counted[-1].recorded_ns,
        samples=tuple(samples),
    )


def _canary_point(canary: CanaryRow) -> Point:
    samples = [
        ("assay_canary_latency_seconds", (f"{q:g}",), figure.value / _SECOND_NS)
        for q, figure in canary.figures.latency.items()
    ]
    return Point(
        device=canary.device,
        labels=(canary.device_class, canary.runtime, scenario_label(canary.cell.run.scenario)),
        recorded_ns=canary.figures.counted[-1].recorded_ns,
        samples=tuple(samples),
    )


def _cell_samples(figures: CellFigures) -> Iterator[Sample]:
    for q, figure in figures.latency.items():
        tail = (f"{q:g}",)
        yield "assay_latency_seconds", tail, figure.value / _SECOND_NS
        yield "assay_latency_range_low_seconds", tail, figure.low / _SECOND_NS
        yield "assay_latency_range_high_seconds", tail, figure.high / _SECOND_NS
    yield "assay_latency_restarts", (), len(figures.counted)
    for part, figure in figures.memory.items():
        yield "assay_memory_bytes", (part,), figure.value
    if isinstance(figures.energy, EnergyFigure) and not figures.energy.inconclusive:
        source = (figures.energy.tier, figures.energy.scope)
        yield "assay_energy_joules", source, figures.energy.total.value
        yield "assay_energy_uncertainty_joules", source, figures.energy.u2_j
    if figures.quality is not None:
        yield "assay_accuracy_ratio", (), figures.quality.top1
        yield "assay_accuracy_samples", (), figures.quality.n
    yield from _seconds("assay_model_load_seconds", figures.load_ns)
    yield from _seconds("assay_first_inference_seconds", figures.first_inference_ns)
    newest = figures.counted[-1].recorded_ns
    yield "assay_result_timestamp_seconds", (), newest / _SECOND_NS


def _seconds(name: str, figure: Estimate | None) -> Iterator[Sample]:
    if figure is not None:
        yield name, (), figure.value / _SECOND_NS


def _variant_samples(row: Row, variants: Mapping[str, VariantRecord]) -> Iterator[Sample]:
    yield "assay_artifact_size_bytes", (row.model, row.variant, row.runtime), row.size_bytes
    if row.macs is not None:
        yield "assay_macs", (row.model, row.variant), row.macs
    variant = variants.get(row.cell.run.variant_id)
    if variant is not None:
        labels = (row.model, row.variant, variant.origin, variant.dataset)
        yield "assay_variant_info", labels, 1


def _device_samples(device: DeviceRecord) -> Iterator[Sample]:
    facts = device.facts
    here = (facts.device_class if facts else "", device.name)
    yield "assay_device_active", here, float(device.state is DeviceState.ACTIVE)
    expiry_s = device.certificate_not_after_ns / _SECOND_NS
    yield "assay_device_certificate_expiry_timestamp_seconds", here, expiry_s
    if device.last_seen_ns is not None:
        seen_s = device.last_seen_ns / _SECOND_NS
        yield "assay_device_last_seen_timestamp_seconds", here, seen_s
    if facts is None:
        return
    about = (facts.board, facts.cpu.model, facts.os, facts.kernel, facts.governor or "")
    yield "assay_device_info", (*here, *about, facts.agent_version), 1
    yield "assay_device_memory_bytes", here, facts.memory_total_bytes
    for sampler in facts.samplers:
        yield "assay_sampler_success", (*here, sampler.name), float(not sampler.absent_reason)


def _newest(points: Iterable[Point]) -> list[Point]:
    kept: dict[tuple[str, Labels], Point] = {}
    for point in points:
        key = (point.device, point.labels)
        held = kept.get(key)
        if held is None or point.recorded_ns >= held.recorded_ns:
            kept[key] = point
    return list(kept.values())


def _series(points: Iterable[Point]) -> int:
    return sum(len(point.samples) for point in points)


class _Families(Collector):
    """Families of the catalogue, filled sample by sample; only those with samples are shown."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def add(self, name: str, labels: Labels, value: float) -> None:
        """Adds a sample; its labels in the catalogue's order."""
        metric = METRICS[name]
        family = self._families.get(name)
        if family is None:
            family = Metric(name.removesuffix("_total"), metric.help, metric.kind.value)
            self._families[name] = family
        family.add_sample(name, dict(zip(metric.labels, labels, strict=True)), value)

    def collect(self) -> Iterator[Metric]:
        """The families in the catalogue's order."""
        for name in METRICS:
            if name in self._families:
                yield self._families[name]

    def page(self) -> bytes:
        """The families as Prometheus text."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)
