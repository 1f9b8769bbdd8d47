"""``assay controller``: serve agents."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from assay.controller.home import Home
from assay.controller.server.running import running_controller
from assay.core.errors import Unreachable
from assay.core.listing import format_option, print_rows
from assay.core.systemd import Notifier

_PORT_HELP = " [default: the last time's, else {}, else any free one; 0: any free one]"


@click.group()
def controller() -> None:
    """Serve agents."""


@controller.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--enrol-port", type=int, help="Join tokens come here." + _PORT_HELP.format(7400))
@click.option("--fleet-port", type=int, help="Devices sync here." + _PORT_HELP.format(7401))
@click.option("--blobs-port", type=int, help="Devices fetch here." + _PORT_HELP.format(7402))
@click.option("--metrics-port", type=int, help="Prometheus scrapes here." + _PORT_HELP.format(9464))
@click.option("--metrics/--no-metrics", default=True, help="Serve /metrics.  [default: metrics]")
@click.option("--live-port", type=int, help="The live page is here." + _PORT_HELP.format(9465))
@click.option("--live/--no-live", default=True, help="Serve the live page.  [default: live]")
@click.option(
    "--live-tls",
    is_flag=True,
    help="Ask for the viewer's token, over TLS, on loopback too; elsewhere it is always so.",
)
@click.option(
    "--admin-port",
    type=int,
    help="Operators with a certificate call here.  [default: the home's admin.sock alone]",
)
@click.option(
    "--audit-days",
    type=click.IntRange(min=0),
    default=365,
    show_default=True,
    help="How long entries of the audit log are kept; 0: for ever.",
)
@click.option(
    "--gc/--no-gc",
    default=True,
    help="Once a day, do what `assay store gc` does.  [default: gc]",
)
@click.option(
    "--advertise",
    default="",
    help="Host that devices are told to call.  [default: --host, or what they dialled]",
)
@click.option("--name", "names", multiple=True, help="One more name for the server's certificate.")
@click.pass_context
def serve_command(
    ctx: click.Context,
    host: str,
    enrol_port: int | None,
    fleet_port: int | None,
    blobs_port: int | None,
    metrics_port: int | None,
    metrics: bool,
    live_port: int | None,
    live: bool,
    live_tls: bool,
    admin_port: int | None,
    audit_days: int,
    gc: bool,
    advertise: str,
    names: tuple[str, ...],
) -> None:
    """Serve agents until SIGTERM or Ctrl-C."""
    from assay.controller.server.serve import ServeOptions, serve

    options = ServeOptions(
        host=host,
        enrol_port=enrol_port,
        fleet_port=fleet_port,
        blobs_port=blobs_port,
        metrics_port=metrics_port,
        metrics=metrics,
        live_port=live_port,
        live=live,
        live_tls=live_tls,
        admin_port=admin_port,
        audit_days=audit_days,
        gc=gc,
        advertised_host=advertise,
        names=names,
        log_level=ctx.meta.get("assay.level", "info"),
        log_json=ctx.meta.get("assay.json", False),
    )
    notifier = Notifier.from_environment()
    serve(
        Home.default(),
        options,
        ready=lambda serving: notifier.ready(f"serving devices on {serving.fleet_address}"),
    )


@controller.command("status")
@format_option
def status_command(output_format: str) -> None:
    """Print where this home's controller listens; exit status 4 where none runs."""
    home = Home.default()
    found = running_controller(home)
    if found is None:
        raise Unreachable(
            f"no controller serves {home.root}: start one with `assay controller serve`"
        )
    row = asdict(found) | {
        "enrolment": found.enrolment_address,
        "fleet": found.fleet_address,
        "blobs": found.blobs_address,
        "metrics": found.metrics_address,
        "live": found.live_url,
        "admin": found.admin_address,
        "up_s": (time.time_ns() - found.started_ns) // 1_000_000_000,
        "home": str(home.root),
    }
    columns = ["pid", "version", "up_s", "enrolment", "fleet", "blobs", "metrics", "live", "admin"]
    columns.append("home")
    print_rows([row], columns, output_format)
