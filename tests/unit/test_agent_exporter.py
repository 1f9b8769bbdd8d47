"""The agent's own page: right, cached inside a timed block, and counted."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from assay.agent.plane.exporter import Exporter, Sources, page_capability
from assay.agent.plane.quiet import QuietWindow
from assay.agent.plane.rounds import RoundBook
from assay.agent.plane.traffic import Passed
from assay.agent.samplers.recording import SamplerCounters
from assay.agent.samplers.tally import SamplerTally
from assay.core.errors import PortInUse
from assay.core.metrics import AGENT_METRICS
from assay.v1 import fleet_pb2
from tests import plane
from tests.unit.test_agent_rounds import a_round

_ITSELF = ("device", "version")


class Bench:
    def __init__(self, home: Path) -> None:
        self.health = fleet_pb2.Health(temperature_c=51.5, disk_free_bytes=7e9, spool_entries=2)
        self.quiet = QuietWindow()
        self.book = RoundBook(home, "boot")
        self.renderings = 0
        self.samplers = SamplerTally()
        self.passed = Passed()
        sources = Sources(
            *("pi5-a", self._health, self.book, self.quiet, self.samplers.totals),
            traffic=lambda: self.passed,
        )
        self.exporter = Exporter("127.0.0.1", 0, sources)

    def _health(self) -> fleet_pb2.Health:
        self.renderings += 1
        return self.health

    def get(self) -> dict[str, float]:
        url = f"http://127.0.0.1:{self.exporter.port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        found = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation and family.name.startswith("assay_agent_")
            for sample in family.samples:
                assert sample.labels["device"] == "pi5-a"
                rest = sorted((k, v) for k, v in sample.labels.items() if k not in _ITSELF)
                found[" ".join([sample.name, *(v for _, v in rest)])] = sample.value
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    it = Bench(tmp_path)
    yield it
    it.exporter.close()


def test_the_page_tells_how_the_agent_fares(bench: Bench) -> None:
    bench.book.accept(a_round(), plane.S)
    page = bench.get()
    assert page["assay_agent_temperature_celsius"] == 51.5
    assert page["assay_agent_disk_free_bytes"] == 7e9
    assert page["assay_agent_spool_entries"] == 2
    assert page["assay_agent_rounds"] == 1
    assert page["assay_agent_rounds_running"] == 0
    assert page["assay_agent_scrapes_total"] == 1
    assert bench.get()["assay_agent_scrapes_total"] == 2


def test_the_page_tells_what_passed_on_the_line(bench: Bench) -> None:
    page = bench.get()
    assert page["assay_agent_link_bytes_total sent"] == 0
    assert "assay_agent_link_day_limit_bytes" not in page
    bench.passed = Passed(sent=5, received=7, day=100, day_limit=200)
    page = bench.get()
    assert page["assay_agent_link_bytes_total received"] == 7
    assert page["assay_agent_link_day_bytes"] == 100
    assert page["assay_agent_link_day_limit_bytes"] == 200


def test_samplers_tell_how_often_they_failed_and_what_they_took(bench: Bench) -> None:
    for _ in range(2):
        bench.samplers.add({"thermal": SamplerCounters(successes=9, failures=1, duration_ns=10**9)})
    bench.samplers.add({"ina": SamplerCounters(failures=3)})
    page = bench.get()
    assert page["assay_agent_sampler_reads_total success thermal"] == 18
    assert page["assay_agent_sampler_reads_total failure thermal"] == 2
    assert page["assay_agent_sampler_read_seconds_total thermal"] == 2
    assert page["assay_agent_sampler_reads_total success ina"] == 0


def test_a_missing_sensor_is_no_zero(bench: Bench) -> None:
    bench.health = fleet_pb2.Health()
    assert "assay_agent_temperature_celsius" not in bench.get()


def test_inside_a_timed_block_the_page_before_it_is_served_and_the_request_counted(
    bench: Bench,
) -> None:
    before = bench.get()
    renderings = bench.renderings
    bench.quiet.enter()
    bench.health = fleet_pb2.Health(temperature_c=99)
    assert bench.get() == before
    assert bench.renderings == renderings
    assert bench.exporter.scrapes == 2
    bench.quiet.leave()
    after = bench.get()
    assert after["assay_agent_temperature_celsius"] == 99
    assert after["assay_agent_scrapes_total"] == 3


def test_the_page_is_in_the_catalogues_words(bench: Bench) -> None:
    bench.samplers.add({"thermal": SamplerCounters(successes=1)})
    bench.passed = Passed(day_limit=1)
    url = f"http://127.0.0.1:{bench.exporter.port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        said = {family.name: (family.documentation, family.type) for family in families}
    catalogue = {m.name.removesuffix("_total"): (m.help, m.kind.value) for m in AGENT_METRICS}
    assert said == catalogue


def test_it_says_where_the_page_is_by_an_address_others_can_use() -> None:
    assert page_capability("192.0.2.4", 9300, "127.0.0.1:7401") == "metrics=192.0.2.4:9300"
    assert page_capability("0.0.0.0", 9300, "127.0.0.1:7401") == "metrics=127.0.0.1:9300"
    assert page_capability("::1", 9300, "127.0.0.1:7401") == "metrics=[::1]:9300"


def test_other_paths_are_not_there(bench: Bench) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{bench.exporter.port}/", timeout=5)
    assert bench.exporter.scrapes == 0


def test_a_port_in_use_is_named(bench: Bench, tmp_path: Path) -> None:
    sources = Sources("x", lambda: bench.health, bench.book, bench.quiet)
    with pytest.raises(PortInUse, match="choose another --metrics-port"):
        Exporter("127.0.0.1", bench.exporter.port, sources)
