"""The contracts on imports bite: a page or a session that reaches too far is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import appliance

REPOSITORY = Path(appliance.__file__).parents[1]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy of the package with two files that reach too far."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(REPOSITORY / "appliance", copy / "appliance", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    (copy / "appliance" / "screens" / "stray.py").write_text("import appliance.core.store\nimport appliance.settings\n")
    strays = "import appliance.core.jobs\nimport appliance.screens.overview\nimport appliance.verbs.render\n"
    (copy / "appliance" / "session" / "stray.py").write_text(strays)
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"], cwd=copy, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode != 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "stray",
    [
        "appliance.screens.stray -> appliance.core.store",
        "appliance.screens.stray -> appliance.settings",
        "appliance.session.stray -> appliance.core.jobs",
        "appliance.session.stray -> appliance.screens.overview",
        "appliance.session.stray -> appliance.verbs.render",
    ],
)
def test_a_stray_import_is_named(report: str, stray: str) -> None:
    assert stray in report


def test_nothing_else_is_named(report: str) -> None:
    arrows = {line.strip() for line in report.splitlines() if " -> " in line}
    assert [line for line in arrows if ".stray" not in line] == []
