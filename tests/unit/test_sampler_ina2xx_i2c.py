"""Meters read by their registers, against examples worked out with their data sheets' steps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assay.agent.devices.power import power_absence
from assay.agent.samplers.ina2xx import SHUNT_VARIABLE, SIGN_VARIABLE
from assay.agent.samplers.ina2xx_i2c import CHIP_VARIABLE, Ina2xxI2c
from assay.agent.samplers.ina_registers import BUS, CHIPS, CONFIG, DIE, MAKER, SHUNT
from assay.core.errors import SamplerError
from assay.core.model import Absent

LIVE = Path("/")
# As they wake up. SBOS547, 8.1: 10 A over 2 mOhm at 12 V (11.98 V behind the shunt).
INA226 = {CONFIG: 0x4127, SHUNT: 0x1F40, BUS: 0x2570, MAKER: 0x5449, DIE: 0x2260}
# SBOS448, figure 27: 20 mV over the shunt; 11.98 V stand shifted by three, with CNVR set.
INA219 = {CONFIG: 0x399F, SHUNT: 2000, BUS: 0x5D98 | 0b10}
INA260 = {CONFIG: 0x6127, SHUNT: 8000, BUS: 0x2570, MAKER: 0x5449, DIE: 0x2270}
AT_226 = {CHIP_VARIABLE: "1:0x40:ina226", SHUNT_VARIABLE: "2000"}


class Wire:
    """A bus with one chip at 0x40, which sends the high byte first, and SMBus words do not."""

    def __init__(self, registers: dict[int, int]) -> None:
        self.registers = registers
        self.error: OSError | None = None
        self.closed = 0

    def read_word_data(self, i2c_addr: int, register: int) -> int:
        if self.error is not None or i2c_addr != 0x40:
            raise self.error or OSError(121, "Remote I/O error")
        sent = self.registers[register].to_bytes(2, "big")
        return int.from_bytes(sent, "little")

    def close(self) -> None:
        self.closed += 1


def opened(wire: Wire, environ: dict[str, str]) -> Ina2xxI2c:
    found = Ina2xxI2c.probe(LIVE, environ, lambda _: wire)
    assert isinstance(found, Ina2xxI2c), found
    return found


def refusal(wire: Wire, environ: dict[str, str]) -> str:
    found = Ina2xxI2c.probe(LIVE, environ, lambda _: wire)
    assert isinstance(found, Absent)
    return found.reason


def values(found: Ina2xxI2c) -> dict[str, float]:
    return {reading.channel.name: reading.value for reading in found.read()}


@pytest.mark.parametrize(
    ("registers", "chip", "shunt"),
    [
        (INA226, "ina226", "2000"),
        (INA219, "ina219", "2000"),
        (INA260, "ina260", ""),
    ],
)
def test_the_data_sheets_own_examples(registers: dict[int, int], chip: str, shunt: str) -> None:
    found = opened(Wire(registers), {CHIP_VARIABLE: f"1:0x40:{chip}", SHUNT_VARIABLE: shunt})
    assert values(found) == pytest.approx({"watts": 119.8, "volts": 11.98, "amperes": 10.0})
    meter = found.channels[0].meter
    assert meter is not None and meter.total and meter.scope == "board_input"


def test_the_step_follows_from_the_shunt() -> None:
    meter = opened(Wire(INA226), AT_226).channels[0].meter
    assert meter is not None and meter.quantum == pytest.approx(2.5e-6 / 2e-3 * 11.98)


@pytest.mark.parametrize("shunt", ["", "0", "0.1", "-1", "10²", "100 mOhm"])
def test_without_the_shunt_there_is_no_current(shunt: str) -> None:
    assert SHUNT_VARIABLE in refusal(Wire(INA226), {**AT_226, SHUNT_VARIABLE: shunt})


@pytest.mark.parametrize(
    ("chip", "config", "hz"),
    [
        ("ina219", 0x399F, 100.0),  # 12 bits, 532 µs each: faster than any loop
        ("ina219", 0x3FFF, 1 / 0.1362),  # 128 samples of each
        ("ina226", 0x4127, 100.0),
        ("ina226", 0x4D27, 1 / (512 * 2.2e-3)),
        ("ina260", 0x6727, 1 / (64 * 2.2e-3)),
    ],
)
def test_reads_never_outrun_the_converter(chip: str, config: int, hz: float) -> None:
    period_s = CHIPS[chip].period_s(config)
    assert min(100.0, 1 / period_s) == pytest.approx(hz)
    if chip == "ina226":
        found = opened(Wire({**INA226, CONFIG: config}), AT_226)
        assert found.max_hz == pytest.approx(hz)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({CONFIG: 0x4120}, "does not convert"),
        ({DIE: 0x2270}, "no ina226: maker 0x5449, die 0x2270"),
        ({MAKER: 0xFFFF}, "no ina226"),
        ({SHUNT: 0x7FFF}, "beyond the range"),
        ({SHUNT: 0x8000}, "beyond the range"),
    ],
)
def test_a_chip_that_cannot_be_trusted_is_refused(wrong: dict[int, int], told: str) -> None:
    wire = Wire({**INA226, **wrong})
    assert told in refusal(wire, AT_226)
    assert wire.closed == 1


@pytest.mark.parametrize(("gain", "limit"), [(0x399F, 32000), (0x219F, 4000), (0x299F, 8000)])
def test_an_ina219_is_at_its_end_where_its_gain_says(gain: int, limit: int) -> None:
    chip = CHIPS["ina219"]
    assert chip.current(limit - 1, gain) == pytest.approx((limit - 1) * 1e-5)
    with pytest.raises(SamplerError, match="beyond the range"):
        chip.current(limit, gain)


def test_current_that_flows_back_gives_no_watts() -> None:
    back = {**INA226, SHUNT: 0x10000 - 400}
    found = opened(Wire(back), AT_226)
    assert values(found) == pytest.approx({"volts": 11.98, "amperes": -0.5})
    assert found.silence.startswith("-0.500 A flow back")
    assert values(opened(Wire(back), {**AT_226, SIGN_VARIABLE: "-1"}))["watts"] > 5.9
    assert values(opened(Wire({**INA226, SHUNT: 0xFFFF}), AT_226))["watts"] == 0


def test_a_chip_that_dies_or_is_reset_on_the_way_raises() -> None:
    wire = Wire(dict(INA226))
    found = opened(wire, AT_226)
    wire.error = OSError(121, "Remote I/O error")
    with pytest.raises(SamplerError, match="ina226 at 0x40: Remote I/O error"):
        found.read()
    wire.error = None
    assert values(found)["watts"] == pytest.approx(119.8)
    wire.registers[CONFIG] = 0x4120
    with pytest.raises(SamplerError, match="does not convert"):
        found.read()


def test_nothing_at_the_address_is_told() -> None:
    assert "Remote I/O error" in refusal(Wire(INA226), {**AT_226, CHIP_VARIABLE: "1:0x41:ina226"})


@pytest.mark.parametrize("named", ["1", "1:40:ina226", "1:0x40:ina999", "/dev/i2c-1:0x40:ina219"])
def test_a_name_that_is_none_is_refused(named: str) -> None:
    assert "is not like 1:0x40" in refusal(Wire(INA226), {**AT_226, CHIP_VARIABLE: named})


def test_a_bus_that_is_not_there_is_told() -> None:
    found = Ina2xxI2c.probe(LIVE, {**AT_226, CHIP_VARIABLE: "9999:0x40:ina226"})
    assert isinstance(found, Absent) and "bus 9999" in found.reason
    # Its owner can mend that, so it is why there is no power.
    assert power_absence("rpi4", {"ina2xx_i2c": found.reason}).startswith("ina2xx_i2c: bus 9999")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbus2", None)
    found = Ina2xxI2c.probe(LIVE, AT_226)
    assert isinstance(found, Absent) and "assay-fleet[meters]" in found.reason


def test_a_recorded_board_has_no_bus(tmp_path: Path) -> None:
    assert isinstance(Ina2xxI2c.probe(tmp_path, AT_226), Absent)
    assert isinstance(Ina2xxI2c.probe(LIVE, {}), Absent)
