"""Parts of the Ansible collection as plain Python: they stand alone, without Ansible installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from tests.conftest import REPOSITORY

COLLECTION = REPOSITORY / "ansible"


def load(path: str) -> ModuleType:
    """The module in a file of the repository, e.g. ``ansible/plugins/filter/text.py``."""
    file = REPOSITORY / path
    name = "collection_" + Path(path).stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
