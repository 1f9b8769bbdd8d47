"""A RDTech UM24C, UM25C or UM34C USB meter in the board's supply line, over Bluetooth serial.

The example of an external meter: others are added alike, in a file here or in an installed
package with an entry point in the group ``assay.samplers``. The port is named in the agent's
environment, ``ASSAY_AGENT_UM25C=/dev/rfcomm0``.

Protocol (sigrok, libsigrok ``rdtech-um``): one byte 0xF0 asks, 130 bytes big-endian answer: model,
voltage, current, power (mW), and 0xFFF1 at the end.
"""

from __future__ import annotations

import os
import select
import struct
import termios
import time
import tty
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, sampler
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

PORT_VARIABLE = "ASSAY_AGENT_UM25C"

_ASK = b"\xf0"
_ANSWER_BYTES = 130
_END = 0xFFF1
_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    volt_step: float
    ampere_step: float


_MODELS = {
    0x0963: _Model("UM24C", 0.01, 0.001),
    0x09C9: _Model("UM25C", 0.001, 0.0001),
    0x0D4C: _Model("UM34C", 0.01, 0.001),
}
# Data sheet of the UM25C: voltage +-(0.5 per mille + 2 digits), current +-(1 per mille + 4 digits),
# taken as limits of uniform distributions.
_GAIN_U = (0.0005**2 + 0.001**2) ** 0.5 / 3**0.5
_OFFSET_DIGITS = 4


@dataclass(frozen=True, slots=True)
class UsbReading:
    """One answer of the meter."""

    model: str
    volts: float
    amperes: float
    step_w: float


@sampler("um25c", unit="W", max_hz=2)
class Um25c(Sampler):
    """Volts, amperes and watts that enter the board; the meter converts about twice a second."""

    def __init__(self, port: Path, descriptor: int) -> None:
        self._port = port
        self._descriptor = descriptor
        first = self._ask()
        meter = Meter(
            PowerTier.EXTERNAL_METER,
            "board_input",
            total=True,
            quantum=first.step_w,
            gain_u=_GAIN_U,
            offset_u=_OFFSET_DIGITS * first.step_w / 3**0.5,
        )
        self._watts = Channel("watts", "power", "W", meter)
        self._volts = Channel("volts", "voltage", "V")
        self._amperes = Channel("amperes", "current", "A")
        self.channels = (self._watts, self._volts, self._amperes)

    @classmethod
    def probe(cls, sysroot: Path, environ: Mapping[str, str] = os.environ) -> Self | Absent:
        """Absent where no port is named, or nothing answers on it."""
        named = environ.get(PORT_VARIABLE, "")
        if not named or sysroot != Path("/"):
            return Absent(f"no port is named in {PORT_VARIABLE}")
        port = Path(named)
        try:
            descriptor = _open_raw(port)
        except (OSError, termios.error) as error:
            return Absent(f"{port}: {error}")
        try:
            return cls(port, descriptor)
        except SamplerError as error:
            os.close(descriptor)
            return Absent(str(error))

    def read(self) -> tuple[Reading, ...]:
        """Watts as volts times amperes, finer than the meter's own whole milliwatts."""
        found = self._ask()
        return (
            Reading(self._watts, found.volts * found.amperes),
            Reading(self._volts, found.volts),
            Reading(self._amperes, found.amperes),
        )

    def close(self) -> None:
        """Closes the port."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _ask(self) -> UsbReading:
        try:
            # What a late answer left behind would be taken for this one.
            termios.tcflush(self._descriptor, termios.TCIFLUSH)
            os.write(self._descriptor, _ASK)
            return parse_answer(self._receive())
        except (OSError, termios.error) as error:
            raise SamplerError(f"{self._port}: {error}") from error

    def _receive(self) -> bytes:
        answer = b""
        end = time.monotonic() + _TIMEOUT_S
        while len(answer) < _ANSWER_BYTES:
            left = end - time.monotonic()
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, left))
            part = os.read(self._descriptor, _ANSWER_BYTES - len(answer)) if ready else b""
            if not part:
                raise SamplerError(f"{self._port}: {len(answer)} of {_ANSWER_BYTES} bytes came")
            answer += part
        return answer


def parse_answer(answer: bytes) -> UsbReading:
    """Raises SamplerError for anything but a whole answer of a known model."""
    if len(answer) != _ANSWER_BYTES:
        raise SamplerError(f"USB meter: {len(answer)} of {_ANSWER_BYTES} bytes")
    code, volts, amperes = struct.unpack_from(">HHH", answer)
    model = _MODELS.get(code)
    if model is None:
        raise SamplerError(f"USB meter: unknown model 0x{code:04x}")
    if struct.unpack_from(">H", answer, _ANSWER_BYTES - 2)[0] != _END:
        raise SamplerError("USB meter: the answer does not end as it should")
    step_w = volts * model.volt_step * model.ampere_step
    return UsbReading(model.name, volts * model.volt_step, amperes * model.ampere_step, step_w)


def _open_raw(port: Path) -> int:
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        tty.setraw(descriptor)
    except termios.error:
        os.close(descriptor)
        raise
    return descriptor
