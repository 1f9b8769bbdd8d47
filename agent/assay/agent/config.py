"""What an agent can be told: a TOML file, environment variables and flags, in rising order.

Each field of :class:`AgentConfig` is a key of the file, a flag ``--field-name`` and a variable
``ASSAY_AGENT_FIELD_NAME``; all three are read by the same function.
"""

from __future__ import annotations

import dataclasses
import math
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from assay.agent import runtimes
from assay.agent.home import AgentHome
from assay.core.errors import SpecError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

F = TypeVar("F", bound=Callable[..., Any])
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_SIZE_UNITS = {
    "": 1,
    **{"kB": 10**3, "MB": 10**6, "GB": 10**9},
    **{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30},
}


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError(f"{raw!r} is not a text with something in it")
    return raw.strip()


def _path(raw: Any) -> Path:
    return Path(_text(raw)).expanduser()


def _address(raw: Any) -> str:
    host, colon, port = _text(raw).rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{raw!r} is not HOST:PORT, e.g. bench.example:7433")
    return f"{host}:{int(port)}"


def _name(raw: Any) -> str:
    if not _NAME.fullmatch(_text(raw)):
        raise ValueError(f"{raw!r} is not 1 to 63 lower-case letters, digits and hyphens")
    return _text(raw)


def _labels(raw: Any) -> Mapping[str, str]:
    pairs = raw
    if isinstance(raw, str):
        pairs = dict(item.strip().partition("=")[::2] for item in raw.split(",") if item.strip())
    if not isinstance(pairs, Mapping):
        raise ValueError(f"{raw!r} is not a table of labels, e.g. site=lab,rack=2")
    for key, value in pairs.items():
        if not (isinstance(value, str) and _LABEL.fullmatch(key) and _LABEL.fullmatch(value)):
            raise ValueError(f"label {key}={value} is not made of 1 to 63 of A-Z a-z 0-9 _ . -")
    return dict(pairs)


def _cpus(raw: Any) -> tuple[int, ...]:
    items = [part.strip() for part in raw.split(",")] if isinstance(raw, str) else raw
    found: set[int] = set()
    for item in items if isinstance(items, list) else [items]:
        low, _, high = str(item).partition("-")
        if isinstance(item, bool) or not (low.isdecimal() and (high or low).isdecimal()):
            raise ValueError(f"{raw!r} is not a list of CPU numbers, e.g. 2,3 or 4-7")
        found.update(range(int(low), int(high or low) + 1))
    if not found:
        raise ValueError(f"{raw!r} names no CPU")
    return tuple(sorted(found))


def _runtimes(raw: Any) -> tuple[str, ...]:
    items = [part.strip() for part in raw.split(",")] if isinstance(raw, str) else raw
    known = runtimes.names()
    if not isinstance(items, list) or not items or not set(map(str, items)) <= set(known):
        raise ValueError(f"{raw!r} is not a list of runtimes; known ones are {', '.join(known)}")
    return tuple(dict.fromkeys(map(str, items)))


def read_size(raw: Any) -> int:
    """Bytes from a number or a text such as ``4GiB``; :class:`ValueError` says what is wrong."""
    match = re.fullmatch(r"(\d+)\s*(kB|MB|GB|KiB|MiB|GiB|)", str(raw).strip())
    if match is None or isinstance(raw, bool) or int(match[1]) == 0:
        raise ValueError(f"{raw!r} is not a size in bytes, e.g. 4294967296 or 4GiB")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def _paths(raw: Any) -> tuple[Path, ...]:
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list) or not items:
        raise ValueError(f"{raw!r} is not a list of files; leave it out to ask for none")
    return tuple(_path(item) for item in items)


def _number(low: float, high: float) -> Callable[[Any], float]:
    def read(raw: Any) -> float:
        try:
            value = math.nan if isinstance(raw, bool) else float(raw)
        except (TypeError, ValueError):
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"{raw!r} is not a number from {low:g} to {high:g}")
        return value

    return read


def _port(raw: Any) -> int:
    if isinstance(raw, bool) or not str(raw).isdecimal() or not 0 <= int(raw) < 65536:
        raise ValueError(f"{raw!r} is not a port from 0 to 65535")
    return int(raw)


def _about(read: Callable[[Any], Any], metavar: str, text: str) -> Mapping[str, Any]:
    return {"read": read, "metavar": metavar, "help": text}


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything an agent can be told; a None means that the board or the default decides."""

    controller: str | None = field(
        default=None,
        metadata=_about(_address, "HOST:PORT", "Where to enrol; needed once, with a token."),
    )
    token: str | None = field(
        default=None,
        repr=False,
        metadata=_about(
            _text, "TOKEN", "Join token; better by file or environment than on a command line."
        ),
    )
    home: Path = field(
        default_factory=lambda: AgentHome.default().root,
        metadata=_about(_path, "DIR", "Directory the agent keeps its state in."),
    )
    name: str | None = field(
        default=None,
        metadata=_about(_name, "NAME", "Wished-for device name; from the host's if not given."),
    )
    labels: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_about(_labels, "K=V,...", "Labels of this device; in the file a table."),
    )
    measure_cpus: tuple[int, ...] | None = field(
        default=None,
        metadata=_about(_cpus, "CPUS", "CPUs for runs, e.g. 2,3 or 4-7; detected if not given."),
    )
    housekeeping_cpus: tuple[int, ...] | None = field(
        default=None,
        metadata=_about(_cpus, "CPUS", "CPUs for agent and samplers; detected if not given."),
    )
    runtimes: tuple[str, ...] | None = field(
        default=None,
        metadata=_about(_runtimes, "NAMES", "Runtimes to offer; all that work if not given."),
    )
    cache_quota_bytes: int = field(
        default=4 << 30,
        metadata=_about(read_size, "BYTES", "Room for models and datasets; 4GiB if not given."),
    )
    spool_quota_bytes: int = field(
        default=64 << 20,
        metadata=_about(read_size, "BYTES", "Room for results that wait; 64MiB if not given."),
    )
    daily_bytes: int | None = field(
        default=None,
        metadata=_about(
            read_size, "BYTES", "Of a metered line, both ways, in 24 hours; no limit if not given."
        ),
    )
    sampler_hz: float = field(
        default=10.0,
        metadata=_about(
            _number(1.0, 100.0), "HZ", "How often sensors are read in a run; 10 if not given."
        ),
    )
    start_temperature_c: float | None = field(
        default=None,
        metadata=_about(
            _number(0.0, 120.0), "CELSIUS", "Runs start at or below it; by board if not given."
        ),
    )
    trusted_publishers: tuple[Path, ...] | None = field(
        default=None,
        metadata=_about(
            _paths,
            "FILES",
            "Keys (.pub): what none of them signed is not run; off if not given.",
        ),
    )
    sysroot: Path = field(
        default=Path("/"),
        metadata=_about(_path, "DIR", "Where /sys and /proc are looked for; / if not given."),
    )
    metrics_port: int | None = field(
        default=None,
        metadata=_about(_port, "PORT", "Serve /metrics of this agent there; off if not given."),
    )
    metrics_host: str = field(
        default="127.0.0.1",
        metadata=_about(_text, "HOST", "Where /metrics listens; 127.0.0.1 if not given."),
    )

    @property
    def paths(self) -> AgentHome:
        """The home as paths."""
        return AgentHome(self.home)

    @property
    def device_name(self) -> str:
        """The name to ask for: as told, else the host's in a form that is allowed."""
        if self.name is not None:
            return self.name
        host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower())
        return host.strip("-")[:63].strip("-") or "device"


def load(file: Path | None, given: Mapping[str, Any]) -> AgentConfig:
    """The configuration of ``file`` with what flags and environment ``given`` over it.

    :class:`SpecError` lists every unknown key and every bad value at once.
    """
    raw = _read_file(file) if file is not None else {}
    fields = {each.name: each for each in dataclasses.fields(AgentConfig)}
    problems = [_unknown(key, fields) for key in raw if key not in fields]
    values: dict[str, Any] = {}
    for name, each in fields.items():
        source = given if given.get(name) is not None else raw
        if source.get(name) is None:
            continue
        try:
            values[name] = each.metadata["read"](source[name])
        except ValueError as error:
            problems.append(f"{flag(name) if source is given else name}: {error}")
    if problems:
        raise SpecError(str(file) if file is not None else "agent configuration", problems)
    return AgentConfig(**values)


def flag(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a field."""
    return "ASSAY_AGENT_" + name.upper()


def options(*names: str) -> Callable[[F], F]:
    """Adds ``--config`` and the flags of the named fields (all of them if none is named) to a
    click command, which receives them as ``config_file`` and ``given``-able keywords."""
    chosen = [f for f in dataclasses.fields(AgentConfig) if not names or f.name in names]

    def decorate(function: F) -> F:
        for each in reversed(chosen):
            function = click.option(
                flag(each.name),
                each.name,
                envvar=variable(each.name),
                metavar=each.metadata["metavar"],
                help=each.metadata["help"],
            )(function)
        return click.option(
            "--config",
            "config_file",
            envvar=variable("config"),
            type=click.Path(path_type=Path, dir_okay=False),
            help="TOML file with any of these settings.",
        )(function)

    return decorate


def _read_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise SpecError(str(file), [f"cannot be read: {error.strerror}"]) from error
    except (ValueError, RecursionError) as error:  # numbers too long, lists too deep
        raise SpecError(str(file), [f"not TOML: {error}"]) from error


def _unknown(key: str, fields: Mapping[str, Any]) -> str:
    import difflib  # only for a mistake; an agent without one is smaller

    close = difflib.get_close_matches(key, fields, n=1)
    return f"{key}: unknown key; " + (
        f"did you mean {close[0]}?" if close else f"known ones are {', '.join(fields)}"
    )
