"""Models of six kinds that nobody here made, as docs/models.md and its pages have it: every command
and file on them, a controller, an agent, and one sweep over all in both runtimes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from assay.controller.home import Home
from assay.controller.planning.spec import load_spec
from assay.controller.store import open_store
from assay.core.model import VerdictKind
from tests.agent_process import agent_process, eventually, token_for
from tests.anymodels import info
from tests.conftest import REPOSITORY, need
from tests.plane_client import controller_process
from tests.tinymodels import save_onnx

pytestmark = [pytest.mark.system, pytest.mark.slow]

PAGES = ("image", "tokens", "audio", "dynamic", "tables", "quantised")
RUNTIMES = ("onnxruntime", "litert")
PROGRAMS = {
    "pip": ["-m", "pip", "--disable-pip-version-check", "-q"],
    "assay": ["-m", "assay.controller"],
    "python": [],
}
BLOCK = re.compile(r"^```(toml|python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLING = Lock()
DONE, PARTIAL = 0, 3  # 3: a cell has no VALID result, as on a busy machine


@dataclass(frozen=True)
class Lab:
    """A folder in which the pages are followed, and the controller's home."""

    folder: Path
    home: Home

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command as it is printed, with this interpreter's programs."""
        program, *arguments = shlex.split(command)
        return subprocess.run(
            [sys.executable, *PROGRAMS[program], *arguments],
            cwd=self.folder,
            env={**os.environ, "ASSAY_HOME": str(self.home.root)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def save(self, text: str) -> None:
        """A file of a page, where its first line is its name."""
        found = re.match(r"# ([\w-]+\.(?:toml|py))\n", text)
        if found:
            (self.folder / found[1]).write_text(text)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A controller with an agent, and every variant of the pages added."""
    for module in ("onnx", "onnxruntime", "ai_edge_litert", "pip"):
        need(module=module)
    folder = tmp_path_factory.mktemp("models")
    made = Lab(folder, Home(folder / "controller"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda page: follow(made, page), PAGES))
    with controller_process(made.home) as controller, agent_process(folder / "agent") as agent:
        address = controller.start().enrolment_address
        store = open_store(made.home)
        agent.environment = {
            "ASSAY_AGENT_CONTROLLER": address,
            "ASSAY_AGENT_TOKEN": token_for(made.home, store),
            "ASSAY_AGENT_NAME": "bench",
            "ASSAY_AGENT_RUNTIMES": ",".join(RUNTIMES),
        }
        agent.start()
        eventually(lambda: any(d.facts is not None for d in store.devices()), "the first sync")
        yield made
        assert agent.end() == 0
        store.close()


def follow(lab: Lab, page: str) -> None:
    """Saves the files of a page and runs its commands; what needs a sweep is left for later."""
    for kind, text in BLOCK.findall((REPOSITORY / f"docs/models/{page}.md").read_text()):
        if kind != "sh":
            lab.save(text)
            continue
        for command in text.splitlines():
            if command.startswith("assay sweep"):
                continue
            with INSTALLING if command.startswith("pip") else nullcontext():
                done = lab.run(command)
            if done.returncode and command.startswith("pip"):
                unreachable(command, done.stderr)
            assert done.returncode == 0, f"{command}\n{done.stderr}"


def unreachable(command: str, why: str) -> None:
    """No package, no test."""
    told = f"{command}: {why.strip().splitlines()[-1] if why.strip() else 'no word'}"
    if os.environ.get("ASSAY_REQUIRE_ALL") == "1":
        pytest.fail(f"{told}, and ASSAY_REQUIRE_ALL=1 allows no skip")
    pytest.skip(told)


def results_of(lab: Lab, sweep: str) -> dict[tuple[str, str], Any]:
    """The results by variant and runtime."""
    store = open_store(lab.home)
    records = store.results(sweep_id=store.sweep(sweep).sweep_id)
    store.close()
    return {(r.result.run.variant_name, r.result.run.runtime.name): r.result for r in records}


def test_one_sweep_has_a_labelled_result_or_a_reason_in_every_runtime(lab: Lab) -> None:
    main = (REPOSITORY / "docs/models.md").read_text()
    for kind, text in BLOCK.findall(main):
        if kind == "toml":
            lab.save(text)
    done = lab.run("assay sweep run sweep.toml")
    assert done.returncode in (DONE, PARTIAL), done.stderr
    variants = load_spec(lab.folder / "sweep.toml").variants
    found = results_of(lab, "any-model")
    for variant in variants:
        for runtime in RUNTIMES:
            result = found.pop((variant, runtime), None)
            if result is None:
                reason = f"left out: {variant} in {runtime} on bench: the variant has no "
                assert reason in done.stderr
                continue
            assert_labelled(variant, result)
    assert not found
    listed = lab.run("assay result list any-model --format json")
    assert len(json.loads(listed.stdout)) == len(variants)


OPERATORS = """
name = "operators"
variants = ["length"]
baseline = "length"
profile = "demo"
rounds = 1
retries = 0
canary = false

[[runtimes]]
name = "onnxruntime"
options = {{ custom_ops_library = "{}" }}

[[runtimes]]
name = "onnxruntime"
options = {{ custom_ops_library = "/nowhere/operators.so" }}
"""


def test_a_model_with_operators_of_its_own_runs_where_their_library_is(lab: Lab) -> None:
    import onnx
    from onnx import helper

    install = "pip install --no-deps --target operators onnxruntime-extensions==0.15.2"
    done = lab.run(install)
    if done.returncode:
        unreachable(install, done.stderr)
    (library,) = (lab.folder / "operators/onnxruntime_extensions").glob("*.so")
    node = helper.make_node("StringLength", ["x"], ["y"], domain="ai.onnx.contrib")
    path = lab.folder / "length.onnx"
    save_onnx(path, [node], [info("x", "STRING", "N")], [info("y", "INT64", "N")])
    model = onnx.load(path)
    model.opset_import.add(domain="ai.onnx.contrib", version=1)
    onnx.save(model, path)
    refused = lab.run("assay variant add length.onnx --name length")
    assert (
        refused.returncode == 1
        and "needs a library of operators (assay variant add --operators)" in refused.stderr
    )
    added = lab.run(f"assay variant add length.onnx --name length --operators {library}")
    assert added.returncode == 0, added.stderr
    (lab.folder / "operators.toml").write_text(OPERATORS.format(library))
    done = lab.run("assay sweep run operators.toml")
    assert done.returncode == PARTIAL, done.stderr
    store = open_store(lab.home)
    found = store.results(sweep_id=store.sweep("operators").sweep_id)
    store.close()
    by_library = {r.result.run.runtime.options["custom_ops_library"]: r.result for r in found}
    failure = by_library.pop("/nowhere/operators.so").failure
    assert failure.code == "runtime_rejected" and "is not on this device" in failure.message
    assert_labelled("length", by_library[str(library)])


def assert_labelled(variant: str, result: Any) -> None:
    """A number over outputs that were checked, and every doubt about it by its name."""
    codes = {reason.code for reason in result.verdict.reasons}
    assert result.failure is None, (variant, result.failure)
    assert result.latency is not None and result.latency.n >= 10, variant
    assert result.golden is not None and result.golden.within_tolerance, (variant, result.golden)
    assert not codes & {"output_mismatch", "outputs_unchecked", "paths_differ"}, (variant, codes)
    assert bool(codes) is (result.verdict.kind is not VerdictKind.VALID), (variant, codes)
    # Its values are files' real bytes; all others' are made up.
    assert ("synthetic_input" in codes) is (variant != "file-type"), (variant, codes)
    told = json.loads(result.run.inputs.made_json)
    assert told["inputs"] and all(one["values"] for one in told["inputs"].values())


def test_a_sweep_file_sets_the_size_anew(lab: Lab) -> None:
    planned = lab.run("assay sweep plan wide.toml --format json")
    assert planned.returncode == 0, planned.stderr
    (cell,) = json.loads(planned.stdout)
    assert (cell["variant"], cell["runtime"]) == ("detector", "onnxruntime")
    (lab.folder / "odd.toml").write_text(
        (lab.folder / "wide.toml").read_text().replace("640", "650").replace("wide", "odd")
    )
    refused = lab.run("assay sweep plan odd.toml")
    assert refused.returncode == 2
    assert "dims: detector at p2o.DynamicDimension.2=650: " in refused.stderr, refused.stderr
