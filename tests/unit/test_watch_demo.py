"""The watch demo's configuration: the shipped one on the ports of this controller."""

from __future__ import annotations

from pathlib import Path

from bench.watch import demo, prometheus

from assay.controller.planning.spec import load_spec
from assay.controller.server.running import ServingController


def test_prometheus_gets_the_shipped_rules_and_this_controllers_ports(tmp_path: Path) -> None:
    controller = ServingController(1, "127.0.0.1", 1, 2, 3, 4321, 5, "x", live_port=4322)
    path = prometheus.configuration(tmp_path / "p", controller)
    text = path.read_text()
    assert '"127.0.0.1:4321"' in text and "http://127.0.0.1:4322/sd/agents" in text
    assert "token" not in text.partition("scrape_configs")[2] and "scrape_interval: 5s" in text
    shipped = sorted(rule.name for rule in (prometheus.SHIPPED / "rules").iterdir())
    assert sorted(rule.name for rule in (tmp_path / "p/rules").iterdir()) == shipped
    assert prometheus.configuration(tmp_path / "p", controller) == path


def test_its_sweep_names_recipes_that_are_there_and_only_its_own_devices() -> None:
    spec = load_spec(demo.SWEEP)
    assert all((demo.SWEEP.parent / recipe).is_file() for recipe in spec.recipes)
    assert spec.devices.names == ["watch-*"]
