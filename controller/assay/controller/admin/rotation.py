"""Replacing the CA: what there is, and who still needs the former one."""

from __future__ import annotations

import datetime as dt

from cryptography.hazmat.primitives import hashes

from assay.controller.admin.base import CertificateRecord
from assay.controller.home import Home
from assay.controller.identity.certificates import DEVICE_DAYS
from assay.controller.identity.pki import Authority
from assay.controller.records import DeviceState
from assay.controller.server.running import sole_controller
from assay.controller.store.base import Store
from assay.core.errors import CheckFailed

_S = 1_000_000_000


def certificates(home: Home, store: Store, now_ns: int) -> list[CertificateRecord]:
    """The controller's own certificates; empty before the first token or start."""
    if not home.pki.exists():
        return []
    authority = Authority(home.pki, dt.datetime.fromtimestamp(now_ns // _S, dt.UTC))
    waiting = still_on_former(authority, store)
    notes = {
        "former CA": f"{len(waiting)} device(s) and operator(s) still need it"
        if waiting
        else "nobody needs it: `assay pki rotate --finish`",
    }
    return [
        CertificateRecord(
            what,
            certificate.fingerprint(hashes.SHA256()).hex(),
            int(certificate.not_valid_after_utc.timestamp()) * _S,
            notes.get(what, ""),
        )
        for what, certificate in authority.certificates
    ]


def begin(home: Home, now: dt.datetime) -> None:
    """Makes the new CA; :class:`AlreadyExists` where a controller runs or it was begun already."""
    with sole_controller(home.create()):
        Authority(home.pki, now).rotate(now)


def finish_rotation(home: Home, store: Store, now: dt.datetime, force: bool) -> None:
    """Gives up the former CA; :class:`CheckFailed` where someone needs it, unless ``force``."""
    with sole_controller(home):
        authority = Authority(home.pki, now)
        waiting = still_on_former(authority, store)
        if waiting and not force:
            raise CheckFailed(
                f"{len(waiting)} still need the former CA: {', '.join(waiting[:10])}; wait until "
                "they have renewed, revoke them, or use --force: they must then enrol again"
            )
        authority.finish_rotation()


def still_on_former(authority: Authority, store: Store) -> list[str]:
    """Names of active devices and good operators whose certificate the former CA signed."""
    since = authority.rotated_at
    if since is None:
        return []
    since_ns = int(since.timestamp()) * _S
    life_ns = DEVICE_DAYS * 86_400 * _S
    devices = [
        device.name
        for device in store.devices()
        if device.state in (DeviceState.ACTIVE, DeviceState.PENDING)
        and device.certificate_not_after_ns - life_ns < since_ns
    ]
    operators = [
        f"operator {operator.name}"
        for operator in store.operators()
        if not operator.revoked and operator.created_ns < since_ns
    ]
    return devices + operators
