"""Joining a controller: over real TLS, against an enrolment service in this process."""

from __future__ import annotations

import datetime as dt
import json
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from cryptography import x509

from assay.agent.cli.enrol import enrol_command
from assay.agent.home import AgentHome
from assay.agent.plane.enrol import enrol
from assay.agent.plane.identity import Identity
from assay.controller.identity.certificates import check_request
from assay.controller.identity.pki import Authority
from assay.core.errors import (
    AlreadyExists,
    AssayError,
    BadMessage,
    CheckFailed,
    NotFound,
    Unauthenticated,
    Unreachable,
    UsageError,
)
from assay.core.token import JoinToken
from assay.v1 import enrolment_pb2, enrolment_pb2_grpc
from tests.fake_controller import abort

NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)


@dataclass
class EnrolmentDesk(enrolment_pb2_grpc.EnrolmentServicer):
    """Signs what it is asked to, or raises ``refusal``."""

    authority: Authority
    refusal: AssayError | None = None
    requests: list[enrolment_pb2.EnrolRequest] = field(default_factory=list)
    address: str = ""
    pem: bytes = b""

    def Enrol(
        self, request: enrolment_pb2.EnrolRequest, context: Any
    ) -> enrolment_pb2.EnrolResponse:
        self.requests.append(request)
        if self.refusal is not None:
            abort(context, self.refusal)
        wanted = check_request(request.csr_pem)
        certificate, _ = self.authority.issue_device(wanted, "d-1", request.name, NOW)
        return enrolment_pb2.EnrolResponse(
            device_id="d-1",
            name=request.name,
            certificate_pem=self.pem or certificate,
            ca_bundle_pem=self.authority.certificate_pem,
            fleet_address=":7001",
            blobs_address="blobs.example:7002",
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[EnrolmentDesk]:
    it = EnrolmentDesk(Authority(tmp_path / "pki", NOW))
    identity = it.authority.server_identity((), NOW)
    server = grpc.server(ThreadPoolExecutor(2))
    enrolment_pb2_grpc.add_EnrolmentServicer_to_server(it, server)
    credentials = grpc.ssl_server_credentials([(identity.key_pem, identity.chain_pem)])
    it.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    yield it
    server.stop(0).wait()


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return AgentHome(tmp_path / "home")


def token(desk: EnrolmentDesk) -> str:
    return str(JoinToken.generate(desk.authority.sha256))


def test_a_token_buys_an_identity(desk: EnrolmentDesk, home: AgentHome) -> None:
    text = token(desk)
    identity = enrol(home, desk.address, text, "pi5-a")
    assert identity == Identity.load(home)
    assert (identity.device_id, identity.name) == ("d-1", "pi5-a")
    assert identity.fleet_address == "127.0.0.1:7001"
    assert identity.blobs_address == "blobs.example:7002"
    assert identity.not_after_unix_s == int((NOW + dt.timedelta(days=30)).timestamp())
    assert desk.requests[0].token == text
    credentials = identity.credentials(home)
    certificate = x509.load_pem_x509_certificate(credentials.certificate_pem)
    assert certificate.issuer.rfc4514_string() == "CN=Assay CA"


def test_the_key_is_readable_by_its_owner_alone_and_never_sent(
    desk: EnrolmentDesk, home: AgentHome
) -> None:
    enrol(home, desk.address, token(desk), "pi5-a")
    for path in (home.key, home.identity):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert b"PRIVATE" in home.key.read_bytes()
    assert b"PRIVATE" not in desk.requests[0].SerializeToString()
    assert "PRIVATE" not in home.identity.read_text()


def test_enrolling_again_changes_nothing_and_asks_nobody(
    desk: EnrolmentDesk, home: AgentHome
) -> None:
    first = enrol(home, desk.address, token(desk), "pi5-a")
    assert enrol(home, desk.address, token(desk), "other-name") == first
    assert len(desk.requests) == 1


def test_a_certificate_that_has_ended_may_be_enrolled_again_with_the_same_key(
    desk: EnrolmentDesk, home: AgentHome
) -> None:
    first = enrol(home, desk.address, token(desk), "pi5-a")
    replace(first, not_after_unix_s=int(NOW.timestamp()) - 1).store(home)
    assert enrol(home, desk.address, token(desk), "pi5-a").not_after_unix_s > NOW.timestamp()
    keys = {check_request(request.csr_pem).key_sha256 for request in desk.requests}
    assert (len(desk.requests), len(keys)) == (2, 1)


def test_a_token_of_a_ca_that_is_new_here_enrols_the_same_key_again(
    desk: EnrolmentDesk, home: AgentHome, tmp_path: Path
) -> None:
    first = enrol(home, desk.address, token(desk), "pi5-a")
    former = Authority(tmp_path / "former", NOW).certificate_pem.decode()
    replace(first, ca_bundle_pem=former).store(home)
    again = enrol(home, desk.address, token(desk), "pi5-a")
    assert again.ca_bundle_pem == first.ca_bundle_pem
    # While it was being replaced both were trusted: then nothing is to be done.
    replace(first, ca_bundle_pem=former + first.ca_bundle_pem).store(home)
    enrol(home, desk.address, token(desk), "pi5-a")
    keys = {check_request(request.csr_pem).key_sha256 for request in desk.requests}
    assert (len(desk.requests), len(keys)) == (2, 1)


def test_a_lost_reply_is_asked_for_again_with_the_same_key(
    desk: EnrolmentDesk, home: AgentHome
) -> None:
    desk.refusal = AssayError("it broke")
    with pytest.raises(AssayError, match="it broke"):
        enrol(home, desk.address, token(desk), "pi5-a")
    desk.refusal = None
    enrol(home, desk.address, token(desk), "pi5-a")
    keys = {check_request(request.csr_pem).key_sha256 for request in desk.requests}
    assert len(keys) == 1


def test_a_device_of_another_controller_is_not_moved(desk: EnrolmentDesk, home: AgentHome) -> None:
    enrol(home, desk.address, token(desk), "pi5-a")
    with pytest.raises(UsageError, match=r"enrolled as pi5-a at .* remove .*identity\.json"):
        enrol(home, "elsewhere.example:7433", token(desk), "pi5-a")


def test_a_server_without_the_tokens_ca_is_told_nothing(
    desk: EnrolmentDesk, home: AgentHome
) -> None:
    foreign = str(JoinToken.generate("0" * 64))
    with pytest.raises(Unauthenticated, match="not the controller that made this token"):
        enrol(home, desk.address, foreign, "pi5-a")
    assert desk.requests == []


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (Unauthenticated("this token has expired; create a new one"), "has expired"),
        (Unauthenticated("this token is not known"), "not known"),
        (AlreadyExists("device pi5-a exists"), "choose another name with --name"),
        (BadMessage("no such name"), "no such name"),
    ],
)
def test_a_refusal_says_what_to_do(
    desk: EnrolmentDesk, home: AgentHome, refusal: AssayError, message: str
) -> None:
    desk.refusal = refusal
    with pytest.raises(type(refusal), match=message):
        enrol(home, desk.address, token(desk), "pi5-a")
    with pytest.raises(NotFound, match="has not been enrolled"):
        Identity.load(home)


def test_half_a_token_is_refused_before_anyone_is_asked(home: AgentHome) -> None:
    with pytest.raises(BadMessage, match="not a whole join token"):
        enrol(home, "127.0.0.1:1", "assay1.abc", "pi5-a")


def test_an_address_where_nobody_answers_is_named(desk: EnrolmentDesk, home: AgentHome) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        enrol(home, "127.0.0.1:1", token(desk), "pi5-a")


def test_a_certificate_for_another_key_is_not_taken(
    desk: EnrolmentDesk, home: AgentHome, tmp_path: Path
) -> None:
    other = AgentHome(tmp_path / "other")
    enrol(other, desk.address, token(desk), "pi5-b")
    desk.pem = Identity.load(other).certificate_pem.encode()
    with pytest.raises(CheckFailed, match="another key"):
        enrol(home, desk.address, token(desk), "pi5-a")
    assert not home.identity.exists()


def test_a_damaged_home_says_what_to_remove(desk: EnrolmentDesk, home: AgentHome) -> None:
    enrol(home, desk.address, token(desk), "pi5-a")
    home.identity.write_text(json.dumps({"name": "x"}))
    with pytest.raises(CheckFailed, match="remove it and enrol"):
        Identity.load(home)
    home.identity.unlink()
    home.key.write_text("damaged")
    with pytest.raises(CheckFailed, match=r"key\.pem cannot be used"):
        enrol(home, desk.address, token(desk), "pi5-a")


def test_the_command_takes_the_token_from_the_environment(
    desk: EnrolmentDesk, home: AgentHome
) -> None:
    environment = {"ASSAY_AGENT_TOKEN": token(desk), "ASSAY_AGENT_HOME": str(home.root)}
    arguments = ["--controller", desk.address, "--name", "pi5-a"]
    done = CliRunner(env=environment).invoke(enrol_command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == f"enrolled as pi5-a at {desk.address}"


def test_the_command_says_what_is_missing(home: AgentHome) -> None:
    arguments = ["--home", str(home.root)]
    with pytest.raises(UsageError, match=r"--controller .* and --token .*assay token create"):
        CliRunner().invoke(enrol_command, arguments, catch_exceptions=False)
