"""``assay publish``: from files or a list to an envelope, and into a controller's home."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from assay.controller.cli import assay
from assay.controller.home import Home
from assay.controller.publishing import envelopes as envelopes_module
from assay.controller.publishing.envelopes import Envelopes
from assay.controller.publishing.gather import of_files, of_list, of_runs
from assay.controller.store.backup import back_up, restore
from assay.controller.store.base import Store
from assay.core import digest, dsse, statement
from assay.core.dsse import Envelope, Signature
from assay.core.errors import BadMessage, CheckFailed, NotFound, UnsignedArtifact, UsageError
from assay.core.model import MEDIA_NPZ, MEDIA_ONNX
from assay.core.statement import NamedArtifact, Statement
from tests.plane import cell, device, ref, run, sweep


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path / "home")
    monkeypatch.setenv("ASSAY_HOME", str(made.root))
    return made


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(assay, ["publish", *map(str, arguments)])


def done(*arguments: str | Path) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout


def rows(*arguments: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done(*arguments, "--format", "json"))
    return found


def refused(kind: type[Exception], *arguments: str | Path) -> str:
    error = invoke(*arguments).exception
    assert isinstance(error, kind), error
    return str(error)


def an_envelope(*contents: str, comment: str = "") -> bytes:
    """One whose signature nobody here looks at."""
    named = tuple(NamedArtifact(ref(content), content) for content in contents)
    payload = statement.encode(Statement(named, "2026-01-01T00:00:00Z", comment))
    return dsse.encode(Envelope(statement.PAYLOAD_TYPE, payload, (Signature(b"x", "k" * 64),)))


class TestCommands:
    def test_from_a_sweeps_list_to_what_its_devices_get(
        self, home: Home, store: Store, tmp_path: Path
    ) -> None:
        store.add_device(device())
        store.add_sweep(sweep(), [cell("fp32"), cell("int8")], [])
        wanted = rows("wanted", "sweep s1")
        assert [(row["name"], row["signed_by"]) for row in wanted] == [
            ("fp32", []),
            ("digits", []),
            ("golden outputs of fp32", []),
            ("int8", []),
            ("golden outputs of int8", []),
        ]
        (tmp_path / "wanted.json").write_text(json.dumps(wanted))
        keyid = done("keygen", tmp_path / "key", "--no-passphrase").strip()
        own = tmp_path / "own.onnx"
        own.write_bytes(b"my model")
        made = tmp_path / "release.dsse.json"
        signing = ("sign", "--key", tmp_path / "key", "-o", made, "--comment", "June")
        said = done(*signing, own, "--list", tmp_path / "wanted.json")
        assert "own.onnx" in said and "golden outputs of int8" in said
        assert "exists" in refused(Exception, *signing, own)
        envelope_id = done("add", made).strip()
        assert done("add", made).strip() == envelope_id
        (held,) = rows("list")
        assert (held["envelope"], held["artifacts"], held["comment"]) == (envelope_id, 6, "June")
        assert held["keys"] == [keyid[:12]]
        assert {tuple(row["signed_by"]) for row in rows("wanted", "sweep s1")} == {(keyid[:12],)}
        assert rows("show", made) == rows("show", envelope_id)
        assert rows("show", made)[0]["digest"] == digest.of_bytes(b"my model")
        done("remove", envelope_id)
        assert rows("list") == []
        assert refused(NotFound, "show", envelope_id)
        assert refused(NotFound, "remove", envelope_id)
        told = [(entry.action, entry.subject, entry.outcome) for entry in store.audit(9)]
        assert told == [
            ("publish add", f"{envelope_id} June", "ok"),
            ("publish add", f"{envelope_id} June", "ok"),
            ("publish remove", envelope_id, "ok"),
            ("publish remove", envelope_id, "not_found"),
        ]

    def test_a_signature_is_verified_where_its_owner_is(self, home: Home, tmp_path: Path) -> None:
        for name in ("key", "other"):
            done("keygen", tmp_path / name, "--no-passphrase", "--kind", "ecdsa-p256")
        model, made = tmp_path / "a.tflite", tmp_path / "e"
        model.write_bytes(b"a")
        done("sign", model, "--key", tmp_path / "key", "-o", made)
        verify = ("verify", made, "--publisher", tmp_path / "key.pub", model)
        done(*verify)
        assert "not trusted" in refused(
            UnsignedArtifact, "verify", made, "--publisher", tmp_path / "other.pub"
        )
        model.write_bytes(b"b")
        assert "a.tflite is not among the 1" in refused(CheckFailed, *verify)
        assert not home.root.exists(), "needs no controller"

    def test_a_passphrase_comes_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "word").write_text("open sesame\n")
        (tmp_path / "a.npz").write_bytes(b"a")
        word = ("--passphrase-file", tmp_path / "word")
        done("keygen", tmp_path / "key", *word)
        signing = ("sign", tmp_path / "a.npz", "--key", tmp_path / "key", "-o", tmp_path / "e")
        assert "--passphrase-file" in refused(UsageError, *signing)
        done(*signing, *word)
        (tmp_path / "word").write_text("close sesame\n")
        (tmp_path / "e").unlink()
        assert "passphrase is wrong" in refused(CheckFailed, *signing, *word)
        assert "exclude" in refused(UsageError, "keygen", tmp_path / "k", *word, "--no-passphrase")

    def test_mistakes_are_named(self, home: Home, tmp_path: Path) -> None:
        done("keygen", tmp_path / "key", "--no-passphrase")
        sign = ("sign", "--key", tmp_path / "key", "-o", tmp_path / "e")
        assert "nothing to sign" in refused(UsageError, *sign)
        assert "none of .onnx" in refused(UsageError, *sign, tmp_path / "a.bin")
        assert "no file" in refused(UsageError, *sign, tmp_path / "a.onnx")
        assert "not an envelope" in refused(BadMessage, "add", tmp_path / "key.pub")
        assert "no envelopes begin" in refused(NotFound, "remove", "00")
        assert not (tmp_path / "e").exists()


class TestGathering:
    def test_files_are_hashed_and_typed_by_their_names(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"model")
        (tmp_path / "d.npz").write_bytes(b"digits")
        found = of_files([tmp_path / "m.onnx", tmp_path / "d.npz"])
        assert [each.ref for each in found] == [
            ref("model", MEDIA_ONNX),
            ref("digits", MEDIA_NPZ),
        ]

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"digest": "x"}]', "[" * 100_000])
    def test_a_list_is_read_strictly(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "list").write_text(text)
        with pytest.raises(BadMessage):
            of_list(tmp_path / "list")

    def test_what_runs_share_is_listed_once(self) -> None:
        assert len(of_runs([run("fp32"), run("int8"), run("fp32")])) == 5


class TestEnvelopes:
    def test_those_that_name_a_digest_are_given_the_newest_first(self, tmp_path: Path) -> None:
        kept = Envelopes(tmp_path / "signatures")
        assert kept.covering([ref("a").digest]) == ([], False)
        first, second, third = an_envelope("a"), an_envelope("a", "b"), an_envelope("c")
        for age, data in enumerate((first, second, third)):
            held = kept.add(data)
            (path,) = (tmp_path / "signatures").glob(f"{held.envelope_id}*")
            os.utime(path, ns=(age, age))
        again = Envelopes(tmp_path / "signatures")
        assert again.covering([ref("a").digest]) == ([second, first], False)
        assert again.covering([ref("c").digest, ref("x").digest]) == ([third], False)

    def test_an_answer_fits_a_message_and_the_rest_comes_with_the_next(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = Envelopes(tmp_path / "signatures")
        data = [an_envelope("a", comment=str(number)) for number in range(4)]
        for each in data:
            kept.add(each)
        whole, _ = kept.covering([ref("a").digest])
        assert set(whole) == set(data)
        for room, answers in ((2 * len(data[0]), [2, 2]), (1, [1, 1, 1, 1])):
            monkeypatch.setattr(envelopes_module, "MOST_BYTES", room)
            found: list[bytes] = []
            for count in answers:
                last = digest.hex_of(digest.of_bytes(found[-1])) if found else ""
                part, more = kept.covering([ref("a").digest], last)
                found += part
                assert (len(part), more) == (count, len(found) < 4)
            assert found == whole
        assert kept.covering([ref("a").digest], "of one that is gone")[0] == whole[:1]

    def test_what_is_added_or_removed_by_another_process_counts(self, tmp_path: Path) -> None:
        kept, other = (Envelopes(tmp_path / "signatures") for _ in range(2))
        held = other.add(an_envelope("a"))
        assert kept.held() == other.held() == [held]
        other.remove(held.envelope_id[:6])
        assert kept.held() == []

    def test_a_file_that_is_no_envelope_is_passed_over(self, tmp_path: Path) -> None:
        kept = Envelopes(tmp_path / "signatures")
        held = kept.add(an_envelope("a"))
        (tmp_path / "signatures" / "spoilt.dsse.json").write_bytes(b"{")
        assert kept.held() == [held]
        with pytest.raises(BadMessage, match="around text/plain"):
            kept.add(dsse.encode(Envelope("text/plain", b"", (Signature(b""),))))

    def test_a_backup_holds_them(self, home: Home, store: Store, tmp_path: Path) -> None:
        Envelopes(home.signatures).add(an_envelope("a"))
        back_up(home, tmp_path / "backup.tar")
        restore(tmp_path / "backup.tar", Home(tmp_path / "new"))
        (held,) = Envelopes(Home(tmp_path / "new").signatures).held()
        assert held.data == an_envelope("a")
