"""LiteRT delegates that are libraries on the device: a vendor's NPU or GPU, named by path.

Option ``delegate`` is the library's path (TensorFlow Lite's external delegate interface,
``tflite_plugin_create_delegate``), ``delegate.KEY`` an option handed to it. XNNPACK is not applied
beside it, so that what the delegate leaves is seen to run on the built-in kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.errors import RuntimeAbsent, RuntimeRejected

_OPTION = "delegate"


@dataclass(frozen=True, slots=True)
class ExternalDelegate:
    """A loaded delegate, by its library's name; it must live as long as its interpreter."""

    name: str
    delegate: Any


def external_delegate(library: Any, options: Mapping[str, str]) -> ExternalDelegate | None:
    """The delegate the options name, None where they name none.

    :class:`RuntimeRejected` for an option that is none of these, :class:`RuntimeAbsent` where the
    library is not here or gives no delegate on this device.
    """
    prefix = f"{_OPTION}."
    unknown = [key for key in options if key != _OPTION and not key.startswith(prefix)]
    if unknown or (options and _OPTION not in options):
        raise RuntimeRejected(
            "LiteRT takes the options delegate=PATH and delegate.KEY=VALUE; given: "
            + ", ".join(options)
        )
    if not options:
        return None
    path = Path(options[_OPTION])
    if not path.is_absolute() or not path.is_file():
        raise RuntimeAbsent(
            f"the delegate {path} is no file on this device (a full path is needed)"
        )
    handed = {key.removeprefix(prefix): v for key, v in options.items() if key != _OPTION}
    try:
        # LiteRT's own object for it complains at its end where the library cannot be opened.
        ctypes.CDLL(str(path))
        loaded = library.load_delegate(str(path), handed)
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        raise RuntimeAbsent(f"the delegate {path.name} does not load: {_reason(error)}") from error
    return ExternalDelegate(path.name.removeprefix("lib").partition(".")[0], loaded)


def _reason(error: Exception) -> str:
    """What the delegate itself said, which LiteRT puts last."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
