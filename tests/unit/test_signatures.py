"""Publishers' signatures: exact bytes, trusted keys, and a reason for every refusal."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

from assay.agent.measuring.outcome import failure_of
from assay.agent.plane.limits import Limit
from assay.agent.plane.signatures import (
    MOST_TRIES,
    SHIPPED,
    Ask,
    Envelopes,
    Signatures,
    Vouched,
    check_by_child,
    judge,
    unsigned,
)
from assay.agent.plane.vouching import vouch
from assay.agent.trust import examine_publishers
from assay.controller.canary import PINNED
from assay.controller.publishing.keys import KINDS, load_key, make_key, public_path, sign
from assay.core import digest, dsse, statement
from assay.core.dsse import Envelope, Signature, signed_bytes
from assay.core.errors import (
    AlreadyExists,
    AssayError,
    BadMessage,
    Cancelled,
    CheckFailed,
    FetchTimeout,
    NotFound,
    PermissionDenied,
    SignaturesUnchecked,
    Unreachable,
    UnsignedArtifact,
    VersionMismatch,
)
from assay.core.model import MEDIA_NPZ, MEDIA_ONNX, ArtifactRef, FailureClass
from assay.core.publishers import Publisher, checked, keyid_of, load_publisher
from assay.core.statement import NamedArtifact, Statement
from tests.conftest import need
from tests.plane import ref

S = 1_000_000_000
MODEL, SAMPLES = ref("model"), ref("samples", MEDIA_NPZ)
STATED = Statement(
    (NamedArtifact(MODEL, "fp32"), NamedArtifact(SAMPLES, "digits")), "2026-01-01T00:00:00Z", "it"
)
PAYLOAD = statement.encode(STATED)


def no_passphrase() -> str:
    raise AssertionError("nothing was to be asked")


def signed_by(key: Path, stated: Statement = STATED) -> bytes:
    """An envelope as ``assay publish sign`` writes it."""
    made = sign(load_key(key, no_passphrase), statement.PAYLOAD_TYPE, statement.encode(stated))
    return dsse.encode(made)


@pytest.fixture(params=sorted(KINDS))
def key(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make_key(tmp_path / "publisher", request.param, "")
    return tmp_path / "publisher"


class TestEnvelope:
    SPEC = (
        b'{"payload": "aGVsbG8gd29ybGQ=", "payloadType": "http://example.com/HelloWorld",'
        b'"signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJ'
        b'PcIAriEGAHTVeCUjW2JIZA=="}]}'
    )

    def test_the_specifications_example_holds(self) -> None:
        envelope = dsse.decode(self.SPEC)
        message = signed_bytes(envelope.payload_type, envelope.payload)
        assert message == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        numbers = ec.EllipticCurvePublicNumbers(
            46950820868899156662930047687818585632848591499744589407958293238635476079160,
            5640078356564379163099075877009565129882514886557779369047442380624545832820,
            ec.SECP256R1(),
        )
        raw = envelope.signatures[0].value  # r and s there, DER here
        whole = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        publisher = Publisher("spec", numbers.public_key())
        held = replace(envelope, signatures=(Signature(whole),))
        with pytest.raises(BadMessage, match="no list of artifacts"):  # only after it held
            checked(held, [publisher])
        with pytest.raises(UnsignedArtifact):
            checked(envelope, [publisher])

    def test_what_is_written_is_read(self) -> None:
        made = Envelope("text/x", b"\xff\x00payload", (Signature(b"\xfb\xff", "k"), Signature(b"")))
        assert dsse.decode(dsse.encode(made)) == made

    def test_either_alphabet_and_fields_of_others_are_read(self) -> None:
        raw = {
            "payload": "-_8=",
            "payloadType": "t",
            "signatures": [{"sig": "_w==", "cert": "x"}],
            "more": 1,
        }
        read = dsse.decode(json.dumps(raw).encode())
        assert read == Envelope("t", b"\xfb\xff", (Signature(b"\xff"),))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b"\xff",
            b"[" * 100_000,
            b"{" + b" " * dsse.MAX_BYTES + b"}",
            b'{"payload": "", "payload": "", "payloadType": "t", "signatures": [{"sig": ""}]}',
            b'{"payload": "", "payloadType": "t", "signatures": []}',
            b'{"payload": "a", "payloadType": "t", "signatures": [{"sig": ""}]}',
            b'{"payload": "", "payloadType": 1, "signatures": [{"sig": ""}]}',
            b'{"payload": "", "payloadType": "t", "signatures": [{"keyid": "k"}]}',
            b'{"payload": "", "payloadType": "t", "signatures": ["sig"]}',
            b'{"payload": "", "payloadType": "t\\u001b", "signatures": [{"sig": ""}]}',
        ],
    )
    def test_what_is_no_envelope_is_refused(self, data: bytes) -> None:
        with pytest.raises(BadMessage):
            dsse.decode(data)


class TestStatement:
    def test_what_is_written_is_read(self) -> None:
        assert statement.decode(PAYLOAD) == STATED

    @pytest.mark.parametrize(
        "change",
        [
            {"type": "assay.artifacts/2"},
            {"expires": "2027-01-01T00:00:00Z"},
            {"artifacts": []},
            {"artifacts": ["x"]},
            {"comment": None},
            {"comment": "\x1b[2J"},
        ],
    )
    def test_what_is_not_understood_is_not_believed(self, change: dict[str, object]) -> None:
        with pytest.raises(BadMessage):
            statement.decode(json.dumps(json.loads(PAYLOAD) | change).encode())

    @pytest.mark.parametrize(
        "change",
        [
            {"digest": "sha256:../../x"},
            {"digest": 1},
            {"size_bytes": -1},
            {"size_bytes": True},
            {"size_bytes": 1.5},
            {"name": "\n"},
            {"unless": "revoked"},
        ],
    )
    def test_an_odd_artifact_is_refused(self, change: dict[str, object]) -> None:
        entry = statement.as_entry(STATED.artifacts[0])
        assert statement.from_entry(entry) == STATED.artifacts[0]
        with pytest.raises(BadMessage):
            statement.from_entry(entry | change)


class TestPublisher:
    def test_what_it_signed_is_believed_whatever_the_hint_says(self, key: Path) -> None:
        publisher = load_publisher(public_path(key))
        envelope = dsse.decode(signed_by(key))
        assert checked(envelope, [publisher]) == (STATED, publisher)
        (signature,) = envelope.signatures
        others = (Signature(b"x", publisher.keyid), replace(signature, keyid="somebody else"))
        assert checked(replace(envelope, signatures=others), [publisher])[0] == STATED

    def test_one_bit_anywhere_changes_nothing_or_is_refused(self, key: Path) -> None:
        publisher, data = load_publisher(public_path(key)), signed_by(key)
        believed = 0
        for at in range(len(data)):
            spoilt = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
            try:
                assert checked(dsse.decode(spoilt), [publisher])[0] == STATED
                believed += 1
            except (BadMessage, UnsignedArtifact):
                pass
        assert believed < 150, "only the hint, and what JSON passes over"

    def test_another_type_of_payload_is_another_message(self, key: Path) -> None:
        envelope = replace(dsse.decode(signed_by(key)), payload_type="application/json")
        with pytest.raises(UnsignedArtifact):
            checked(envelope, [load_publisher(public_path(key))])

    def test_refusals_say_why(self, key: Path, tmp_path: Path) -> None:
        publisher, envelope = load_publisher(public_path(key)), dsse.decode(signed_by(key))
        changed = replace(envelope, payload=envelope.payload.replace(b"fp32", b"int8"))
        with pytest.raises(UnsignedArtifact, match=f"by key {publisher.keyid[:12]} is wrong"):
            checked(changed, [publisher])
        make_key(tmp_path / "other", "ed25519", "")
        with pytest.raises(UnsignedArtifact, match=f"{publisher.keyid[:12]}, which is not trusted"):
            checked(envelope, [load_publisher(tmp_path / "other.pub")])
        with pytest.raises(UnsignedArtifact):
            checked(envelope, [])

    def test_keys_of_other_kinds_are_refused(self, key: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckFailed, match="cannot be read"):
            load_publisher(tmp_path / "no.pub")
        with pytest.raises(CheckFailed, match=r"copy the \.pub file"):
            load_publisher(key)
        other = tmp_path / "p384.pub"
        public = ec.generate_private_key(ec.SECP384R1()).public_key()
        other.write_bytes(
            public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        with pytest.raises(CheckFailed, match="Ed25519 or ECDSA"):
            load_publisher(other)

    def test_openssl_agrees(self, key: Path, tmp_path: Path) -> None:
        need(program="openssl")
        envelope = dsse.decode(signed_by(key))
        (tmp_path / "sig").write_bytes(envelope.signatures[0].value)
        (tmp_path / "message").write_bytes(signed_bytes(envelope.payload_type, envelope.payload))
        command = [
            "openssl",
            "pkeyutl",
            "-verify",
            "-pubin",
            "-rawin",
            "-in",
            "message",
            "-sigfile",
            "sig",
            "-inkey",
        ]
        if isinstance(load_publisher(public_path(key)).key, ec.EllipticCurvePublicKey):
            command = ["openssl", "dgst", "-sha256", "-signature", "sig", "-verify"]
            command += [str(public_path(key)), "message"]
        else:
            command += [str(public_path(key))]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        der = ["openssl", "pkey", "-pubin", "-in", str(public_path(key)), "-outform", "DER"]
        spki = subprocess.run(der, check=True, capture_output=True).stdout
        loaded = serialization.load_der_public_key(spki)
        assert isinstance(loaded, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey)
        assert keyid_of(loaded) == envelope.signatures[0].keyid


class TestKey:
    def test_it_is_its_owners_and_never_replaced(self, key: Path) -> None:
        assert key.stat().st_mode & 0o777 == 0o600
        before = key.read_bytes()
        with pytest.raises(AlreadyExists):
            make_key(key, "ed25519", "")
        assert key.read_bytes() == before
        key.chmod(0o640)
        with pytest.raises(CheckFailed, match="chmod 600"):
            load_key(key, no_passphrase)

    def test_a_passphrase_is_asked_for_and_needed(self, tmp_path: Path) -> None:
        keyid = make_key(tmp_path / "key", "ed25519", "open sesame")
        assert b"ENCRYPTED" in (tmp_path / "key").read_bytes()
        loaded = load_key(tmp_path / "key", lambda: "open sesame")
        assert keyid_of(loaded.public_key()) == keyid
        for wrong in ("", "close sesame"):
            with pytest.raises(CheckFailed, match="passphrase is wrong"):
                load_key(tmp_path / "key", lambda wrong=wrong: wrong)  # type: ignore[misc]

    def test_what_is_no_key_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="keygen"):
            load_key(tmp_path / "no", no_passphrase)
        other = tmp_path / "other"
        other.write_bytes(b"text")
        other.chmod(0o600)
        with pytest.raises(CheckFailed, match="no private key"):
            load_key(other, no_passphrase)


class TestChild:
    def test_it_tells_what_is_signed_and_why_the_rest_is_not(
        self, key: Path, tmp_path: Path
    ) -> None:
        make_key(tmp_path / "other", "ecdsa-p256", "")
        envelopes = [signed_by(key), b"nothing", signed_by(tmp_path / "other")]
        found = check_by_child([public_path(key)], envelopes)
        assert found.signed == {MODEL.digest: (MODEL,), SAMPLES.digest: (SAMPLES,)}
        assert len(found.refused) == 2
        assert "not an envelope" in found.refused[0] and "not trusted" in found.refused[1]

    def test_an_agent_with_a_key_that_is_none_does_not_start(self, tmp_path: Path) -> None:
        (tmp_path / "empty.pub").touch()
        with pytest.raises(CheckFailed, match=r"empty\.pub holds no public key"):
            unsigned([tmp_path / "empty.pub"], lambda _, __: Envelopes((), False))

    def test_the_doctor_says_who_is_trusted(self, key: Path, tmp_path: Path) -> None:
        keyid = load_publisher(public_path(key)).keyid
        (absent,) = examine_publishers(None)
        good, bad = examine_publishers([public_path(key), tmp_path / "no.pub"])
        assert (absent.status, good.status, bad.status) == ("absent", "ok", "refused")
        assert good.value == keyid[:12] and "cannot be read" in bad.detail


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def a_limit(limit_ns: int = 0) -> tuple[Limit, threading.Event, Clock]:
    cancel, clock = threading.Event(), Clock()
    return Limit(cancel, limit_ns, clock), cancel, clock


class Dice(random.Random):
    """Whose waits are none."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


def believing(*refs: ArtifactRef) -> Vouched:
    return Vouched({ref.digest: (ref,) for ref in refs}, ("another was spoilt",))


class TestRefusing:
    REFS = (MODEL, SAMPLES, MODEL)

    def test_nothing_is_asked_where_nobody_is_trusted(self) -> None:
        def ask(digests: Sequence[str], last: str) -> Envelopes:
            raise AssertionError

        assert unsigned(None, ask)(self.REFS, a_limit()[0]) == {}

    def test_what_is_signed_as_what_it_is_used_as_is_taken(self) -> None:
        assert judge(self.REFS, believing(MODEL, SAMPLES)) == {}
        refused = judge(self.REFS, believing(SAMPLES))
        assert list(refused) == [MODEL.digest]
        assert "another was spoilt" in str(refused[MODEL.digest])

    @pytest.mark.parametrize(
        "other", [replace(MODEL, media_type=MEDIA_NPZ), replace(MODEL, size_bytes=1)]
    )
    def test_what_is_signed_as_something_else_is_refused(self, other: ArtifactRef) -> None:
        (why,) = judge([MODEL], believing(other)).values()
        assert f"was signed as {other.media_type} of {other.size_bytes} bytes" in str(why)

    def test_a_replaced_file_is_another_file(self) -> None:
        swapped = ArtifactRef(SAMPLES.digest, MODEL.size_bytes, MEDIA_ONNX)
        (why,) = judge([swapped], Vouched({MODEL.digest: (MODEL,)})).values()
        assert isinstance(why, UnsignedArtifact) and "is in no envelope" in str(why)

    def test_the_canary_of_this_version_needs_no_signature(self) -> None:
        pinned = {p.digest for p in PINNED.values()} | {p.golden_digest for p in PINNED.values()}
        assert pinned == SHIPPED
        asked: list[str] = []

        def ask(digests: Sequence[str], last: str) -> Envelopes:
            asked.extend(digests)
            return Envelopes((), False)

        checker = Signatures((), ask)
        canary = ArtifactRef(sorted(SHIPPED)[0], 1, MEDIA_ONNX)
        assert checker.refused([canary], a_limit()[0]) == {}
        assert list(checker.refused([canary, MODEL], a_limit()[0])) == [MODEL.digest]
        assert asked == [MODEL.digest]

    def test_the_whole_path_in_one_process(self, key: Path) -> None:
        checker = Signatures(
            (public_path(key),),
            lambda digests, _: Envelopes([signed_by(key)], MODEL.digest not in digests),
            lambda trusted, envelopes: Vouched(
                {
                    entry["digest"]: (statement.from_entry(entry).ref,)
                    for entry in vouch(trusted, envelopes)["signed"]
                }
            ),
        )
        assert checker.refused(self.REFS, a_limit()[0]) == {}

    def test_an_unreachable_controller_is_waited_for(self) -> None:
        answers: list[AssayError | None] = [Unreachable("gone"), Cancelled("quiet"), None]

        def ask(_: Sequence[str], last: str) -> Envelopes:
            answer = answers.pop(0)
            if answer is not None:
                raise answer
            return Envelopes([b"x"], False)

        checker = Signatures((), ask, lambda _, __: believing(*self.REFS), Dice())
        assert checker.refused(self.REFS, a_limit()[0]) == {}
        assert answers == []

    def test_a_round_that_ends_or_is_late_is_told_apart(self) -> None:
        limit, cancel, clock = a_limit(5 * S)

        def ask(_: Sequence[str], last: str) -> Envelopes:
            clock.now = 5 * S
            raise Unreachable("gone")

        late = Signatures((), ask).refused(self.REFS, limit)
        assert {type(why) for why in late.values()} == {FetchTimeout}
        cancel.set()
        with pytest.raises(Cancelled):
            Signatures((), ask).refused(self.REFS, limit)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (VersionMismatch("upgrade it"), UnsignedArtifact),
            (PermissionDenied("not leased"), PermissionDenied),
        ],
    )
    def test_where_nothing_can_be_asked_nothing_is_taken(
        self, error: AssayError, kind: type[AssayError]
    ) -> None:
        def ask(_: Sequence[str], last: str) -> Envelopes:
            raise error

        refused = Signatures((), ask).refused(self.REFS, a_limit()[0])
        assert set(refused) == {MODEL.digest, SAMPLES.digest}
        assert all(isinstance(why, kind) and str(error) in str(why) for why in refused.values())


class TestMoreThanOneAnswer:
    """A controller that holds more envelopes than one answer has room for."""

    FIRST, SECOND = ref("first"), ref("second")
    HELD = ((b"old", MODEL), (b"x" * 9, None), (b"one", FIRST), (b"two", SECOND))

    def holding(self, asked: list[tuple[int, str]], *, old: bool) -> Ask:
        """One that has room for one envelope an answer, or an ``old`` one that leaves the rest
        out without saying so. Every envelope of rubbish names all."""

        def ask(digests: Sequence[str], last: str) -> Envelopes:
            asked.append((len(digests), last))
            naming = [d for d, r in reversed(self.HELD) if r is None or r.digest in digests]
            if old:
                return Envelopes(naming[:1], None)
            ids = [digest.hex_of(digest.of_bytes(data)) for data in naming]
            rest = naming[ids.index(last) + 1 if last in ids else 0 :]
            return Envelopes(rest[:1], len(rest) > 1)

        return ask

    def check(self, _: Sequence[Path], envelopes: Sequence[bytes]) -> Vouched:
        known = dict(self.HELD)
        signed = [found for data in envelopes if (found := known[data]) is not None]
        return believing(*signed)

    def test_all_that_is_needed_is_asked_for_and_no_more(self) -> None:
        asked: list[tuple[int, str]] = []
        checker = Signatures((), self.holding(asked, old=False), self.check)
        refs = (self.FIRST, self.SECOND)
        assert checker.refused(refs, a_limit()[0]) == {}
        assert [last != "" for _, last in asked] == [False, True], "the old ones are not needed"
        assert checker.refused((*refs, MODEL), a_limit()[0]) == {}
        assert list(checker.refused([SAMPLES, *refs], a_limit()[0])) == [SAMPLES.digest]

    def test_an_old_controller_is_asked_for_one_at_a_time(self) -> None:
        asked: list[tuple[int, str]] = []
        checker = Signatures((), self.holding(asked, old=True), self.check)
        assert checker.refused((self.FIRST, self.SECOND), a_limit()[0]) == {}
        assert [count for count, _ in asked] == [2, 1]
        assert list(checker.refused([SAMPLES], a_limit()[0])) == [SAMPLES.digest]

    def test_a_controller_that_never_ends_is_given_up(self) -> None:
        checker = Signatures((), lambda _, __: Envelopes([b"x" * 9], True), self.check)
        assert list(checker.refused([MODEL], a_limit()[0])) == [MODEL.digest]


def fail(error: Exception) -> object:
    raise error


@pytest.mark.parametrize(
    "launch",
    [
        lambda: fail(BlockingIOError(11, "no more processes")),
        lambda: fail(OSError(12, "Cannot allocate memory")),
        lambda: fail(subprocess.TimeoutExpired("vouching", 120)),
        lambda: subprocess.CompletedProcess("", -9, "", ""),
        lambda: subprocess.CompletedProcess("", 1, "", "MemoryError"),
    ],
    ids=["fork", "memory", "stuck", "killed", "died"],
)
def test_a_check_that_never_runs_is_trouble_of_the_device_and_not_of_the_file(
    monkeypatch: pytest.MonkeyPatch, launch: Callable[..., object]
) -> None:
    tries: list[object] = []

    def run(*command: object, **_: object) -> object:
        tries.append(command)
        return launch()

    monkeypatch.setattr(subprocess, "run", run)
    checker = Signatures((), lambda _, __: Envelopes([b"x"], False), rng=Dice())
    limit, cancel, _ = a_limit()
    monkeypatch.setattr(cancel, "wait", lambda _: cancel.is_set())
    (why,) = checker.refused([MODEL], limit).values()
    assert isinstance(why, SignaturesUnchecked) and len(tries) == MOST_TRIES
    failure = failure_of(why)
    assert failure.failure_class is FailureClass.INFRA
    assert failure.code == "signatures_unchecked"


class TestUnchecked:
    """The child that checks cannot do its work just now, or never will."""

    def test_a_check_that_runs_at_the_second_try_counts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries: list[int] = []

        def check(_: Sequence[Path], __: Sequence[bytes]) -> Vouched:
            tries.append(1)
            if len(tries) == 1:
                raise SignaturesUnchecked("no more processes")
            return believing(MODEL)

        limit, cancel, _ = a_limit()
        monkeypatch.setattr(cancel, "wait", lambda _: cancel.is_set())
        checker = Signatures((), lambda _, __: Envelopes([b"x"], False), check)
        assert checker.refused([MODEL], limit) == {}

    def test_a_key_that_cannot_be_used_is_not_tried_again(self) -> None:
        def check(_: Sequence[Path], __: Sequence[bytes]) -> Vouched:
            raise CheckFailed("no key")

        checker = Signatures((), lambda _, __: Envelopes([b"x"], False), check)
        (why,) = checker.refused([MODEL], a_limit()[0]).values()
        assert isinstance(why, CheckFailed)


def test_base64_of_the_payload_is_what_is_signed(key: Path) -> None:
    raw = json.loads(signed_by(key))
    assert base64.b64decode(raw["payload"]) == PAYLOAD
