"""What each extra adds to an installation, in MB on disk.

    python bench/runtimes/install_size.py [EXTRA ...]

Each set is installed into a folder of its own by pip, without bytecode; the first row is Assay
without any extra, the others tell what comes on top of it. EXTRA may be several, joined by commas.
Needs a package index.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXTRAS = ("agent", "onnxruntime", "litert", "ncnn", "controller", "models")


def installed_mb(requirement: str) -> tuple[float, int]:
    """MB and distributions of an installation."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "-qq", "--no-compile", "--target"]
        constraints = ["-c", str(REPOSITORY / "constraints.txt")]
        # pip also compares with what is installed elsewhere, which is no matter here.
        done = subprocess.run([*command, folder, *constraints, requirement], capture_output=True)
        if done.returncode:
            sys.exit(done.stderr.decode())
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        names = list(Path(folder).glob("*.dist-info"))
        return sum(path.stat().st_size for path in files) / 1e6, len(names)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", default=EXTRAS, metavar="EXTRA")
    extras = parser.parse_args().extras
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", folder]
        subprocess.run([*build, str(REPOSITORY)], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        base, distributions = installed_mb(str(wheel))
        print("| installed | MB | packages |\n|---|---|---|")
        print(f"| Assay, no extra | {base:.0f} | {distributions} |")
        for extra in extras:
            size, found = installed_mb(f"{wheel}[{extra}]")
            print(f"| + `{extra}` | + {size - base:.0f} | + {found - distributions} |")


if __name__ == "__main__":
    main()
