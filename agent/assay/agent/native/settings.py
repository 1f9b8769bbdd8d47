"""How a session is opened: the same choices a Python session of the same runtime has."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from typing_extensions import Self

from assay.core.errors import RuntimeRejected
from assay.core.model import RuntimeSpec


class GraphLevel(enum.IntEnum):
    """onnxruntime's GraphOptimizationLevel; the values are the C API's."""

    DISABLED = 0
    BASIC = 1
    EXTENDED = 2
    ALL = 99


@dataclass(frozen=True, slots=True)
class OrtSettings:
    """Defaults are those of ``onnxruntime.SessionOptions()``, but for one thread.

    ``threads`` is intra_op_num_threads (0: as many as cores), ``inter_op_threads`` matters in
    parallel execution only, which is not offered. ``config`` are session configuration entries
    (``add_session_config_entry``) and win over what ``spinning`` sets.
    """

    threads: int = 1
    inter_op_threads: int = 1
    spinning: bool = True
    graph_level: GraphLevel = GraphLevel.ALL
    memory_arena: bool = True
    memory_pattern: bool = True
    config: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: RuntimeSpec) -> Self:
        """What the run asks for; its options are those of the Python session, so that the two are
        comparable: graph_optimization_level (disable, basic, extended, all), cpu_mem_arena and
        mem_pattern (0, 1). RuntimeRejected for any other."""
        options = {"graph_optimization_level": "all", "cpu_mem_arena": "1", "mem_pattern": "1"}
        for key, value in spec.options.items():
            if value not in _OPTIONS.get(key, ()):
                raise RuntimeRejected(f"onnxruntime option {key}={value} is not known")
            options[key] = value
        return cls(
            threads=spec.threads,
            spinning=spec.allow_spinning,
            graph_level=_LEVELS[options["graph_optimization_level"]],
            memory_arena=options["cpu_mem_arena"] == "1",
            memory_pattern=options["mem_pattern"] == "1",
        )


@dataclass(frozen=True, slots=True)
class LitertSettings:
    """``threads`` for the CPU accelerator (XNNPACK and the built-in kernels)."""

    threads: int = 1


_LEVELS: Mapping[str, GraphLevel] = {
    "disable": GraphLevel.DISABLED,
    "basic": GraphLevel.BASIC,
    "extended": GraphLevel.EXTENDED,
    "all": GraphLevel.ALL,
}
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "graph_optimization_level": tuple(_LEVELS),
    "cpu_mem_arena": ("0", "1"),
    "mem_pattern": ("0", "1"),
}
