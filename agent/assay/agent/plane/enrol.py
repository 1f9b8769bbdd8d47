"""Makes this board a device of a controller: a key made here, a certificate for a join token, and
another one before that ends.

The only module of the agent that imports ``cryptography``, and only when it is used; a running
agent renews in a process of its own (:mod:`assay.agent.plane.renewal`).
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from assay.agent.home import AgentHome, fsync_directory
from assay.agent.plane.identity import Identity
from assay.core import log
from assay.core.channel import (
    call,
    dial,
    dial_enrolment,
    pinned_ca,
    reachable_address,
    split_address,
)
from assay.core.clock_check import clock_trouble
from assay.core.errors import (
    AlreadyExists,
    CheckFailed,
    ClockWrong,
    NotFound,
    Unreachable,
    UsageError,
)
from assay.core.token import JoinToken
from assay.v1 import enrolment_pb2, enrolment_pb2_grpc, fleet_pb2, fleet_pb2_grpc

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_LOG = log.get(__name__)
_CALL_S = 30.0


def enrol(home: AgentHome, controller: str, token_text: str, name: str) -> Identity:
    """The identity in ``home``, bought with the token where there is none yet.

    A home that is enrolled with this controller already stays as it is, unless its certificate has
    ended or the token is of a CA it does not know; one enrolled elsewhere is a :class:`UsageError`.
    May be repeated after any failure: the key stays, and the controller knows a device by its key.
    Raises :class:`Unauthenticated`, :class:`Unreachable`, :class:`ClockWrong`,
    :class:`AlreadyExists` and :class:`BadMessage` with what to do about it.
    """
    token = JoinToken.parse(token_text)
    home.create()
    with contextlib.suppress(NotFound):
        before = _enrolled_before(home, controller)
        if not before.expired(time.time()) and before.trusts(token.ca_sha256):
            _LOG.info("device was enrolled already", name=before.name, controller=controller)
            return before
    host, port = split_address(controller)
    ca_pem = pinned_ca(host, port, token.ca_sha256)
    key = _load_or_make_key(home)
    request = enrolment_pb2.EnrolRequest(token=str(token), csr_pem=_request(key, name), name=name)
    with dial_enrolment(controller, ca_pem) as channel:
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        try:
            response = call(stub.Enrol, request, timeout_s=_CALL_S)
        except AlreadyExists as error:
            raise AlreadyExists(
                f"{error}; choose another name with --name, or remove the old device from the "
                "controller"
            ) from error
        except Unreachable as error:
            raise (clock_trouble(controller, ca_pem.decode()) or error) from error
    identity = _identity(response, controller)
    _check_pair(key, identity)
    identity.store(home)
    _LOG.info("device enrolled", name=identity.name, device_id=identity.device_id)
    return identity


def renew(home: AgentHome) -> Identity:
    """A new certificate for the same key, kept beside the old identity until it has synced.

    Asked of the fleet's port with the old certificate, or of the enrolment port where that has
    ended or is not let in any more. Raises what the controller does, or :class:`Unreachable`.
    """
    identity = Identity.load(home)
    key = _load_or_make_key(home)
    request = _request(key, identity.name)
    try:
        if identity.expired(time.time()):
            raise Unreachable("the certificate has ended")
        renewed = _renew_by_fleet(home, identity, request)
    except Unreachable:
        renewed = _renew_by_enrolment(identity, request)
    _check_pair(key, renewed)
    renewed.store_next(home)
    return renewed


def _renew_by_fleet(home: AgentHome, identity: Identity, csr_pem: bytes) -> Identity:
    request = fleet_pb2.RenewCertificateRequest(csr_pem=csr_pem)
    with dial(identity.fleet_address, identity.credentials(home)) as channel:
        stub = fleet_pb2_grpc.FleetStub(channel)
        response = call(stub.RenewCertificate, request, timeout_s=_CALL_S)
    return _certified(identity, response.certificate_pem, response.ca_bundle_pem)


def _renew_by_enrolment(identity: Identity, csr_pem: bytes) -> Identity:
    request = enrolment_pb2.RenewRequest(
        certificate_pem=identity.certificate_pem.encode(), csr_pem=csr_pem
    )
    with dial_enrolment(identity.enrolled_at, identity.ca_bundle_pem.encode()) as channel:
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        response = call(stub.Renew, request, timeout_s=_CALL_S)
    return _identity(response, identity.enrolled_at)


def _enrolled_before(home: AgentHome, controller: str) -> Identity:
    identity = Identity.load(home)
    if identity.enrolled_at != controller:
        raise UsageError(
            f"this device is enrolled as {identity.name} at {identity.enrolled_at}: to move it to "
            f"{controller} remove {home.identity}, or use another --home"
        )
    return identity


def _identity(response: enrolment_pb2.EnrolResponse, controller: str) -> Identity:
    bare = Identity(
        device_id=response.device_id,
        name=response.name,
        certificate_pem="",
        ca_bundle_pem="",
        fleet_address=reachable_address(response.fleet_address, controller),
        blobs_address=reachable_address(response.blobs_address, controller),
        enrolled_at=controller,
        not_after_unix_s=0,
    )
    return _certified(bare, response.certificate_pem, response.ca_bundle_pem)


def _certified(identity: Identity, certificate_pem: bytes, ca_bundle_pem: bytes) -> Identity:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return replace(
        identity,
        certificate_pem=certificate_pem.decode(),
        ca_bundle_pem=ca_bundle_pem.decode(),
        not_before_unix_s=int(certificate.not_valid_before_utc.timestamp()),
        not_after_unix_s=int(certificate.not_valid_after_utc.timestamp()),
    )


def _check_pair(key: EllipticCurvePrivateKey, identity: Identity) -> None:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(identity.certificate_pem.encode())
    if certificate.public_key() != key.public_key():
        raise CheckFailed("the controller answered with a certificate for another key")
    early_s = identity.not_before_unix_s - time.time()
    late_s = time.time() - identity.not_after_unix_s
    if early_s > 0 or late_s > 0:
        _LOG.warning(
            "this device's clock is wrong: set it (timedatectl set-ntp true), or later it "
            "refuses the controller's certificate",
            code=ClockWrong.code,
            off_by_at_least_s=round(max(early_s, late_s)),
        )


def _request(key: EllipticCurvePrivateKey, name: str) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _load_or_make_key(home: AgentHome) -> EllipticCurvePrivateKey:
    """The key in ``home``; made with mode 0600 where there is none, and complete on disk before it
    has its name."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not home.key.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        temporary = home.key.with_name(f".key.{os.getpid()}.tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            f.write(pem)
            f.flush()
            os.fsync(f.fileno())
        # Of two that enrol at once, one key wins and both use it.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, home.key)
        temporary.unlink()
        fsync_directory(home.root)
    try:
        loaded = serialization.load_pem_private_key(home.key.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise CheckFailed(
            f"{home.key} cannot be used ({error}): remove it and enrol this device again"
        ) from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise CheckFailed(f"{home.key} is not an ECDSA key: remove it and enrol this device again")
    return loaded
