"""A device that trusts one publisher, and a controller whose host is no longer its owner's."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.publishing.envelopes import Envelopes
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.model import Failure, FailureClass, RunSpec
from tests.agent_process import (
    AgentProcess,
    agent_process,
    is_done,
    results_of,
    submit,
    tiny_runs,
    token_for,
)
from tests.conftest import need
from tests.plane_client import controller_process

# Needs no root, but more time than `make test` has.
pytestmark = pytest.mark.system


@dataclass
class Plane:
    """A controller, an agent that trusts ``mine.pub``, and models."""

    home: Home
    store: Store
    agent: AgentProcess
    runs: list[RunSpec]
    scratch: Path

    def publish(self, *arguments: str | Path) -> str:
        """``assay publish``, as its user does."""
        done = subprocess.run(
            [sys.executable, "-m", "assay.controller", "publish", *map(str, arguments)],
            env={**os.environ, "ASSAY_HOME": str(self.home.root)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sign(self, runs: list[RunSpec], key: str) -> bytes:
        """An envelope over all these runs need, not yet with the controller."""
        blobs = ContentStore(self.home.artifacts)
        files = []
        for run in runs:
            for ref, end in ((run.artifact, "onnx"), (run.inputs.artifact, "npz")):
                files.append(self.scratch / f"{ref.digest[7:19]}.{end}")
                files[-1].write_bytes(blobs.path(ref.digest).read_bytes())
        target = self.scratch / f"{key}-{runs[0].variant_name}.dsse.json"
        self.publish("sign", *files, "--key", self.scratch / key, "-o", target)
        return target.read_bytes()

    def add(self, data: bytes) -> None:
        """Hands it to the controller."""
        Envelopes(self.home.signatures).add(data)

    def failures(self, *runs: RunSpec) -> list[Failure | None]:
        """What becomes of a round of these."""
        sweep_id = submit(self.store, Identity.load(self.agent.home), runs)
        self.agent.until(lambda: is_done(self.store, sweep_id), f"the end of {sweep_id}")
        results = [record.result for record in results_of(self.store, sweep_id)]
        for result in results:
            assert (result.latency is None) == (result.failure is not None)
        return [result.failure for result in results]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    need(module="onnxruntime")
    scratch = tmp_path_factory.mktemp("signed")
    home = Home(scratch / "controller")
    with controller_process(home) as controller, agent_process(scratch / "agent") as agent:
        store = open_store(home)
        serving = controller.start()
        made = Plane(home, store, agent, tiny_runs(home, scratch, 4), scratch)
        for key in ("mine", "others"):
            made.publish("keygen", scratch / key, "--no-passphrase")
        agent.environment = {
            "ASSAY_AGENT_TRUSTED_PUBLISHERS": str(scratch / "mine.pub"),
            "ASSAY_AGENT_CONTROLLER": serving.enrolment_address,
            "ASSAY_AGENT_TOKEN": token_for(home, store),
        }
        agent.start()
        agent.until(lambda: agent.home.identity.exists(), "the agent enrols")
        yield made
        store.close()


def spoilt(envelope: bytes) -> bytes:
    """The same with one bit of the signature flipped."""
    raw = json.loads(envelope)
    value = bytearray(base64.b64decode(raw["signatures"][0]["sig"]))
    value[7] ^= 4
    raw["signatures"][0]["sig"] = base64.b64encode(value).decode()
    return json.dumps(raw).encode()


def test_what_its_publisher_signed_is_run_and_nothing_else_is(plane: Plane) -> None:
    signed, unknown, flipped, swapped = plane.runs

    (failure,) = plane.failures(signed)
    assert failure is not None and failure.code == "unsigned_artifact", "nothing is signed yet"

    plane.add(plane.sign([signed], "mine"))
    plane.add(plane.sign([unknown], "others"))
    plane.add(spoilt(plane.sign([flipped], "mine")))
    # Another file under the name of what is signed, digest and size with it; samples as a model.
    fake = replace(swapped, variant_name=signed.variant_name, variant_id=signed.variant_id)
    disguised = replace(signed, artifact=replace(signed.inputs.artifact, media_type="model/onnx"))
    taken, *refused = plane.failures(signed, unknown, flipped, fake)
    assert taken is None
    (as_model,) = plane.failures(disguised)
    for run, found in zip((unknown, flipped, fake, disguised), (*refused, as_model), strict=True):
        assert found is not None
        # Nothing that trying again would mend.
        assert (found.code, found.failure_class) == ("unsigned_artifact", FailureClass.MODEL)
        assert run.artifact.digest in found.message
    assert refused[0] is not None and "is not trusted here" in refused[0].message
    assert refused[1] is not None and "something was changed since" in refused[1].message
    assert as_model is not None and "was signed as application/x-npz" in as_model.message

    held = {digest for digest, _ in ContentStore(plane.agent.home.artifacts).held()}
    assert held == {signed.artifact.digest, signed.inputs.artifact.digest}
    maps = Path(f"/proc/{plane.agent.pid}/maps").read_text()
    assert "cryptography" not in maps, "checking is a child's work"
    assert plane.agent.end() == 0
