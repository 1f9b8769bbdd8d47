"""How a join token becomes a device: pure of the wire, so that it can be tested without one."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from assay.controller.home import Home
from assay.controller.identity.certificates import DEVICE_DAYS, DeviceRequest, check_request
from assay.controller.identity.pki import Authority
from assay.controller.records import DeviceRecord, DeviceState, TokenRecord
from assay.controller.store.base import Store
from assay.core import log
from assay.core.errors import (
    BadMessage,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    UsageError,
)
from assay.core.token import JoinToken

_S = 1_000_000_000

RENEW_GRACE_NS = 180 * 86_400 * _S
"""For this long after its end a certificate still renews itself; after that a token is needed."""

MOST_USES = 1_000_000
LONGEST_LIFETIME_S = 3650 * 86_400
"""As long as the certificate authority that a token names."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a device gets for its token; PEM."""

    device_id: str
    name: str
    certificate_pem: bytes
    ca_bundle_pem: bytes


def create_token(
    home: Home,
    store: Store,
    *,
    note: str = "",
    uses: int = 1,
    lifetime_s: int = 86_400,
    approval: bool = False,
    now_ns: int | None = None,
) -> JoinToken:
    """A token for ``uses`` devices within ``lifetime_s`` from now; its text is kept nowhere. With
    ``approval`` they wait for an operator's.

    Makes the certificate authority of ``home`` where there is none yet: its hash is in the token.
    """
    if not 1 <= uses <= MOST_USES or not 1 <= lifetime_s <= LONGEST_LIFETIME_S:
        raise UsageError(
            f"a join token has 1 to {MOST_USES} uses and lasts 1 to {LONGEST_LIFETIME_S} seconds"
        )
    now_ns = time.time_ns() if now_ns is None else now_ns
    authority = Authority(home.pki, dt.datetime.fromtimestamp(now_ns // _S, dt.UTC))
    token = JoinToken.generate(authority.sha256)
    store.add_token(
        TokenRecord(
            token_id=token.token_id,
            secret_sha256=token.secret_sha256,
            created_ns=now_ns,
            expires_ns=now_ns + lifetime_s * _S,
            uses_left=uses,
            note=note,
            approval=approval,
        )
    )
    return token


def check_name(name: str) -> str:
    """``name`` if a device may be called so, else :class:`BadMessage`."""
    if _NAME.fullmatch(name) is None:
        raise BadMessage(
            f"{name!r} is no device name: use 1 to 63 lower-case letters, digits and hyphens, "
            "with a letter or digit at both ends"
        )
    return name


@dataclass(frozen=True, slots=True)
class Enroller:
    """Turns requests into certificates. Thread-safe; ``now_ns`` is the controller's clock."""

    store: Store
    authority: Authority
    now_ns: Callable[[], int]

    def enrol(self, token_text: str, csr_pem: bytes, name: str) -> Enrolled:
        """One device's certificate.

        The same key again gets its identity again (a lost reply costs nothing); raises what
        ``Enrolment.Enrol`` of the protocol names.
        """
        try:
            token = JoinToken.parse(token_text)
        except BadMessage as error:
            raise Unauthenticated(str(error)) from None
        request = check_request(csr_pem)
        now_ns = self.now_ns()
        wished = DeviceRecord(
            device_id=f"d-{secrets.token_hex(8)}",
            name=check_name(name),
            state=DeviceState.ACTIVE,
            key_sha256=request.key_sha256,
            enrolled_ns=now_ns,
            certificate_not_after_ns=(now_ns // _S + DEVICE_DAYS * 86_400) * _S,
        )
        device = self.store.enrol_device(token.secret_sha256, wished, now_ns)
        enrolled = self._certify(device, request)
        _log.info(
            "device enrolled",
            device=device.name,
            device_id=device.device_id,
            token_id=token.token_id,
            again=device.device_id != wished.device_id,
        )
        return enrolled

    def renew(self, device_id: str, csr_pem: bytes) -> Enrolled:
        """A new certificate for a device that still has a good one; same key."""
        request = check_request(csr_pem)
        device = self._known(device_id)
        if request.key_sha256 != device.key_sha256:
            raise PermissionDenied(
                f"device {device.name} is known by another key; a new key needs a join token and a "
                "name of its own"
            )
        _log.info("certificate renewed", device=device.name, device_id=device_id)
        return self._certify(device, request)

    def renew_expired(self, certificate_pem: bytes, csr_pem: bytes) -> Enrolled:
        """The same for a device that was off when its certificate ended: the old certificate says
        who it is, the request proves that it still has the key."""
        old = self.authority.read_device(certificate_pem)
        if check_request(csr_pem).key_sha256 != old.key_sha256:
            raise Unauthenticated("the request is not signed by the key of the certificate")
        late_ns = self.now_ns() - int(old.not_after.timestamp()) * _S
        if late_ns > RENEW_GRACE_NS:
            raise PermissionDenied(
                f"this certificate ended on {old.not_after:%Y-%m-%d}, too long ago to be renewed "
                "by itself: enrol the device again with a join token, it keeps its identity"
            )
        return self.renew(old.device_id, csr_pem)

    def _known(self, device_id: str) -> DeviceRecord:
        try:
            return self.store.device(device_id)
        except NotFound:
            raise Unauthenticated(f"this controller does not know device {device_id}") from None

    def _certify(self, device: DeviceRecord, request: DeviceRequest) -> Enrolled:
        _let_in(device)
        now = dt.datetime.fromtimestamp(self.now_ns() // _S, dt.UTC)
        certificate, not_after = self.authority.issue_device(
            request, device.device_id, device.name, now
        )
        not_after_ns = int(not_after.timestamp()) * _S
        if device.certificate_not_after_ns != not_after_ns:
            # Signing took a moment: who was shut out meanwhile stays out.
            self.store.change_device(
                device.device_id,
                lambda now: replace(_let_in(now), certificate_not_after_ns=not_after_ns),
            )
        return Enrolled(device.device_id, device.name, certificate, self.authority.certificate_pem)


def _let_in(device: DeviceRecord) -> DeviceRecord:
    if device.state not in (DeviceState.ACTIVE, DeviceState.PENDING):
        raise PermissionDenied(
            f"device {device.name} was {device.state.value}; its key is not accepted any more: "
            "delete the device's identity and enrol it with a new key"
        )
    return device
