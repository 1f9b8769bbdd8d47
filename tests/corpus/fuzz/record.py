"""Writes the inputs that every decoder is tried with first.

    .venv/bin/python -m tests.corpus.fuzz.record

What is called ``found-*`` once broke something: it was added by hand and stays.
"""

from __future__ import annotations

from tests.corpus.fuzz.decoders import DECODERS, HERE


def record() -> None:
    """Replaces every input that is not called ``found-*``."""
    for name, decoder in DECODERS.items():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if not path.name.startswith("found-"):
                path.unlink()
        for each, data in decoder.seeds().items():
            (folder / each).write_bytes(data)


if __name__ == "__main__":
    record()
