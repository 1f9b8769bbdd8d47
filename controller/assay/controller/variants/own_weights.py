"""Weights that the user brings: read without running code, and put into their network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.controller.datasets.npz import read_npz
from assay.core.errors import BuildFailed, NotFound, RuntimeAbsent

_NAMED_BY = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the weights in a checkpoint that holds more."""
_PARALLEL = "module."
_SHOWN = 4


def load_weights(net: nn.Module, path: Path) -> None:
    """Puts the weights of a .pt, .pth, .bin, .npz or .safetensors file into ``net``.

    :class:`NotFound` where there is no such file; :class:`BuildFailed` where it holds something
    else, or weights that are not this network's, with their names and shapes.
    """
    state = _read(path)
    if state and all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): value for name, value in state.items()}
    problems = _differences(net.state_dict(), state)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise BuildFailed(f"{path.name} does not fit the network:\n{listed}")
    try:
        net.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BuildFailed(f"{path.name} does not fit the network: {error}") from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise NotFound(f"{path}: no such file")
    if path.suffix == ".npz":
        return {name: torch.from_numpy(array) for name, array in read_npz(path).items()}
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BuildFailed(
            f"{path.name} holds more than tensors, which could run any code, or is no file of "
            "torch's: write it with torch.save(net.state_dict(), file)"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BuildFailed(f"{path.name} cannot be read by torch.load: {_first(error)}") from error
    return _state(path, loaded)


def _state(path: Path, loaded: Any) -> dict[str, Tensor]:
    for key in _NAMED_BY:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise BuildFailed(
            f"{path.name} holds a {type(loaded).__name__} that is no state_dict: write it with "
            "torch.save(net.state_dict(), file)"
        )
    return {str(name): value for name, value in loaded.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise RuntimeAbsent(f"{path.name} needs safetensors: pip install safetensors") from error
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise BuildFailed(f"{path.name} is no safetensors file: {_first(error)}") from error


def _differences(wanted: Mapping[str, Any], given: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in wanted if name not in given]
    strange = [name for name in given if name not in wanted]
    problems = []
    if missing:
        problems.append(f"it lacks {_some(missing)}")
    if strange:
        problems.append(f"the network has no {_some(strange)}")
    shapes = [
        f"{name} is {_shape(given[name])} in the file, {_shape(wanted[name])} in the network"
        for name in wanted
        if name in given and isinstance(wanted[name], Tensor) and not _fits(given, wanted, name)
    ]
    return [*problems, *shapes[:_SHOWN]]


def _fits(given: Mapping[str, Tensor], wanted: Mapping[str, Any], name: str) -> bool:
    """A scalar comes back from .npz with one axis, which torch takes."""
    shape = tuple(wanted[name].shape)
    return tuple(given[name].shape) in ((shape,) if shape else ((), (1,)))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape) or "a scalar"


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
