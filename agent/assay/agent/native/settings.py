"""How a session is opened: the same choices a Python session of the same runtime has."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True)
class LitertSettings:
    """``threads`` for the CPU accelerator (XNNPACK and the built-in kernels)."""

    threads: int = 1
