"""A wheelhouse for the hosts of the tests, and ones that hold another version of Assay."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.system.hosts.lab import cache_directory


def make_wheelhouse(python: str, machine: str) -> Path:
    """What `make wheelhouse` makes for hosts like these; dependencies are kept between runs."""
    out = cache_directory() / "wheelhouse"
    targets = [f"{role}:{python}:{machine}" for role in ("agent", "controller")]
    subprocess.run(
        [sys.executable, REPOSITORY / "packaging/wheelhouse.py", "--out", out, *targets],
        check=True,
        capture_output=True,
        text=True,
    )
    return out


def another_version(
    wheelhouse: Path, out: Path, version: str, *, role: str = "agent", broken: bool = False
) -> Path:
    """A wheelhouse whose bundle for ``role`` holds Assay as ``version``; a ``broken`` one can be
    installed and asked for its version, and dies as soon as it is run."""
    out.mkdir()
    manifest = json.loads((wheelhouse / "manifest.json").read_text())
    (name,) = (name for name in manifest["bundles"] if name.startswith(f"{role}-"))
    source = wheelhouse / manifest["bundles"][name]["file"]
    with tarfile.open(source) as old, tarfile.open(out / source.name, "w") as new:
        for entry in old:
            data = old.extractfile(entry)
            assert data is not None
            content = data.read()
            if entry.name.startswith("assay_fleet-"):
                content = _renumbered(content, manifest["version"], version, broken)
                entry.name = entry.name.replace(manifest["version"], version)
                entry.size = len(content)
            new.addfile(entry, io.BytesIO(content))
    sha256 = hashlib.sha256((out / source.name).read_bytes()).hexdigest()
    bundles = {name: {"file": source.name, "sha256": sha256}}
    (out / "manifest.json").write_text(json.dumps({"version": version, "bundles": bundles}))
    return out


def _renumbered(wheel: bytes, before: str, after: str, broken: bool) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel)) as old, zipfile.ZipFile(written, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(("core/version.py", ".dist-info/METADATA", ".dist-info/RECORD")):
                content = content.replace(before.encode(), after.encode())
            if broken and name in (
                "assay/agent/plane/serve.py",
                "assay/controller/server/serve.py",
            ):
                content = b'raise RuntimeError("broken on purpose")\n'
            new.writestr(name.replace(f"-{before}.dist-info", f"-{after}.dist-info"), content)
    return written.getvalue()
