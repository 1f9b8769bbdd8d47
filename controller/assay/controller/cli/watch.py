"""``assay watch``: the fleet and its sweeps in the terminal, for a lab without Grafana."""

from __future__ import annotations

import click


@click.command("watch")
@click.argument("sweep", required=False)
@click.option("--once", is_flag=True, help="Print it once and end, as where output is no terminal.")
@click.option("--every", "every_s", default=1.0, show_default=True, help="Seconds between looks.")
def watch_command(sweep: str | None, once: bool, every_s: float) -> None:
    """Show devices, sweeps and the newest results as they change; Ctrl-C ends it.

    With SWEEP only that one. Nothing is changed, and the sweep does not need this to go on.
    """
    from rich.console import Console

    from assay.controller.home import Home
    from assay.controller.store import open_store
    from assay.controller.terminal.watch import watch

    home = Home.default()
    store = open_store(home)
    if sweep is not None:
        store.sweep(sweep)
    watch(store, home, Console(), sweep=sweep, once=once, every_s=every_s)
