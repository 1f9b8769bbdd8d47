"""Certificates and requests as values: how each kind is made, and what one says.

Nothing here reads a file or keeps a key. Devices without a battery-backed clock start in the past,
so everything they check is back-dated.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from assay.core.errors import BadMessage, Unauthenticated

DEVICE_URI = "assay://device/"
OPERATOR_URI = "assay://operator/"
DEVICE_DAYS = 30
SERVER_DAYS = 820
_CA_DAYS = 3650
_BACKDATED_DEVICE_DAYS = 2
BACKDATED_SERVER = dt.timedelta(days=5 * 365)

_DER = serialization.Encoding.DER
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A certificate request that was checked; ``key_sha256`` is over the public key (DER)."""

    key_sha256: str
    public_key: ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """What a certificate that we signed says, expired or not."""

    device_id: str
    key_sha256: str
    not_after: dt.datetime


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def authority_certificate(
    key: ec.EllipticCurvePrivateKey, now: dt.datetime, number: int = 1
) -> x509.Certificate:
    """A certificate authority that signs itself; it may sign leaves and no further authority.
    ``number`` tells those of one controller apart: TLS looks an issuer up by its name."""
    common_name = "Assay CA" if number == 1 else f"Assay CA {number}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED_SERVER)
        .not_valid_after(now + dt.timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def server_certificate(
    issuer: Issuer, key: ec.EllipticCurvePublicKey, names: Sequence[str], now: dt.datetime
) -> x509.Certificate:
    """A server's certificate for these host names and IP addresses."""
    return _leaf(
        issuer,
        key,
        common_name="assay controller",
        names=[general_name(name) for name in names],
        use=ExtendedKeyUsageOID.SERVER_AUTH,
        not_before=now - BACKDATED_SERVER,
        not_after=now + dt.timedelta(days=SERVER_DAYS),
    )


def device_certificate(
    issuer: Issuer, key: ec.EllipticCurvePublicKey, device_id: str, name: str, now: dt.datetime
) -> x509.Certificate:
    """A device's certificate: good for a client, and nothing a server could be taken for."""
    return _leaf(
        issuer,
        key,
        common_name=name,
        names=[x509.UniformResourceIdentifier(DEVICE_URI + device_id)],
        use=ExtendedKeyUsageOID.CLIENT_AUTH,
        not_before=now - dt.timedelta(days=_BACKDATED_DEVICE_DAYS),
        not_after=now + dt.timedelta(days=DEVICE_DAYS),
    )


def operator_certificate(
    issuer: Issuer, key: ec.EllipticCurvePublicKey, name: str, certificate_id: str, end: dt.datetime
) -> x509.Certificate:
    """An operator's certificate, good until ``end``; it names itself too, since one operator has
    one good certificate at a time."""
    return _leaf(
        issuer,
        key,
        common_name=name,
        names=[x509.UniformResourceIdentifier(f"{OPERATOR_URI}{name}/{certificate_id}")],
        use=ExtendedKeyUsageOID.CLIENT_AUTH,
        not_before=issuer.certificate.not_valid_before_utc,
        not_after=end,
    )


def read_device(issuers: Sequence[x509.Certificate], certificate_pem: bytes) -> DeviceCertificate:
    """What a device's certificate says; :class:`Unauthenticated` unless one of ``issuers`` signed
    it. Its dates are for the caller to judge."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        _verify(certificate, issuers)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise Unauthenticated(f"this is no certificate of this controller: {error}") from None
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    ids = [uri.removeprefix(DEVICE_URI) for uri in uris if uri.startswith(DEVICE_URI)]
    if len(ids) != 1:
        raise Unauthenticated("this certificate names no device")
    key = certificate.public_key().public_bytes(_DER, _SPKI)
    return DeviceCertificate(
        ids[0], hashlib.sha256(key).hexdigest(), certificate.not_valid_after_utc
    )


def check_request(csr_pem: bytes) -> DeviceRequest:
    """The request in ``csr_pem``; :class:`BadMessage` unless it is signed by its own P-256 key."""
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature) as error:
        raise BadMessage(f"the certificate request cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadMessage("the certificate request must be for an ECDSA P-256 key")
    if not signed:
        raise BadMessage("the certificate request is not signed by the key it names")
    return DeviceRequest(hashlib.sha256(key.public_bytes(_DER, _SPKI)).hexdigest(), key)


def general_name(name: str) -> x509.GeneralName:
    """A host name or an IP address as certificates carry it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _verify(certificate: x509.Certificate, issuers: Sequence[x509.Certificate]) -> None:
    for issuer in issuers[:-1]:
        try:
            certificate.verify_directly_issued_by(issuer)
            return
        except (ValueError, TypeError, InvalidSignature):
            continue
    certificate.verify_directly_issued_by(issuers[-1])


def _leaf(
    issuer: Issuer,
    key: ec.EllipticCurvePublicKey,
    *,
    common_name: str,
    names: Sequence[x509.GeneralName],
    use: x509.ObjectIdentifier,
    not_before: dt.datetime,
    not_after: dt.datetime,
) -> x509.Certificate:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority, critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
