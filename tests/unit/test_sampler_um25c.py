"""The USB meter over a real serial line: a pty with the meter's protocol at its other end."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading
import tty
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.agent.samplers.um25c import PORT_VARIABLE, Um25c, parse_answer
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

LIVE = Path("/")


def answer(volts: int = 5104, amperes: int = 6203, model: int = 0x09C9, end: int = 0xFFF1) -> bytes:
    body = struct.pack(">HHHI", model, volts, amperes, volts * amperes // 10_000)
    return body + bytes(130 - len(body) - 2) + struct.pack(">H", end)


class Meter:
    """Answers each 0xF0 on the master side of a pty with ``reply``."""

    _GOODBYE = b"\x04"

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self.reply = answer()
        self.asked = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def say(self, words: bytes) -> None:
        """Sends unasked, and returns once it lies at the other end."""
        os.write(self.master, words)
        there = array("i", [0])
        while there[0] < len(words):
            fcntl.ioctl(self._slave, termios.FIONREAD, there)

    def close(self) -> None:
        os.write(self._slave, self._GOODBYE)
        self._thread.join(10)
        assert not self._thread.is_alive()
        os.close(self._slave)
        os.close(self.master)

    def _serve(self) -> None:
        while (got := os.read(self.master, 1)) != self._GOODBYE:
            self.asked += got == b"\xf0"
            os.write(self.master, self.reply)


TIMEOUT = "assay.agent.samplers.um25c._TIMEOUT_S"


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    # A busy test machine may leave the meter's thread waiting longer than a real meter takes.
    monkeypatch.setattr(TIMEOUT, 20.0)
    made = Meter()
    yield made
    made.close()


def opened(meter: Meter) -> Um25c:
    found = Um25c.probe(LIVE, {PORT_VARIABLE: meter.port})
    assert isinstance(found, Um25c), found
    return found


def test_watts_are_read_from_the_line(meter: Meter) -> None:
    found = opened(meter)
    values = {reading.channel.name: reading.value for reading in found.read()}
    assert values == pytest.approx({"watts": 5.104 * 0.6203, "volts": 5.104, "amperes": 0.6203})
    assert meter.asked == 2
    found.close()
    found.close()


def test_an_external_meter_states_its_uncertainty(meter: Meter) -> None:
    found = opened(meter)
    stated = found.channels[0].meter
    assert stated is not None and stated.total
    assert stated.tier is PowerTier.EXTERNAL_METER and stated.scope == "board_input"
    assert stated.gain_u == pytest.approx(0.00065, abs=1e-5)
    assert stated.quantum == pytest.approx(5.104 * 1e-4)
    found.close()


def test_half_an_answer_is_no_reading(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(meter)
    meter.reply = answer()[:60]
    monkeypatch.setattr(TIMEOUT, 1.0)
    with pytest.raises(SamplerError, match="60 of 130 bytes"):
        found.read()
    monkeypatch.setattr(TIMEOUT, 20.0)
    meter.reply = answer(volts=4900)
    values = {reading.channel.name: reading.value for reading in found.read()}
    assert values["volts"] == pytest.approx(4.9)
    found.close()


def test_an_answer_that_came_too_late_is_not_taken_for_the_next(meter: Meter) -> None:
    found = opened(meter)
    meter.say(answer(volts=1000))
    values = {reading.channel.name: reading.value for reading in found.read()}
    assert values["volts"] == pytest.approx(5.104)
    found.close()


def test_a_silent_port_is_absent(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TIMEOUT, 0.1)
    meter.reply = b""
    found = Um25c.probe(LIVE, {PORT_VARIABLE: meter.port})
    assert isinstance(found, Absent) and "0 of 130 bytes" in found.reason


@pytest.mark.parametrize("port", ["/dev/no-such-port", "/dev/null"])
def test_a_port_that_is_none_is_absent(port: str) -> None:
    found = Um25c.probe(LIVE, {PORT_VARIABLE: port})
    assert isinstance(found, Absent) and port in found.reason


def test_a_recorded_board_has_no_meter(tmp_path: Path) -> None:
    assert isinstance(Um25c.probe(tmp_path, {PORT_VARIABLE: "/dev/ttyUSB0"}), Absent)
    assert isinstance(Um25c.probe(LIVE, {}), Absent)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (answer(model=0x1234), "unknown model 0x1234"),
        (answer(end=0), "does not end"),
        (answer()[1:], "129 of 130"),
        (b"", "0 of 130"),
    ],
)
def test_foreign_bytes_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(SamplerError, match=told):
        parse_answer(data)


def test_coarser_models_count_in_coarser_steps() -> None:
    found = parse_answer(answer(volts=510, amperes=620, model=0x0963))
    assert (found.model, found.volts, found.amperes) == (
        "UM24C",
        pytest.approx(5.1),
        pytest.approx(0.62),
    )
