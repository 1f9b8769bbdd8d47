"""Network steps on a small network: what they promise about structure, cost and learning."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from assay.controller.variants.steps import registered
from assay.core.errors import BuildFailed
from assay.core.preprocess import Preprocessing
from tests.conftest import need

if TYPE_CHECKING:
    from torch import nn

    from assay.controller.variants.steps.base import NetworkWork


@pytest.fixture(scope="module")
def torch_is_there() -> None:
    need(module="torch")
    need(module="torch_pruning")
    import torch

    torch.set_num_threads(1)


@dataclass
class Bench:
    """A network, data that can be learnt, and the model's module."""

    work: NetworkWork
    before: nn.Module

    def apply(self, use: str, **parameters: Any) -> nn.Module:
        """Applies one step and returns the network."""
        step = registered()[use](**parameters)
        step.apply(self.work)  # type: ignore[attr-defined]
        return self.work.net

    def macs(self, net: nn.Module) -> int:
        from assay.controller.variants.cost_of_network import total_macs

        return total_macs(net, self.work.train.inputs(slice(0, 1)))

    def outputs(self, net: nn.Module) -> np.ndarray:
        import torch

        with torch.no_grad():
            found: np.ndarray = net.eval()(self.work.train.inputs(slice(0, 32))).numpy()
        return found


@pytest.fixture
def bench(torch_is_there: None) -> Bench:
    from assay.controller.demo_model import resnet8
    from assay.controller.variants.steps.base import NetworkWork
    from assay.controller.variants.training import Samples, make_deterministic

    make_deterministic(3)
    generator = np.random.RandomState(0)
    y = np.arange(512) % 4
    x = generator.randint(0, 60, (512, 12, 12)).astype(np.uint8)
    for i, label in enumerate(y):  # a bright quarter: its place is the class
        row, column = divmod(int(label), 2)
        x[i, row * 6 : row * 6 + 6, column * 6 : column * 6 + 6] += 120
    preprocessing = Preprocessing(shape=(1, 12, 12), scale=1 / 255, mean=(0.2,), std=(0.3,))
    train = Samples(x, y.astype(np.int64), preprocessing)
    net = resnet8.fresh((1, 12, 12), 4)
    work = NetworkWork(net, None, resnet8, train, 3, lambda _d, _t: None)
    return Bench(work, copy.deepcopy(net))


def survives_storage(bench: Bench, net: nn.Module) -> None:
    """Description and weights, through JSON and .npz, give the same outputs."""
    import tempfile
    from pathlib import Path

    from assay.controller.variants.network_build import load_network, weight_bytes
    from assay.controller.variants.orders import StoredNetwork

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.npz"
        path.write_bytes(weight_bytes(net))
        description = json.loads(json.dumps(bench.work.model.describe(net)))
        again = load_network(bench.work.model, StoredNetwork(str(path), description))
    np.testing.assert_array_equal(bench.outputs(again), bench.outputs(net))


def test_reference_network_has_the_size_the_paper_gives(torch_is_there: None) -> None:
    import torch

    from assay.controller.demo_model import resnet8
    from assay.controller.variants.cost_of_network import total_macs

    net = resnet8.fresh((1, 28, 28), 10)
    assert total_macs(net, torch.zeros(1, 1, 28, 28)) == 9_345_920
    assert sum(p.numel() for p in net.parameters()) == 77_754


def test_training_learns_and_is_the_same_every_time(bench: Bench) -> None:
    from assay.controller.variants.training import accuracy

    net = bench.apply("train", samples=1024, batch=32)
    assert accuracy(net, bench.work.train) > 0.9
    assert float(bench.work.notes["final_loss"]) < 0.5
    first = bench.outputs(net)
    bench.work.net = bench.before
    np.testing.assert_array_equal(
        bench.outputs(bench.apply("train", samples=1024, batch=32)), first
    )
    survives_storage(bench, net)


def test_batches_see_every_sample_before_any_twice(torch_is_there: None) -> None:
    from assay.controller.variants.training import _batches

    seen = np.concatenate(list(_batches(10, 4, 5, seed=1)))
    assert len(seen) == 20
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:].tolist()) == list(range(10))


@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor", "bn_scale"])
def test_pruning_meets_its_target_in_whole_groups(bench: Bench, criterion: str) -> None:
    before = bench.macs(bench.work.net)
    net = bench.apply("prune", criterion=criterion, macs_ratio=0.6)
    kept = bench.macs(net) / before
    assert 0.3 < kept <= 0.6
    assert bench.work.notes["macs_kept"] == f"{kept:.3f}"
    widths = [n for b in bench.work.model.describe(net)["blocks"] for n in (b["mid"], b["out"])]
    assert all(width % 8 == 0 for width in widths)
    survives_storage(bench, net)


def test_pruning_keeps_what_was_learnt_better_than_it_was_by_chance(bench: Bench) -> None:
    from assay.controller.variants.training import accuracy

    bench.apply("train", samples=1024, batch=32)
    bench.apply("prune", macs_ratio=0.6)
    net = bench.apply("train", samples=256, batch=32, rate=0.05)
    assert accuracy(net, bench.work.train) > 0.9


def test_pruning_beyond_the_least_is_refused(bench: Bench) -> None:
    with pytest.raises(BuildFailed, match=r"prune: 0\.\d+ of the MACs is the least"):
        bench.apply("prune", macs_ratio=0.01, round_to=16)


def test_tucker_meets_its_target_and_factors_what_gets_cheaper(bench: Bench) -> None:
    before = bench.macs(bench.work.net)
    net = bench.apply("tucker2", macs_ratio=0.7)
    assert 0.4 < bench.macs(net) / before <= 0.7
    forms = [b["second"]["kind"] for b in bench.work.model.describe(net)["blocks"]]
    assert "tucker2" in forms
    survives_storage(bench, net)


def test_tucker_of_a_kernel_of_low_rank_is_exact(torch_is_there: None) -> None:
    import torch
    from torch import nn

    from assay.controller.variants.steps.tucker import _factorable, _factored

    torch.manual_seed(0)
    conv = nn.Conv2d(16, 24, 3, stride=2, padding=1)
    core, left, right = torch.randn(4, 8, 3, 3), torch.randn(24, 4), torch.randn(16, 8)
    with torch.no_grad():
        conv.weight.copy_(torch.einsum("rshw,or,is->oihw", core, left, right))
    net = nn.Sequential(conv)
    layer = _factorable(net, {"0": 24 * 16 * 9 * 25})[0]
    assert layer.ranks(1 - 1e-9, 1) == (8, 4)
    x = torch.randn(2, 16, 10, 10)
    factored = _factored(layer, (8, 4))
    torch.testing.assert_close(factored(x), conv(x), rtol=1e-4, atol=1e-3)
    assert layer.macs_at((8, 4)) == 100 * 16 * 8 + 25 * 9 * 8 * 4 + 25 * 4 * 24


def test_tucker_beyond_the_least_is_refused(bench: Bench) -> None:
    with pytest.raises(BuildFailed, match=r"tucker2: 0\.\d+ of the MACs is the least"):
        bench.apply("tucker2", macs_ratio=0.01)


def test_student_is_narrower_and_learns_from_the_teacher(bench: Bench) -> None:
    from assay.controller.variants.training import accuracy

    teacher = bench.apply("train", samples=1024, batch=32)
    bench.work.teacher = copy.deepcopy(teacher)
    student = bench.apply("narrow", width=0.5)
    assert bench.macs(student) < 0.35 * bench.macs(teacher)
    net = bench.apply("distil", samples=1024, batch=32, share=1.0)
    assert accuracy(net, bench.work.train) > 0.9  # with share 1 no label was seen
    survives_storage(bench, net)


def test_separated_network_is_cheaper_and_trains(bench: Bench) -> None:
    from assay.controller.variants.training import accuracy

    net = bench.apply("separate")
    assert bench.macs(net) < 0.3 * bench.macs(bench.before)
    bench.apply("train", samples=1536, batch=32)
    assert accuracy(net, bench.work.train) > 0.8
    survives_storage(bench, net)


@pytest.mark.parametrize("batches", [1, 2, 5, 6])
def test_training_takes_any_number_of_batches(bench: Bench, batches: int) -> None:
    bench.apply("train", samples=8 * batches, batch=8)
    assert float(bench.work.notes["final_loss"]) > 0
