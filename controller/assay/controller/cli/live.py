"""``assay live``: where the live page is."""

from __future__ import annotations

import click


@click.command("live")
@click.option("--token", "with_token", is_flag=True, help="Print the viewer's token as well.")
def live_command(with_token: bool) -> None:
    """Print the address of the live page; exit status 4 where none is served."""
    from assay.controller.home import Home
    from assay.controller.live.access import viewer_token
    from assay.controller.server.running import running_controller
    from assay.core.errors import Unreachable

    home = Home.default()
    found = running_controller(home)
    if found is None or not found.live_url:
        raise Unreachable(
            f"no live page is served from {home.root}: start one with `assay controller serve`"
        )
    click.echo(found.live_url)
    if with_token:
        click.echo(viewer_token(home))
    elif found.live_secure:
        click.echo("it asks for the viewer's token: `assay live --token`", err=True)
