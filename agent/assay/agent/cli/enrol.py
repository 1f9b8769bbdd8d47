"""``assay-agent enrol``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.agent import config as settings
from assay.core.errors import UsageError


@click.command("enrol")
@settings.options("controller", "token", "home", "name")
def enrol_command(config_file: Path | None, **given: Any) -> None:
    """Joins a controller with a token from `assay token create`.

    The private key is made here and never leaves this device. May be repeated: a device that is
    enrolled stays what it is.
    """
    config = settings.load(config_file, given)
    missing = [name for name in ("controller", "token") if getattr(config, name) is None]
    if missing:
        raise UsageError(
            "enrolling needs "
            + " and ".join(f"{settings.flag(n)} (or {settings.variable(n)})" for n in missing)
            + "; `assay token create` on the controller prints both"
        )

    from assay.agent.plane.enrol import enrol

    identity = enrol(config.paths, config.controller or "", config.token or "", config.device_name)
    click.echo(f"enrolled as {identity.name} at {identity.enrolled_at}")
