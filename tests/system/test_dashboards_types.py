"""The dashboards against Grafana's own published schema, by the TypeScript compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import need
from tests.panel_queries import dashboards

pytestmark = [pytest.mark.system, pytest.mark.slow]

PACKAGES = ("@grafana/schema@12.0.2", "typescript@5.8.3")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the schema's types and a compiler."""
    need(program="npm")
    root = tmp_path_factory.mktemp("types")
    got = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert got.returncode == 0, got.stderr
    return root


def module_of(board: dict[str, object]) -> str:
    """A dashboard as typed TypeScript.

    ``templating`` is left out: the schema types a variable's query narrower than Grafana reads it.
    JSON has no enumerations, so their uses are spelt as such; what an annotation tells the
    Prometheus plug-in is of that plug-in's type.
    """
    kept = json.loads(json.dumps(board))
    del kept["templating"]
    for annotation in kept["annotations"]["list"]:
        del annotation["target"]["expr"]
        for name in ("titleFormat", "textFormat", "tagKeys", "useValueForTime"):
            annotation.pop(name, None)
    text = json.dumps(kept, indent=1)
    text = text.replace('"mode": "absolute"', '"mode": ThresholdsMode.Absolute')
    return (
        "import { type Dashboard, ThresholdsMode } from '@grafana/schema';\n"
        f"export const board: Omit<Dashboard, 'templating'> = {text};\n"
        "export const used = ThresholdsMode;\n"
    )


def compiled(project: Path, files: list[Path]) -> str:
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"]
    done = subprocess.run(
        [str(project / "node_modules/.bin/tsc"), *options, *map(str, files)],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def test_every_dashboard_is_of_grafanas_type(project: Path) -> None:
    files = []
    for name, board in dashboards().items():
        path = project / f"{name}.ts"
        path.write_text(module_of(board))
        files.append(path)
    assert compiled(project, files) == ""


def test_a_wrong_dashboard_is_refused(project: Path) -> None:
    board = json.loads(json.dumps(dashboards()["fleet"]))
    board["panels"][0]["gridPos"] = "top"
    wrong = project / "wrong.ts"
    wrong.write_text(module_of(board))
    assert "'GridPos'" in compiled(project, [wrong])
    assert shutil.which("node")
