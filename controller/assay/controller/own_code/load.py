"""Loads and calls the user's code; only ever in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from assay.controller.own_code.reference import Reference
from assay.core import digest
from assay.core.errors import AssayError, BuildFailed, NotFound


def load(reference: Reference) -> Callable[..., Any]:
    """What the reference names, imported, with its folder as the working directory.

    :class:`NotFound` where the module or the name is not there, :class:`BuildFailed` where
    importing goes wrong or the name cannot be called.
    """
    sys.dont_write_bytecode = True
    sys.path[:0] = [folder for folder in reference.folders if folder not in sys.path]
    if reference.folders:
        os.chdir(reference.folders[0])
    with told_plainly(f"importing {reference.module}"):
        module = _imported(reference)
    try:
        found: Callable[..., Any] = getattr(module, reference.name)
    except AttributeError:
        origin = getattr(module, "__file__", None) or reference.module
        raise NotFound(f"{reference}: {origin} has no {reference.name!r}") from None
    if not callable(found):
        raise BuildFailed(f"{reference} is a {type(found).__name__}, which cannot be called")
    return found


@contextlib.contextmanager
def told_plainly(doing: str, error_class: type[AssayError] = BuildFailed) -> Iterator[None]:
    """Whatever the user's code raises inside becomes an error that says what was done, what came of
    it and in which line; the traceback goes to the log of the build."""
    try:
        yield
    except AssayError:
        raise
    except SystemExit as error:
        raise error_class(
            f"{doing} called exit({'' if error.code is None else repr(error.code)}){_place(error)}"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it is, it is not ours
        traceback.print_exc()
        raise error_class(f"{doing} raised {_said(error)}{_place(error)}") from error


def source_digests(reference: Reference, modules: Iterable[str] = ()) -> dict[str, str]:
    """The digest of every source file imported so far from the reference's folders, and from its
    package and those of ``modules`` where they are installed, by module."""
    roots = [Path(folder) for folder in reference.folders]
    packages = {name.partition(".")[0] for name in (reference.module, *modules)}
    found = {}
    for name, module in sorted(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        top = name.partition(".")[0]
        if not origin or top in ("assay", "__main__") or not Path(origin).is_file():
            continue
        path = Path(origin).resolve()
        inside = any(path.is_relative_to(root) for root in roots) and not _is_library(origin)
        if inside or top in packages:
            found[name] = digest.of_file(path)
    return found


def _imported(reference: Reference) -> Any:
    try:
        return importlib.import_module(reference.module)
    except ModuleNotFoundError as error:
        if error.name and f"{reference.module}.".startswith(f"{error.name}."):
            places = ", ".join(reference.folders)
            raise NotFound(
                f"{reference}: no module {error.name!r} in {places}, nor among what is installed: "
                "run the command in the folder that holds it, or install it"
            ) from error
        raise


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _place(error: BaseException) -> str:
    """The last line of the user's that led there."""
    if isinstance(error, SyntaxError):
        return ""
    here = Path(__file__).parents[1]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not Path(frame.filename).is_relative_to(here)
    ]
    own = [f for f in frames if not _is_library(f.filename)] or frames
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _is_library(filename: str) -> bool:
    path = Path(filename)
    return "site-packages" in path.parts or path.is_relative_to(Path(os.__file__).parent)
