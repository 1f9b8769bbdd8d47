"""A phone's own home and name on its host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from assay.agent.config import AgentConfig
from assay.agent.devices.detect import detect
from assay.agent.phones.facts import Handset
from assay.agent.phones.present import phone_config
from tests.boards import composed


def test_two_models_of_one_serial_are_two_devices(tmp_path: Path) -> None:
    host = replace(AgentConfig(), home=tmp_path)
    facts = [detect(composed(name), (), ()) for name in ("phone_milliamp", "phone_reversed_sign")]
    one, other = (phone_config(host, Handset("0123456789ABCDEF", (), each)) for each in facts)
    assert one.home != other.home and one.device_name != other.device_name
    again = phone_config(host, Handset("0123456789ABCDEF", (), facts[0]))
    assert (again.home, again.device_name) == (one.home, one.device_name)
