"""Python's own part in a timed stretch: no collection, and a runtime's exceptions named."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from assay.agent.runtimes.base import refusal
from assay.core.errors import AssayError


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside; what exists is not looked at again by later ones."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def inference(runtime: str) -> Iterator[None]:
    """Turns whatever a raw call raises into :class:`RuntimeRejected` or :class:`WorkerOom`.

    Runtimes raise classes of their own that share no base but Exception, and the raw callable has
    no wrapper around it that could name them.
    """
    try:
        yield
    except (AssayError, MemoryError):
        raise
    except Exception as error:
        raise refusal(f"{runtime} failed to run the model", error) from error
