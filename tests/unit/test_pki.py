"""The certificate authority: what it signs, for how long, and who may read its keys."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from assay.controller.identity.certificates import check_request
from assay.controller.identity.pki import Authority
from assay.core.channel import SERVER_NAME
from assay.core.errors import BadMessage, CheckFailed
from tests.plane_client import Key

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki", NOW)


def verifier(authority: Authority, moment: dt.datetime) -> PolicyBuilder:
    ca = x509.load_pem_x509_certificate(authority.certificate_pem)
    return PolicyBuilder().store(Store([ca])).time(moment)


def issue(authority: Authority, device_id: str = "d-1") -> x509.Certificate:
    pem, _ = authority.issue_device(check_request(Key().request()), device_id, "board", NOW)
    return x509.load_pem_x509_certificate(pem)


def server_leaf(authority: Authority, *names: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.server_identity(names, NOW).chain_pem)


def test_it_is_made_once_and_opened_again(authority: Authority, tmp_path: Path) -> None:
    assert Authority(tmp_path / "pki", NOW).sha256 == authority.sha256


def test_the_pin_is_the_hash_of_the_certificates_der(authority: Authority) -> None:
    import hashlib

    der = ssl.PEM_cert_to_DER_cert(authority.certificate_pem.decode())
    assert authority.sha256 == hashlib.sha256(der).hexdigest()


def test_every_file_is_its_owners_alone(authority: Authority, tmp_path: Path) -> None:
    authority.server_identity([], NOW)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "pki").glob("*.*")}
    assert modes == {"ca.key": 0o600, "ca.crt": 0o600, "server.pem": 0o600}
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700


def test_a_device_certificate_names_the_device_for_thirty_days(authority: Authority) -> None:
    certificate = issue(authority)
    client = verifier(authority, NOW + dt.timedelta(days=29)).build_client_verifier()
    verified = client.verify(certificate, [])
    assert verified.subjects == [x509.UniformResourceIdentifier("assay://device/d-1")]
    assert certificate.not_valid_after_utc == NOW + dt.timedelta(days=30)
    late = verifier(authority, NOW + dt.timedelta(days=31)).build_client_verifier()
    with pytest.raises(VerificationError):
        late.verify(certificate, [])


def test_a_device_certificate_is_good_for_nothing_else(authority: Authority) -> None:
    certificate = issue(authority)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    server = verifier(authority, NOW).build_server_verifier(x509.DNSName(SERVER_NAME))
    with pytest.raises(VerificationError):
        server.verify(certificate, [])


def test_a_device_with_a_slow_clock_accepts_the_server(authority: Authority) -> None:
    leaf = server_leaf(authority)
    years_ago = NOW - dt.timedelta(days=4 * 365)
    server = verifier(authority, years_ago).build_server_verifier(x509.DNSName(SERVER_NAME))
    assert server.verify(leaf, [])


def test_the_server_certificate_carries_the_names_it_is_reached_by(authority: Authority) -> None:
    leaf = server_leaf(authority, "bench.example", "10.1.2.3")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {SERVER_NAME, "localhost", "bench.example"} <= set(
        names.get_values_for_type(x509.DNSName)
    )
    addresses = {str(a) for a in names.get_values_for_type(x509.IPAddress)}
    assert {"127.0.0.1", "10.1.2.3"} <= addresses


def test_the_server_certificate_stays_while_it_fits(authority: Authority) -> None:
    first = authority.server_identity(["a.example"], NOW)
    assert authority.server_identity(["a.example"], NOW) == first
    assert authority.current_server_identity() == first
    assert authority.server_identity(["b.example"], NOW) != first


def test_the_server_certificate_is_renewed_in_its_last_third(authority: Authority) -> None:
    first = authority.server_identity([], NOW)
    assert authority.server_identity([], NOW + dt.timedelta(days=500)) == first
    assert authority.server_identity([], NOW + dt.timedelta(days=600)) != first


def test_the_chain_ends_with_the_pinned_ca(authority: Authority) -> None:
    chain = x509.load_pem_x509_certificates(authority.server_identity([], NOW).chain_pem)
    assert len(chain) == 2
    from cryptography.hazmat.primitives import hashes

    assert chain[1].fingerprint(hashes.SHA256()).hex() == authority.sha256


def test_a_request_is_known_by_its_key() -> None:
    key = Key()
    one, other = check_request(key.request("a")), check_request(key.request("b"))
    assert one.key_sha256 == other.key_sha256
    assert isinstance(one.public_key.curve, ec.SECP256R1)
    assert check_request(Key().request()).key_sha256 != one.key_sha256


@pytest.mark.parametrize("cut", [0, 1, 30, 100, 250])
def test_a_truncated_request_is_refused(cut: int) -> None:
    with pytest.raises(BadMessage):
        check_request(Key().request()[:cut])


def test_a_lost_ca_key_is_named(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "pki" / "ca.key").unlink()
    with pytest.raises(CheckFailed, match="restore it from a backup"):
        Authority(tmp_path / "pki", NOW)


def _pin(directory: Path) -> str:
    made = Authority(directory, NOW)
    made.server_identity([], NOW)
    return made.sha256


def test_programs_that_start_at_once_make_one_ca(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pins = pool.map(_pin, [tmp_path / "pki"] * 4)
    assert len(set(pins)) == 1
    made = Authority(tmp_path / "pki", NOW)
    assert made.sha256 == pins[0]
    issue(made)
