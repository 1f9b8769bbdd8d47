"""A phone's own home and name on its host, and who serves it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from assay.agent.cli import phones as command
from assay.agent.config import AgentConfig
from assay.agent.devices.detect import detect
from assay.agent.phones import present
from assay.agent.phones.adb import AdbServer, Phone
from assay.agent.phones.facts import Handset
from assay.agent.phones.present import PhoneFacts, keep_older_home, phone_config
from assay.core.errors import CheckFailed
from tests.boards import composed

SERIAL = "0123456789ABCDEF"
HEAD = "List of devices attached\n"
ONE = f"{SERIAL} device usb:1-1 product:a model:A device:a transport_id:1\n"
OTHER = f"{SERIAL} device usb:1-2 product:b model:B device:b transport_id:2\n"


def handset(name: str) -> Handset:
    return Handset(SERIAL, (), detect(composed(name), (), ()))


def test_two_models_of_one_serial_are_two_devices(tmp_path: Path) -> None:
    host = replace(AgentConfig(), home=tmp_path)
    facts = [detect(composed(name), (), ()) for name in ("phone_milliamp", "phone_reversed_sign")]
    one, other = (phone_config(host, Handset("0123456789ABCDEF", (), each)) for each in facts)
    assert one.home != other.home and one.device_name != other.device_name
    again = phone_config(host, Handset("0123456789ABCDEF", (), facts[0]))
    assert (again.home, again.device_name) == (one.home, one.device_name)


def test_a_home_named_by_the_serial_alone_stays_its_phones(tmp_path: Path) -> None:
    host, mine = replace(AgentConfig(), home=tmp_path), handset("phone_milliamp")
    older = tmp_path / "phones" / SERIAL.lower()
    shutil.copytree(composed("phone_milliamp"), older / "mirror")
    (older / "key.pem").write_text("key")
    theirs = handset("phone_reversed_sign")
    keep_older_home(phone_config(host, theirs), theirs)
    assert older.is_dir() and not phone_config(host, theirs).home.exists()
    for _ in range(2):
        keep_older_home(phone_config(host, mine), mine)
        assert (phone_config(host, mine).home / "key.pem").read_text() == "key"
    assert not older.exists()


def test_another_phone_at_its_place_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [handset("phone_milliamp"), handset("phone_reversed_sign")]
    source = PhoneFacts(Phone(AdbServer(1), "usb:1-1"), tmp_path / "mirror", (), there[0])
    monkeypatch.setattr(present, "read_handset", lambda *_: there.pop(0))
    before = source.refresh()
    with pytest.raises(CheckFailed, match=r"usb:1-1 was .* and is .* now"):
        source.refresh()
    assert source.current() == before


class Child:
    def __init__(self, argv: list[str], **_: object) -> None:
        self.target = argv[-1]
        self.status: int | None = None

    def poll(self) -> int | None:
        return self.status

    def terminate(self) -> None:
        self.status = 0


def test_each_of_two_phones_of_one_serial_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[Child] = []

    def started(argv: list[str], **_: object) -> Child:
        children.append(Child(argv))
        return children[-1]

    listed = [ONE, ONE + OTHER, ONE + OTHER, ONE, ONE + OTHER]
    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(AdbServer, "devices", lambda _self: HEAD + listed.pop(0))
    watch = command._Watch(AdbServer(1), [], ())
    running = []
    while listed:
        watch._start_new()
        running.append([child.target for child in children if child.poll() is None])
    both = ["usb:1-1", "usb:1-2"]
    # The first process knows the phone by a serial that is no longer its alone.
    assert running == [[SERIAL], [], both, both, both]
