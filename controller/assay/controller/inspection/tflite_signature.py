"""Makes one signature of a .tflite file its main graph: an interpreter runs the first subgraph."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from assay.controller.inspection import tflite_graph
from assay.core.errors import BadInputs

_IDENTIFIER = b"TFL3"
_BUFFER_INSIDE = 1  # larger offsets point behind the flatbuffer, where repacking would lose them


def choose(source: Path, target: Path, signature: str) -> None:
    """Writes ``source`` to ``target`` with the subgraph of ``signature`` first.

    Nothing else changes: the other subgraphs and signatures stay, under their new numbers.
    :class:`BadInputs` where there is no such signature, the file is no .tflite file, or it keeps
    its weights outside of the flatbuffer (files beyond 2 GB).
    """
    data = source.read_bytes()
    tflite_graph.read(data)
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromPackedBuf(bytearray(data))
        _put_first(model, _subgraph(model, signature))
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BadInputs(f"damaged .tflite file: {error}") from error
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    target.write_bytes(bytes(builder.Output()))


def _subgraph(model: Any, signature: str) -> int:
    if any(buffer.offset > _BUFFER_INSIDE for buffer in model.buffers):
        raise BadInputs("its weights lie behind the flatbuffer; a signature cannot be chosen")
    held = {one.signatureKey.decode(): int(one.subgraphIndex) for one in model.signatureDefs or ()}
    if signature not in held:
        raise BadInputs(f"no signature {signature!r}: it has {', '.join(sorted(held)) or 'none'}")
    return held[signature]


def _put_first(model: Any, at: int) -> None:
    graphs = model.subgraphs
    graphs[0], graphs[at] = graphs[at], graphs[0]
    moved = {0: at, at: 0}
    for graph in graphs:
        for operator in graph.operators or ():
            for options in (operator.builtinOptions, operator.builtinOptions2):
                _renumber(options, moved)
    for one in model.signatureDefs:
        one.subgraphIndex = moved.get(one.subgraphIndex, one.subgraphIndex)


def _renumber(options: Any, moved: dict[int, int]) -> None:
    """Branches, bodies and calls name subgraphs in fields of these names."""
    for field, value in vars(options).items() if options is not None else ():
        if field == "subgraph" or field.endswith("ubgraphIndex"):
            setattr(options, field, moved.get(value, value))
        elif field.endswith("ubgraphIndices"):
            setattr(options, field, [moved.get(int(each), int(each)) for each in value])
