"""Who may look at the live page: everybody on loopback, elsewhere whoever holds the viewer's token.

Elsewhere it is served over TLS with the controller's own certificate; the token comes as a bearer
(Prometheus) or as the password of any name (browsers).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from assay.controller.home import Home
from assay.core.channel import is_loopback


@dataclass(frozen=True, slots=True)
class Access:
    """``certificate`` is a PEM file of key and chain; without one HTTP is plain. Without a
    ``token`` everybody may look."""

    certificate: Path | None = None
    token: str = ""


def access_for(home: Home, host: str, *, tls: bool = False) -> Access:
    """Open on loopback unless ``tls`` is wished; elsewhere always TLS and the viewer's token."""
    if is_loopback(host) and not tls:
        return Access()
    return Access(home.pki / "server.pem", viewer_token(home))


def viewer_token(home: Home) -> str:
    """The token that lets a viewer in, made on first use; its file is its owner's alone."""
    path = viewer_token_path(home)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(24))
    except FileExistsError:
        pass
    return path.read_text().strip()


def viewer_token_path(home: Home) -> Path:
    """Where the viewer's token lies: Prometheus' ``credentials_file``."""
    return home.root / "viewer.token"


def may_look(authorization: str, token: str) -> bool:
    """Whether a request's ``Authorization`` holds the token, as a bearer or as a password."""
    if not token:
        return True
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif kind.lower() != "bearer":
        return False
    return hmac.compare_digest(value.strip().encode(), token.encode())
