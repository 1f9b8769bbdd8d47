"""How a command reaches the controller it is about: its home, a socket, or an address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc

from assay.controller.admin.base import Administration
from assay.controller.admin.journal import Caller
from assay.controller.admin.office import Office
from assay.controller.admin.remote import RemoteOffice
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core.channel import MAX_LISTING_BYTES, Credentials, dial, with_most_bytes
from assay.core.errors import UsageError

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
SOCKET = "unix:"


@contextlib.contextmanager
def opened_office(controller: str, identity: str) -> Iterator[Administration]:
    """Administration of the home of this account where ``controller`` is empty, through the socket
    where it is ``unix:PATH``, else over mTLS of the address with the file ``identity``."""
    if not controller:
        with opened_home() as here:
            yield here
        return
    office = RemoteOffice(_dial(controller, identity))
    try:
        yield office
    finally:
        office.close()


@contextlib.contextmanager
def opened_home() -> Iterator[Office]:
    """Administration of the home of this account, with what can only be done there."""
    home = Home.default()
    store = open_store(home)
    try:
        yield Office(home, store, Caller.of_this_account())
    finally:
        store.close()


def load_identity(path: Path) -> Credentials:
    """What ``assay operator add`` wrote: key, certificate, CA bundle; :class:`UsageError` where
    ``path`` is not that."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    key, *certificates = content.split(_CERTIFICATE)
    if b"PRIVATE KEY" not in key or len(certificates) < 2:
        raise UsageError(f"{path} is no identity; `assay operator add` makes one")
    own, *trusted = [_CERTIFICATE + rest for rest in certificates]
    return Credentials(key, own, b"".join(trusted))


def _dial(controller: str, identity: str) -> grpc.Channel:
    if controller.startswith(SOCKET):
        return grpc.insecure_channel(controller, with_most_bytes((), received=MAX_LISTING_BYTES))
    if not identity:
        raise UsageError(
            f"{controller} asks for an operator's certificate: give its file with --identity or "
            "ASSAY_IDENTITY (`assay operator add NAME` on the controller's host makes one)"
        )
    return dial(controller, load_identity(Path(identity)), most_bytes=MAX_LISTING_BYTES)
