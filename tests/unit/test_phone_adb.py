"""Calls to adb: a private server, a deadline of its own for each, and what heals a partition."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from assay.agent.devices.detect import detect
from assay.agent.phones.adb import AdbServer, Phone
from assay.agent.phones.facts import Handset, cluster_mask
from assay.agent.phones.present import PhoneFacts
from assay.core.errors import NotFound, Unreachable
from tests.boards import composed

PORT = 5999


class Adb:
    """An adb that notes how it was called and then does as the test says."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        self._program = folder / "adb"
        self.server = AdbServer(PORT, str(self._program))

    def does(self, script: str) -> Phone:
        """From now on it runs ``script``; a phone behind it."""
        self._program.write_text(f'#!/bin/sh\necho "$1 $2 $3 $4" >> {self._log}\n{script}\n')
        self._program.chmod(0o755)
        return Phone(self.server, "10.0.0.7:5555")

    def calls(self) -> list[list[str]]:
        """The first words of each call so far."""
        return [line.split() for line in self._log.read_text().splitlines()]


@pytest.fixture
def adb(tmp_path: Path) -> Adb:
    return Adb(tmp_path)


def test_every_call_goes_to_the_private_server(adb: Adb, tmp_path: Path) -> None:
    phone = adb.does(
        'for last; do :; done; [ "$5" = shell ] && eval "$last" || echo connected to it'
    )
    (tmp_path / "file").write_bytes(b"x")
    phone.shell("true")
    phone.feed("cat", tmp_path / "file", 0, lambda _: None, finish_s=5)
    for call in (adb.server.start, adb.server.devices, adb.server.end):
        call()
    adb.server.reconnect(phone.serial)
    phone.pull("/there", tmp_path / "here")
    assert len(adb.calls()) == 8
    assert all(words[:2] == ["-P", str(PORT)] for words in adb.calls())


def test_a_client_that_blocks_for_ever_is_killed(adb: Adb, tmp_path: Path) -> None:
    phone = adb.does(f"echo $$ > {tmp_path}/pid; exec sleep 600")
    with pytest.raises(Unreachable, match=r"no answer within 0\.3 s"):
        phone.shell("true", timeout_s=0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_phone_that_takes_nothing_is_given_up(adb: Adb, tmp_path: Path) -> None:
    phone = adb.does("exec sleep 600")
    phone = replace(phone, server=replace(phone.server, stall_s=0.2))
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    with pytest.raises(Unreachable, match="took nothing"):
        phone.feed("cat", tmp_path / "file", 0, lambda _: None, finish_s=5)


def test_only_disconnect_and_then_connect_heal_a_partition(adb: Adb) -> None:
    adb.does("echo connected to 10.0.0.7:5555")
    adb.server.reconnect("10.0.0.7:5555")
    adb.server.reconnect("29281JEGR07234")
    adb.server.reconnect("usb:1-1")
    assert [words[2:] for words in adb.calls()] == [
        ["disconnect", "10.0.0.7:5555"],
        ["connect", "10.0.0.7:5555"],
    ]


def test_a_connect_that_fails_with_status_0_has_failed(adb: Adb) -> None:
    adb.does("echo failed to connect to 10.0.0.7:5555")
    with pytest.raises(Unreachable, match="failed to connect"):
        adb.server.reconnect("10.0.0.7:5555")


def test_a_phone_that_does_not_answer_is_as_last_seen_and_healed(adb: Adb, tmp_path: Path) -> None:
    phone = adb.does('[ "$3" = -s ] && exit 1; echo connected to it')
    seen = Handset("A1", (), detect(composed("phone_milliamp"), (), ()))
    source = PhoneFacts(phone, tmp_path / "mirror", (), seen)
    assert source.refresh() == seen.facts
    assert [words[2] for words in adb.calls()] == ["-s", "disconnect", "connect"]


def test_a_shell_that_answers_0_always_is_seen_through(adb: Adb) -> None:
    phone = adb.does('for last; do :; done; sh -c "$last"; exit 0')
    said = phone.shell("echo told; exit 3")
    assert (said.status, said.text) == (3, "told\n")


@pytest.mark.parametrize("script", ["echo half of i", "exit 0", "echo error: closed; exit 1"])
def test_output_without_its_end_is_no_answer(adb: Adb, script: str) -> None:
    with pytest.raises(Unreachable, match="did not finish"):
        adb.does(script).shell("true")


def test_without_adb_it_says_what_to_install() -> None:
    with pytest.raises(NotFound, match="apt install adb"):
        AdbServer(PORT, "no-such-adb").devices()


def test_a_run_is_pinned_to_the_fastest_cluster_and_those_it_needs_besides() -> None:
    facts = detect(composed("phone_milliamp"), (), ())
    fastest, following, *_ = facts.cpu.clusters
    mask = sum(1 << cpu for cpu in fastest.cpus)
    assert cluster_mask(facts, 1) == cluster_mask(facts, len(fastest.cpus)) == mask
    both = mask | sum(1 << cpu for cpu in following.cpus)
    assert cluster_mask(facts, len(fastest.cpus) + 1) == both
    assert cluster_mask(replace(facts, cpu=replace(facts.cpu, clusters=())), 1) == 0
