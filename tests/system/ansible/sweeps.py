"""Sweeps of a fleet: one model, measured on whichever hosts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.system.ansible.fleet import Fleet
from tests.system.hosts import processes
from tests.tinymodels import save_mlp, save_samples


def add_model(fleet: Fleet, scratch: Path) -> None:
    """A dataset and a model on the bench."""
    fleet.bench.put(save_samples(scratch / "points.npz", n=128), "/tmp/points.npz")
    fleet.assay("dataset add /tmp/points.npz --name points")
    fleet.bench.put(save_mlp(scratch / "wide.onnx", batch=1, hidden=2048), "/tmp/wide.onnx")
    fleet.assay("variant add /tmp/wide.onnx --name wide --dataset points --model mlp")


def start(fleet: Fleet, name: str, devices: Sequence[str]) -> None:
    """Starts a sweep of one round."""
    text = f"""
name = "{name}"
dataset = "points"
variants = ["wide"]
baseline = "wide"
profile = "demo"
rounds = 1
retries = 0
devices = {{ names = {json.dumps(devices)} }}
[[runtimes]]
name = "onnxruntime"
threads = [1]
[[scenarios]]
kind = "single_stream"
"""
    fleet.bench.run(f"cat >/tmp/{name}.toml <<'E'\n{text}\nE")
    fleet.assay(f"sweep run /tmp/{name}.toml --no-follow")


def wait_measuring(fleet: Fleet, device: str) -> None:
    """Waits until a device is in the midst of a run."""
    processes.eventually(lambda: fleet.status(device).endswith("measuring"), f"{device} measuring")


def end(fleet: Fleet, name: str) -> None:
    """Waits until a sweep has ended."""
    processes.eventually(
        lambda: {row["name"]: row["state"] for row in fleet.rows("sweep list")}[name] == "done",
        f"sweep {name} done",
        timeout_s=240,
    )


def check_results(fleet: Fleet, name: str, devices: Sequence[str]) -> list[dict[str, object]]:
    """One result of the model and of the canary on each device: none lost, none doubled, each
    VALID or with a reason."""
    results = fleet.rows(f"result list {name} --canaries")
    counted = Counter((row["device"], row["variant"]) for row in results)
    assert counted == {(device, one): 1 for device in devices for one in ("wide", "canary")}
    assert all(row["verdict"] == "VALID" or row["reasons"] for row in results)
    return results
