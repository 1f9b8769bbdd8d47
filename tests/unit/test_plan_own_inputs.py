"""Variants that bring their inputs need no dataset, and labelled results are final."""

from __future__ import annotations

from dataclasses import replace

from assay.controller.planning.cells import cell_key
from assay.controller.planning.plan import holds
from assay.core.model import InputSpec, Reason, Verdict, VerdictKind
from tests.planning import plan, record


def test_a_cells_key_knows_state_and_how_values_were_made() -> None:
    run = next(c.run for c in plan().cells if not c.run.canary)
    plain = cell_key(run, "d")
    inputs: InputSpec = run.inputs
    for other in (replace(inputs, state={"h": "h_out"}), replace(inputs, made_json="{}")):
        assert cell_key(replace(run, inputs=other), "d") != plain


def test_results_that_are_only_labelled_hold() -> None:
    made = plan()
    result = record(made.rounds[0].runs[0], VerdictKind.VALID).result
    assert holds(result)
    labels = (Reason("synthetic_input", False, ""), Reason("outputs_nonfinite", False, ""))
    for reasons, final in (
        (labels, True),
        ((*labels, Reason("drift", False, "")), False),
        ((), False),
    ):
        assert holds(replace(result, verdict=Verdict(VerdictKind.SUSPECT, reasons))) is final
