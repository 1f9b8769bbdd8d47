"""The words of ``assay-agent bench``: KEY=VALUE options, and what --against changes."""

from __future__ import annotations

from dataclasses import replace

from assay.agent.cli.bench_setup import Options
from assay.core.errors import UsageError
from assay.core.model.formats import MEDIA_BY_RUNTIME


def changed(options: Options, against: tuple[str, ...]) -> Options:
    """The same settings but for those of ``--against``."""
    for key, value in (pair("--against", text) for text in against):
        if key == "threads":
            if not value.isdigit() or int(value) < 1:
                raise UsageError(f"--against threads={value}: a number from 1 on is needed")
            options = replace(options, threads=int(value))
        elif key == "spinning":
            if value not in ("yes", "no"):
                raise UsageError(f"--against spinning={value}: yes or no")
            options = replace(options, spinning=value == "yes")
        elif key == "provider":
            options = replace(options, provider=value)
        elif key == "runtime":
            if value not in MEDIA_BY_RUNTIME:
                known = ", ".join(sorted(MEDIA_BY_RUNTIME))
                raise UsageError(f"--against runtime={value}: one of {known}")
            options = replace(options, runtime=value)
        else:
            options = replace(options, options={**options.options, key: value})
    return options


def pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"{option} {text}: KEY=VALUE is needed")
    return key, value


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, sizes = pair("--shape", text)
    try:
        return name, tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise UsageError(f"--shape {text}: INPUT=N,N,... is needed") from None


def dim(text: str) -> tuple[str, int]:
    name, size = pair("--dim", text)
    if not size.isdecimal() or int(size) < 1:
        raise UsageError(f"--dim {text}: NAME=N is needed, with a whole number from 1 up")
    return name, int(size)
