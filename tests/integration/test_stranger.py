"""Could a stranger write another agent? One did: tests/stranger_agent.py, against a controller as
users run it."""

from __future__ import annotations

import ast
import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509

from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.planning import sweeps
from assay.controller.records import DeviceState, SweepState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ, MEDIA_ONNX, VerdictKind
from assay.core.trace import read_trace
from assay.v1 import fleet_pb2, job_pb2, result_pb2
from tests import stranger_agent
from tests.agent_process import eventually
from tests.plane_client import ControllerProcess, controller_process
from tests.planning import DATASET, spec, variant
from tests.stranger_agent import Stranger

# Needs no root, but more time than `make test` has.
pytestmark = pytest.mark.system

SCRIPT = Path(stranger_agent.__file__)
STATUS = fleet_pb2.RecordStatus
DAYS = 86_400
HALF = 1_234_567


def test_it_knows_the_stubs_and_nothing_else_of_assay() -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert {name for name in imported if name.startswith(("assay", "tests"))} == {"assay.v1"}


@dataclass
class Lab:
    """A controller with two variants to measure, and a stranger that has joined."""

    home: Home
    store: Store
    controller: ControllerProcess
    stranger: Stranger
    token: str

    def sweep(self, name: str) -> str:
        """Starts a sweep of both variants, two rounds, on the stranger; its id."""
        file = spec(
            name=name,
            variants=["fp32", "int8"],
            runtimes=[{"name": "onnxruntime"}],
            devices={"classes": ["stranger"]},
            rounds=2,
        )
        return sweeps.submit(file, self.store, ContentStore(self.home.artifacts)).sweep.sweep_id

    def ended(self, sweep_id: str) -> bool:
        """Whether a sweep is done."""
        return self.store.sweep(sweep_id).state is SweepState.DONE


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    scratch = tmp_path_factory.mktemp("stranger")
    home = Home(scratch / "controller")
    with controller_process(home) as controller:
        serving = controller.start()
        store = open_store(home)
        add_variants(store, ContentStore(home.artifacts))
        stranger = Stranger(scratch / "device")
        token = str(create_token(home, store))
        stranger.join(serving.enrolment_address, token, "stranger")
        stranger.connect()
        stranger.sync()
        eventually(lambda: store.device("stranger").facts, "the device's facts")
        yield Lab(home, store, controller, stranger, token)
        stranger.close()
        store.close()


def add_variants(store: Store, blobs: ContentStore) -> None:
    """Two variants whose files are bytes of no meaning: nothing here reads them."""
    rng = random.Random(7)
    tests = blobs.add_bytes(rng.randbytes(10_000), MEDIA_NPZ)
    store.add_dataset(replace(DATASET, splits={"test": tests}))
    for name in ("fp32", "int8"):
        made = variant(name)
        file = made.files[MEDIA_ONNX]
        assert file.golden is not None
        golden = replace(file.golden, artifact=blobs.add_bytes(rng.randbytes(5_000), MEDIA_NPZ))
        model = blobs.add_bytes(rng.randbytes(2_500_000), MEDIA_ONNX)
        files = {MEDIA_ONNX: replace(file, artifact=model, golden=golden)}
        store.add_variant(replace(made, files=files))


def test_it_takes_a_sweep_from_its_token_to_its_end(lab: Lab) -> None:
    sweep_id = lab.sweep("whole")
    # The token is spent: the same key gets its identity again.
    command = [sys.executable, str(SCRIPT), lab.controller.serving().enrolment_address]
    done = subprocess.run(
        [*command, lab.token, "stranger", str(lab.stranger.home)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: lab.ended(sweep_id), "the sweep's end")
    results = [record.result for record in lab.store.results(sweep_id=sweep_id)]
    measured = [result.run.variant_name for result in results if not result.run.canary]
    assert sorted(measured) == ["fp32", "fp32", "int8", "int8"]
    assert {result.verdict.kind for result in results} == {VerdictKind.VALID}
    assert {result.provenance.harness_version for result in results} == {"stranger 1"}
    assert all(result.quality is not None for result in results if result.run.evaluate)
    for result in results:
        assert result.latency is not None and result.trace is not None
        trace = read_trace(ContentStore(lab.home.artifacts).path(result.trace.digest))
        assert len(trace.latency_ns) == result.latency.n
    assert not list(lab.store.conflicts())
    assert not lab.stranger.spooled()


def runs_with_models(stranger: Stranger) -> list[job_pb2.RunSpec]:
    assert stranger.round is not None
    return [run for run in stranger.round.runs if not run.canary]


def leave_half(stranger: Stranger, digest: str, *, spoil: bool) -> None:
    """What a transfer that broke off leaves of an artifact, its first byte flipped if so wished."""
    whole = stranger.home / "artifacts" / digest.removeprefix("sha256:")
    half = bytearray(whole.read_bytes()[:HALF])
    half[0] ^= spoil
    whole.with_suffix(".part").write_bytes(half)
    whole.unlink()


def test_its_users_see_its_figures_like_any_others(lab: Lab) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "assay.controller", "result", "list", "whole", "--format", "csv"],
        env={"ASSAY_HOME": str(lab.home.root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert "int8" in shown.stdout and "stranger" in shown.stdout


def test_it_resumes_and_verifies_and_a_replay_counts_once(lab: Lab) -> None:
    sweep_id = lab.sweep("again")
    stranger = lab.stranger
    stranger.sync()
    cut_off, spoilt = (run.artifact for run in runs_with_models(stranger))
    leave_half(stranger, cut_off.digest, spoil=False)
    leave_half(stranger, spoilt.digest, spoil=True)
    stranger.work()
    assert sorted(stranger.resumed_at) == [0, HALF, HALF], "resumed; what was wrong came anew"
    entries = stranger.spooled()
    assert {ack.status for ack in stranger.report()} == {STATUS.RECORD_STATUS_STORED}
    assert {ack.status for ack in stranger.send(entries)} == {STATUS.RECORD_STATUS_ALREADY_STORED}
    body = entries[0].body + entries[0].body  # parses: the last of each field counts
    other = fleet_pb2.SpooledResult(
        attempt_id=entries[0].attempt_id,
        seq=entries[0].seq,
        sha256=hashlib.sha256(body).hexdigest(),
        body=body,
    )
    (ack,) = stranger.send([other])
    assert ack.status == STATUS.RECORD_STATUS_CONFLICT
    assert entries[0].sha256 in ack.detail
    assert len(lab.store.conflicts()) == 1
    while not lab.ended(sweep_id):
        stranger.sync()
        stranger.work()
        stranger.report()
    assert len(lab.store.results(sweep_id=sweep_id)) == 2 * len(entries)


def test_it_obeys_a_cancel_between_its_runs(lab: Lab) -> None:
    sweep_id = lab.sweep("cancelled")
    stranger = lab.stranger
    stranger.sync()
    assert stranger.round is not None
    sweeps.cancel(lab.store.sweep("cancelled"), lab.store)
    stranger.work()
    assert stranger.round is None
    assert not stranger.spooled()
    stranger.sync()
    assert lab.store.results(sweep_id=sweep_id) == []
    assert lab.store.leases(lab.store.device("stranger").device_id) == []


def test_a_run_it_does_not_understand_is_refused_by_a_result(lab: Lab) -> None:
    lab.sweep("newer")
    stranger = lab.stranger
    stranger.sync()
    assert stranger.round is not None
    stranger.round.runs[0].scenario.kind = 99  # type: ignore[assignment]
    stranger.work()
    results = [result_pb2.Result.FromString(e.body) for e in stranger.spooled()]
    assert [r.failure.code for r in results if r.HasField("failure")] == ["version_mismatch"]
    stranger.report()
    sweeps.cancel(lab.store.sweep("newer"), lab.store)
    stranger.sync()


def test_it_renews_its_certificate_and_goes_on(lab: Lab) -> None:
    stranger = lab.stranger
    before = x509.load_pem_x509_certificate(stranger.identity["certificate"].encode())
    assert not stranger.renew_if_due()
    assert stranger.renew_if_due(now=before.not_valid_after_utc.timestamp() - 5 * DAYS)
    after = x509.load_pem_x509_certificate(stranger.identity["certificate"].encode())
    assert after.serial_number != before.serial_number
    assert after.public_key() == before.public_key()
    stranger.sync()


def test_it_does_not_speak_to_another_controller(lab: Lab, tmp_path: Path) -> None:
    foreign = f"{lab.token.rpartition('.')[0]}.{'0' * 64}"
    with pytest.raises(SystemExit, match="not the controller that made this token"):
        Stranger(tmp_path).join(lab.controller.serving().enrolment_address, foreign, "other")


def test_a_revoked_one_is_told_and_stops(lab: Lab) -> None:
    lab.store.update_device(replace(lab.store.device("stranger"), state=DeviceState.REVOKED))
    with pytest.raises(SystemExit, match="permission_denied: device stranger is revoked"):
        lab.stranger.sync()
