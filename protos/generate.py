"""Generates the Python code of ``assay.v1`` beside its .proto files.

Run with the pinned generator (``make protos`` makes a venv for it): grpcio-tools 1.70.0, whose code
loads on protobuf 5.29 to 7.x; a newer generator's code does not load on what devices still have.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def generate(out: Path) -> list[Path]:
    """Writes every generated file below ``out``; stubs of services only where there are any."""
    sources = sorted(ROOT.glob("assay/v1/*.proto"))
    services = [s for s in sources if "\nservice " in s.read_text()]
    _protoc(["--python_out", "--mypy_out"], sources, out)
    _protoc(["--grpc_python_out", "--mypy_grpc_out"], services, out)
    return sorted(p for p in out.glob("assay/v1/*_pb2*") if p.suffix in {".py", ".pyi"})


def _protoc(options: list[str], sources: list[Path], out: Path) -> None:
    names = [str(source.relative_to(ROOT)) for source in sources]
    quiet = [f"--mypy{kind}_opt=quiet" for kind in ("", "_grpc") if f"--mypy{kind}_out" in options]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *quiet]
    subprocess.run([*command, *(f"{option}={out}" for option in options), *names], check=True)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    for path in generate(target):
        print(path.relative_to(target))
