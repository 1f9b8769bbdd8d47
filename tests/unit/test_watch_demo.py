"""The watch demo's configuration: the shipped one on the ports of this controller."""

from __future__ import annotations

from pathlib import Path

from bench.watch import demo

from assay.controller.server.running import ServingController


def test_prometheus_gets_the_shipped_rules_and_this_controllers_port(tmp_path: Path) -> None:
    controller = ServingController(1, "127.0.0.1", 1, 2, 3, 4321, 5, "x")
    path = demo.configuration(tmp_path / "p", controller)
    text = path.read_text()
    assert "127.0.0.1:4321" in text and "9464" not in text.split("static_configs")[1]
    assert "rule_files: [rules/*.yml]" in text and "scrape_interval: 5s" in text
    shipped = sorted(rule.name for rule in (demo.SHIPPED / "rules").iterdir())
    assert sorted(rule.name for rule in (tmp_path / "p/rules").iterdir()) == shipped
    assert demo.configuration(tmp_path / "p", controller) == path
