"""The report: one HTML file about a sweep that opens without a network, for years."""

from __future__ import annotations

import time
from pathlib import Path

from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import load_sweep
from assay.controller.report.evidence import gather
from assay.controller.report.markdown import markdown
from assay.controller.report.page import render
from assay.controller.store.base import Store
from assay.core.cas import ContentStore


def build_report(
    store: Store,
    blobs: ContentStore,
    sweep: str,
    *,
    now_ns: int | None = None,
    force: bool = False,
) -> str:
    """The report of a sweep (by name or id) as HTML; :class:`NotFound` where there is none. With
    ``force`` unlike conditions are compared too."""
    data = load_sweep(store, sweep)
    summary = summarise(data, force=force)
    evidence = gather(summary, data, blobs)
    return render(summary, data, evidence, (now_ns or time.time_ns()) // 1_000_000_000)


def build_markdown(store: Store, sweep: str, *, force: bool = False) -> str:
    """The report of a sweep as Markdown; :class:`NotFound` where there is none."""
    data = load_sweep(store, sweep)
    return markdown(summarise(data, force=force), data)


def write_report(store: Store, blobs: ContentStore, sweep: str, path: Path) -> int:
    """Writes the report to ``path``, whole or not at all; returns its size in bytes. A name that
    ends in ``.md`` gives Markdown, any other HTML."""
    if path.suffix == ".md":
        body = build_markdown(store, sweep).encode()
    else:
        body = build_report(store, blobs, sweep).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(body)
    partial.replace(path)
    return len(body)
