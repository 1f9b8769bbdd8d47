"""Who is calling: the client certificate's word, nothing else's."""

from __future__ import annotations

from typing import Any

from assay.controller.identity.certificates import DEVICE_URI
from assay.controller.records import Admission, DeviceState
from assay.controller.store.base import Store
from assay.core.errors import NotFound, PermissionDenied, Unauthenticated

_SAN = "x509_subject_alternative_name"


def names_of(context: Any) -> list[str]:
    """The alternative names in the peer's verified certificate (of a sync or aio servicer
    context); empty where it showed none."""
    values = context.auth_context().get(_SAN, ())
    return [value.decode(errors="replace") for value in values]


def device_id_of(context: Any) -> str:
    """The device id in the peer's verified certificate."""
    names = names_of(context)
    ids = [name.removeprefix(DEVICE_URI) for name in names if name.startswith(DEVICE_URI)]
    if len(ids) != 1 or not ids[0]:
        raise Unauthenticated("the client certificate names no device; enrol the device first")
    return ids[0]


def admitted(store: Store, device_id: str) -> Admission:
    """A device that may speak; asked on every call, so that revoking works at once and not when
    the certificate ends."""
    try:
        return checked(store.admission(device_id))
    except NotFound:
        raise stranger(device_id) from None


def checked(device: Admission) -> Admission:
    """``device`` if it may speak, else :class:`PermissionDenied`."""
    if device.state is not DeviceState.ACTIVE:
        raise PermissionDenied(
            f"device {device.name} is {device.state.value}; `assay device show {device.name}` on "
            "the controller says more"
        )
    return device


def heard(device: Admission) -> Admission:
    """``device`` if it may sync: one that waits for approval may, so that it can be looked at."""
    return device if device.state is DeviceState.PENDING else checked(device)


def stranger(device_id: str) -> Unauthenticated:
    """What to say to a certificate of ours whose device is not in the store."""
    return Unauthenticated(f"this controller does not know device {device_id}; enrol it anew")
