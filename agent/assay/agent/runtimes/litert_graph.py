"""Which operators of a .tflite run where, and in which type its weights are kept."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

_DELEGATE = "DELEGATE"
_REMEMBERING = {
    *("VAR_HANDLE", "SVDF", "RNN", "LSTM"),
    *(f"{way}DIRECTIONAL_SEQUENCE_{kind}" for way in ("UNI", "BI") for kind in ("RNN", "LSTM")),
}


class LiteRtGraph:
    """What an interpreter tells of its operators; versions that tell nothing give empty answers."""

    def __init__(self, interpreter: Any) -> None:
        ask = getattr(interpreter, "_get_ops_details", None)
        self._operators: list[dict[str, Any]] = list(ask()) if ask is not None else []
        self._outputs = [int(detail["index"]) for detail in interpreter.get_output_details()]
        self._tensors = {int(d["index"]): d for d in interpreter.get_tensor_details()}

    def placed(self) -> tuple[Counter[str], Counter[str]]:
        """Which operators the delegate took, and which still run one by one.

        The interpreter lists both the model's operators and the delegate's, so the latter are found
        walking back from the outputs and taking the delegate wherever it makes a tensor.
        """
        maker = self._makers()
        left: dict[int, str] = {}
        seen: set[int] = set()
        waiting = list(self._outputs)
        while waiting:
            tensor = waiting.pop()
            if tensor in seen or tensor not in maker:
                continue
            seen.add(tensor)
            operator = maker[tensor]
            if operator["op_name"] != _DELEGATE:
                left[operator["index"]] = operator["op_name"]
            waiting += [int(i) for i in operator["inputs"]]
        own = (operator["op_name"] for operator in self._operators)
        all_of_them = Counter(name for name in own if name != _DELEGATE)
        remaining = Counter(left.values())
        return all_of_them - remaining, remaining

    def precision(self) -> str:
        """The type most weights have, going by the second operand of operators that have one;
        empty where none has."""
        elements: Counter[str] = Counter()
        for operator in self._operators:
            operands = [int(i) for i in operator["inputs"] if int(i) != -1]
            if operator["op_name"] == _DELEGATE or len(operands) < 2:
                continue
            weight = self._tensors.get(operands[1])
            if weight is not None:
                size = math.prod(int(dim) for dim in weight["shape"])
                elements[weight["dtype"].__name__] += size
        return elements.most_common(1)[0][0] if elements else ""

    def remembers(self) -> bool:
        """Whether the model keeps values of its own from call to call."""
        return any(operator["op_name"] in _REMEMBERING for operator in self._operators)

    def _makers(self) -> dict[int, dict[str, Any]]:
        maker: dict[int, dict[str, Any]] = {}
        for operator in self._operators:
            for tensor in operator["outputs"]:
                if operator["op_name"] == _DELEGATE or int(tensor) not in maker:
                    maker[int(tensor)] = operator
        return maker
