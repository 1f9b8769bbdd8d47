"""The user's own torch module: what its factory may do, and how it is told where it does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from assay.controller.own_code.reference import Reference
from assay.controller.variants.orders import ModelOrder, ModelReport
from assay.controller.variants.progress import Meter
from assay.core.errors import BadInputs, BuildFailed, NotFound
from assay.core.npz import npz_bytes
from tests.conftest import need

if TYPE_CHECKING:
    from torch import nn

GOOD = """
from torch import nn
def build():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )
"""

Own = Callable[..., Reference]
Wrap = Callable[[dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def torch_is_there() -> None:
    need(module="torch")
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    """Writes the source of a module and names its factory."""
    before = set(sys.modules)
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(source: str = GOOD, name: str = "build", module: str = "own_net") -> Reference:
        (folder / f"{module}.py").write_text(source)
        sys.modules.pop(module, None)
        return Reference(module, name, (str(folder),))

    yield written
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def made(reference: Reference) -> nn.Module:
    from assay.controller.variants.own_model import make

    return make(reference)


def tried(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, weights: Path | None = None
) -> ModelReport:
    """The trial, on two samples of three classes, without its bound on this process's memory."""
    from assay.controller.variants import own_trial

    monkeypatch.setattr(own_trial, "limit_memory", lambda: None)
    samples = Path("samples.npz").resolve()
    samples.write_bytes(npz_bytes({"x": np.ones((4, 8, 8), np.uint8), "y": np.arange(4) % 3}))
    order = ModelOrder(
        reference, str(weights) if weights else None, str(samples), '{"shape": [1, 8, 8]}', 3
    )
    return own_trial.try_model(order, samples.parent, Meter(lambda _done, _note: None))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def build():\n    raise SystemExit(3)", r"own_net:build\(\) called exit\(3\) .*line 2"),
        ("import sys\nsys.exit('no')", r"importing own_net called exit\('no'\) .*line 2"),
        ("def build():\n    return 1 / 0", "raised ZeroDivisionError: .*line 2"),
        ("def build(:", "importing own_net raised SyntaxError: .*line 1"),
        ("import not_to_be_had", "importing own_net raised ModuleNotFoundError: .*not_to_be_had"),
        ("def build():\n    return {}", r"own_net:build\(\) gave a dict, not a plain torch.nn.Mod"),
        ("build = 3", "own_net:build is a int, which cannot be called"),
        ("def build(width):\n    pass", "raised TypeError: .*'width'"),
        (GOOD + "whole = build\ndef build():\n    return whole().half()", "call net.float"),
        (
            "import torch\ndef build():\n    return torch.jit.script(torch.nn.ReLU())",
            "RecursiveScriptModule, not a plain torch.nn.Module",
        ),
    ],
)
def test_a_factory_that_gives_no_network_is_told_with_its_place(
    own: Own, source: str, says: str
) -> None:
    with pytest.raises(BuildFailed, match=says):
        made(own(source))


def test_a_module_or_a_factory_that_is_not_there_is_told(own: Own) -> None:
    with pytest.raises(NotFound, match=r"own_none:build: no module 'own_none' in .*install it"):
        made(Reference("own_none", "build", own().folders))
    with pytest.raises(NotFound, match=r"own_net:other: .*own_net.py has no 'other'"):
        made(own(name="other"))


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        ("return x, x", "gave a tuple: one tensor is needed"),
        ("return x.mean()", r"gave a tensor of shape \(\): a row per sample"),
        ("return x.flatten(1)[:, :5]", "gives 5 values for a sample, but the dataset has 3 class"),
        ("return x @ x[0, 0, 0, 0]", r"forward, given 2×1×8×8 .*raised .*line 4"),
        ("raise SystemExit", r"forward, given 2×1×8×8 .*called exit\(\)"),
    ],
)
def test_a_network_that_cannot_be_used_is_told(
    own: Own, monkeypatch: pytest.MonkeyPatch, forward: str, says: str
) -> None:
    lines = ("from torch import nn", "class Net(nn.Module):", "    def forward(self, x):", forward)
    source = "\n".join(lines).replace(forward, f"        {forward}\nbuild = Net\n")
    with pytest.raises(BuildFailed, match=says):
        tried(own(source), monkeypatch)


def test_a_trial_names_the_sources_and_the_weights(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = GOOD.replace("def build", "def layers")
    own(layers, module="own_layers")
    source = "from own_layers import layers\ndef build():\n    return layers()\n"
    before = tried(own(source), monkeypatch)
    assert set(before.sources) == {"own_net", "own_layers"}
    assert tried(own(source), monkeypatch) == before, "a network of random weights has a seed"
    own(layers + "# edited\n", module="own_layers")
    edited = tried(own(source), monkeypatch)
    assert edited.state == before.state and edited.sources != before.sources
    assert edited.sources["own_net"] == before.sources["own_net"]
    other = saved(made(own(source)), "w.pt")
    assert tried(own(source), monkeypatch, other).state != before.state


def saved(net: nn.Module, name: str, wrap: Wrap = lambda state: state) -> Path:
    """The weights of ``net``, all of them sevenths, in a file of that name."""
    import torch

    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1 / 7)
    path = Path(name).resolve()
    if path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in net.state_dict().items()})
    elif path.suffix == ".safetensors":
        need(module="safetensors")
        from safetensors.torch import save_file

        save_file(net.state_dict(), path)
    else:
        torch.save(wrap(net.state_dict()), path)
    return path


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("w.pt", lambda state: state),
        ("w.npz", lambda state: state),
        ("w.safetensors", lambda state: state),
        ("w.pth", lambda state: {"epoch": 3, "model_state_dict": state}),
        ("w.bin", lambda state: {f"module.{key}": value for key, value in state.items()}),
    ],
)
def test_weights_are_taken_in_the_forms_that_training_leaves(
    own: Own, name: str, wrap: Wrap
) -> None:
    from assay.controller.variants.own_weights import load_weights

    reference = own()
    path = saved(made(reference), name, wrap)
    net = made(reference)
    load_weights(net, path)
    assert {round(value, 6) for p in net.parameters() for value in p.unique().tolist()} == {
        round(1 / 7, 6)
    }


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda state: {"0.weight": state["0.weight"]}, r"it lacks 1.weight, .* and 5 more"),
        (
            lambda state: {**state, "7.weight": state["1.bias"], "8.bias": state["7.bias"]},
            r"no 8.bias\n  7.weight is 16 in the file, 3×16 in the network",
        ),
        (lambda _state: [1, 2], "holds a list that is no state_dict"),
        (lambda _state: {"net": Path("/")}, "holds more than tensors, which could run any code"),
    ],
)
def test_weights_that_do_not_fit_are_told(own: Own, wrap: Wrap, says: str) -> None:
    from assay.controller.variants.own_weights import load_weights

    net = made(own())
    with pytest.raises(BuildFailed, match=says):
        load_weights(net, saved(net, "w.pt", wrap))


@pytest.mark.parametrize("name", ["w.pt", "w.npz", "w.safetensors"])
def test_a_weights_file_that_is_missing_or_damaged_is_told(own: Own, name: str) -> None:
    from assay.controller.variants.own_weights import load_weights

    if name.endswith("safetensors"):
        need(module="safetensors")
    net = made(own())
    with pytest.raises(NotFound, match=name):
        load_weights(net, Path(name))
    Path(name).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises((BuildFailed, BadInputs), match=name):
        load_weights(net, Path(name))


@pytest.mark.parametrize(
    ("use", "parameters"),
    [
        ("prune", {"macs_ratio": 0.6}),
        ("tucker2", {"macs_ratio": 0.6}),
        ("student", {"factory": "own_net:small"}),
    ],
)
def test_a_changed_network_is_rebuilt_from_its_factory(
    own: Own, use: str, parameters: dict[str, Any]
) -> None:
    import torch

    from assay.controller.variants.own_model import OwnModule

    source = GOOD + "def small():\n    return nn.Sequential(nn.Flatten(), nn.Linear(144, 3))\n"
    model = OwnModule(own(source), None)
    net = changed(model, use, **parameters)
    description = json.loads(json.dumps(model.describe(net)))
    again = model.restore(description)
    again.load_state_dict(net.state_dict())
    x = torch.rand(4, 1, 12, 12)
    assert torch.equal(again.eval()(x), net.eval()(x))
    assert net(x).shape == (4, 3)


def changed(model: Any, use: str, **parameters: Any) -> Any:
    """The model's network after one step, on data of 12 × 12 pixels."""
    from assay.controller.variants.steps import registered
    from assay.controller.variants.steps.base import NetworkStep, NetworkWork
    from assay.controller.variants.training import Samples
    from assay.core.preprocess import Preprocessing

    x = np.random.RandomState(0).randint(0, 255, (32, 12, 12)).astype(np.uint8)
    train = Samples(x, np.arange(32) % 3, Preprocessing(shape=(1, 12, 12), scale=1 / 255))
    work = NetworkWork(model.fresh((1, 12, 12), 3), None, model, train, 0, lambda _d, _t: None)
    step = registered()[use].model_validate(parameters)
    assert isinstance(step, NetworkStep)
    step.apply(work)
    return work.net


def test_a_network_that_cannot_be_rebuilt_is_refused(own: Own) -> None:
    import torch
    from torch import nn

    from assay.controller.variants.own_model import OwnModule, require_rebuildable

    model = OwnModule(own(), None)
    net = made(model.reference)
    require_rebuildable(model, net, torch.rand(1, 1, 12, 12))
    net.register_module("2", nn.Tanh())
    with pytest.raises(BuildFailed, match="2 has become a Tanh, which cannot be rebuilt"):
        require_rebuildable(model, net, torch.rand(1, 1, 12, 12))


@pytest.mark.parametrize("use", ["prune", "tucker2"])
def test_a_step_that_finds_nothing_to_do_says_so(own: Own, use: str) -> None:
    from assay.controller.variants.own_model import OwnModule

    model = OwnModule(own("from torch import nn\ndef build():\n    return nn.Flatten()"), None)
    with pytest.raises(BuildFailed, match=f"{use}: the network has no convolution and no dense"):
        changed(model, use, macs_ratio=0.5)


def depending_on(what: str) -> str:
    """A network whose forward asks for ``what``."""
    return (
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        f"        return super().forward(x + 1 if {what} else x)\n"
        "def build():\n"
        "    return Net(nn.Flatten(), nn.Linear(64, 3))\n"
    )


def exported(reference: Reference, path: Path) -> str:
    import torch

    from assay.controller.variants.export import to_onnx

    for module in ("onnxscript", "onnxslim", "onnxruntime"):
        need(module=module)
    return to_onnx(made(reference), torch.rand(1, 1, 8, 8), path)


def test_a_network_that_counts_its_samples_is_exported_for_one(own: Own, tmp_path: Path) -> None:
    reference = own(depending_on("len(x) == 2"))
    path = tmp_path / "net.onnx"
    assert exported(reference, path).endswith("batch 1: its code depends on the number of samples")
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 1, 8, 8]


def test_a_network_that_cannot_be_exported_is_told_with_the_cause(own: Own, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"cannot export it to ONNX: .*data-dependent"):
        exported(own(depending_on("x.sum() > 0")), tmp_path / "net.onnx")
