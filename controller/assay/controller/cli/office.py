"""``--controller`` and ``--identity``: which controller a command is about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def with_office(function: F) -> F:
    """Gives a command the administration it works on, as its first argument."""

    @click.option(
        "--controller",
        envvar="ASSAY_CONTROLLER",
        default="",
        metavar="HOST:PORT|unix:PATH",
        help="A controller elsewhere.  [default: the home of this account]",
    )
    @click.option(
        "--identity",
        envvar="ASSAY_IDENTITY",
        default="",
        metavar="FILE",
        help="An operator's identity, from `assay operator add`; for HOST:PORT.",
    )
    @functools.wraps(function)
    def command(*args: Any, controller: str, identity: str, **kwargs: Any) -> Any:
        from assay.controller.admin.access import opened_office

        with opened_office(controller, identity) as office:
            return function(office, *args, **kwargs)

    return command  # type: ignore[return-value]
