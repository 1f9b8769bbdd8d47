"""``assay publish``: sign files where the key is, and hand the signatures to a controller."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from assay.controller.cli.token import utc
from assay.controller.home import Home
from assay.core import digest
from assay.core.errors import AlreadyExists, CheckFailed, UsageError
from assay.core.listing import format_option, print_rows
from assay.core.statement import NamedArtifact, as_entry

if TYPE_CHECKING:
    from assay.controller.publishing.envelopes import Envelopes, Held
    from assay.core.dsse import Envelope

T = TypeVar("T")

_WANTED = ("name", "media_type", "size_bytes", "signed_by", "digest")
_SHOWN = ("name", "media_type", "size_bytes", "digest")
_HELD = ("envelope", "added", "created", "artifacts", "keys", "comment")
_PATH = click.Path(path_type=Path, dir_okay=False)
_passphrase_option = click.option(
    "--passphrase-file", type=_PATH, help="Its first line is the key's passphrase."
)


@click.group()
def publish() -> None:
    """Sign models, and keep signatures.

    For owners of devices who do not trust the controller's machine: devices that know a publisher's
    key (trusted_publishers in their settings) run nothing that it has not signed.
    """


@publish.command("keygen")
@click.argument("key", type=_PATH)
@click.option(
    "--kind",
    type=click.Choice(["ed25519", "ecdsa-p256"]),
    default="ed25519",
    show_default=True,
    help="Of key.",
)
@_passphrase_option
@click.option("--no-passphrase", is_flag=True, help="Leave the key readable to this account.")
def keygen_command(key: Path, kind: str, passphrase_file: Path | None, no_passphrase: bool) -> None:
    """Make a publisher's key: KEY (keep it off the controller) and KEY.pub (goes to devices)."""
    from assay.controller.publishing.keys import make_key, public_path

    if no_passphrase and passphrase_file is not None:
        raise UsageError("--passphrase-file and --no-passphrase exclude each other")
    secret = "" if no_passphrase else _passphrase(passphrase_file, new=True)
    click.echo(make_key(key, kind, secret))
    click.echo(
        f"keep {key} to yourself; {public_path(key)} goes to devices: trusted_publishers in the "
        "agent's settings",
        err=True,
    )


@publish.command("wanted")
@click.argument("sweep")
@format_option
def wanted_command(sweep: str, output_format: str) -> None:
    """List every file that SWEEP needs (a sweep file, or the name of one that was started).

    The JSON of it is what `assay publish sign --list` takes. The canary needs no signature.
    """
    from assay.controller.publishing.envelopes import Envelopes
    from assay.controller.publishing.gather import of_runs

    home = Home.default()
    held = Envelopes(home.signatures).held()
    rows = [_wanted_row(each, held) for each in of_runs(_runs_of(sweep, home))]
    print_rows(rows, _WANTED, output_format)


@publish.command("sign")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--list", "listed", type=_PATH, help="Also what `publish wanted` listed as JSON.")
@click.option("--key", required=True, type=_PATH, help="The publisher's private key.")
@_passphrase_option
@click.option("--output", "-o", required=True, type=_PATH, help="The envelope to write.")
@click.option("--comment", default="", help="What this is; signed too.")
def sign_command(
    files: tuple[Path, ...],
    listed: Path | None,
    key: Path,
    passphrase_file: Path | None,
    output: Path,
    comment: str,
) -> None:
    """Sign FILES, by content, for devices that trust this key. Needs no controller.

    A list from a controller names files by digest: sign one only if you trust how they were made.
    What is signed is printed.
    """
    from assay.controller.publishing.gather import merged, of_files, of_list
    from assay.controller.publishing.keys import load_key, sign
    from assay.core import dsse, statement

    artifacts = merged(of_files(files), of_list(listed) if listed is not None else [])
    if not artifacts:
        raise UsageError("there is nothing to sign: name files, or a list with --list")
    if output.exists():
        raise AlreadyExists(f"{output} exists; name another file")
    stated = statement.Statement(artifacts, utc(time.time_ns()), comment)
    payload = statement.encode(stated)
    envelope = sign(
        load_key(key, lambda: _passphrase(passphrase_file)), statement.PAYLOAD_TYPE, payload
    )
    output.write_bytes(dsse.encode(envelope))
    print_rows([as_entry(each) for each in artifacts], _SHOWN, "table")
    click.echo(f"{len(artifacts)} artifacts signed; `assay publish add {output}`", err=True)


@publish.command("verify")
@click.argument("envelope", type=_PATH)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--publisher", "publishers", multiple=True, required=True, type=_PATH, help="A key (.pub)."
)
def verify_command(envelope: Path, files: tuple[Path, ...], publishers: tuple[Path, ...]) -> None:
    """Check that ENVELOPE is signed by one of the publishers, and that it covers FILES."""
    from assay.controller.publishing.gather import of_files
    from assay.core.publishers import checked, load_publisher

    stated, publisher = checked(_read(envelope), [load_publisher(path) for path in publishers])
    signed = {each.ref for each in stated.artifacts}
    for each in of_files(files):
        if each.ref not in signed:
            raise CheckFailed(f"{each.name} is not among the {len(signed)} artifacts signed there")
    click.echo(f"signed by key {publisher.keyid}: {len(signed)} artifacts", err=True)


@publish.command("show")
@click.argument("envelope")
@format_option
def show_command(envelope: str, output_format: str) -> None:
    """List what ENVELOPE (a file, or the id of one held here) states; checks no signature."""
    from assay.controller.publishing.envelopes import Envelopes
    from assay.core import statement

    path = Path(envelope)
    if path.is_file():
        stated = statement.decode(_read(path).payload)
    else:
        stated = Envelopes(Home.default().signatures).find(envelope).statement
    print_rows([as_entry(each) for each in stated.artifacts], _SHOWN, output_format)


@publish.command("add")
@click.argument("files", nargs=-1, required=True, type=_PATH)
def add_command(files: tuple[Path, ...]) -> None:
    """Keep envelopes, for devices that ask; one that was refused runs from the next round on."""
    envelopes = _held_here()
    for path in files:
        held = _logged(
            "publish add",
            partial(_added, envelopes, path),
            str(path),
            about=lambda held: f"{digest.short(held.envelope_id)} {held.statement.comment}".strip(),
        )
        click.echo(digest.short(held.envelope_id))


@publish.command("list")
@format_option
def list_command(output_format: str) -> None:
    """List the envelopes held here, the newest first; devices check their signatures."""
    print_rows([_held_row(held) for held in _held_here().held()], _HELD, output_format)


@publish.command("remove")
@click.argument("envelope")
def remove_command(envelope: str) -> None:
    """Drop ENVELOPE (its id): devices that ask from now on do not get it."""
    envelopes = _held_here()
    _logged("publish remove", lambda: envelopes.remove(envelope), envelope)
    click.echo(f"envelope {envelope} removed", err=True)


def _held_here() -> Envelopes:
    from assay.controller.publishing.envelopes import Envelopes

    return Envelopes(Home.default().create().signatures)


def _added(envelopes: Envelopes, path: Path) -> Held:
    return envelopes.add(_bytes(path))


def _logged(
    action: str, work: Callable[[], T], subject: str, *, about: Callable[[T], str] | None = None
) -> T:
    from assay.controller.admin.access import opened_home

    with opened_home() as office:
        return office.do_local(action, work, subject, about=about)


def _runs_of(sweep: str, home: Home) -> list[Any]:
    from assay.controller.planning import sweeps
    from assay.controller.planning.spec import load_spec
    from assay.controller.store import open_store
    from assay.core.cas import ContentStore

    store = open_store(home)
    path = Path(sweep)
    if path.is_file():
        made = sweeps.plan_sweep(load_spec(path), store, ContentStore(home.artifacts))
        return [cell.run for cell in made.cells if not cell.run.canary]
    cells = store.cells(store.sweep(sweep).sweep_id)
    return [cell.run for cell in cells if not cell.run.canary]


def _wanted_row(artifact: NamedArtifact, held: list[Held]) -> dict[str, Any]:
    keys = [
        keyid
        for each in held
        if any(artifact.ref == other.ref for other in each.statement.artifacts)
        for keyid in _keys_of(each.envelope)
    ]
    return {**as_entry(artifact), "signed_by": list(dict.fromkeys(keys))}


def _held_row(held: Held) -> dict[str, Any]:
    return {
        "envelope": digest.short(held.envelope_id),
        "added": utc(held.added_ns),
        "created": held.statement.created,
        "artifacts": len(held.statement.artifacts),
        "keys": _keys_of(held.envelope),
        "comment": held.statement.comment,
        "envelope_id": held.envelope_id,
    }


def _keys_of(envelope: Envelope) -> list[str]:
    return [signature.keyid[:12] for signature in envelope.signatures]


def _read(path: Path) -> Envelope:
    from assay.core import dsse

    return dsse.decode(_bytes(path))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _passphrase(file: Path | None, *, new: bool = False) -> str:
    if file is not None:
        return _bytes(file).decode("utf-8", "replace").partition("\n")[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise UsageError("the key's passphrase is asked for on a terminal, or by --passphrase-file")
    asked: str = click.prompt(
        "Passphrase of the key", hide_input=True, confirmation_prompt=new, err=True
    )
    return asked
