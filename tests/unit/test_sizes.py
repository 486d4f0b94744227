"""Files and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FILE = 400
FUNCTION = 50
"""Lines."""


def too_long(path: Path) -> Iterator[str]:
    text = path.read_text()
    if (lines := len(text.splitlines())) > FILE:
        yield f"{path}: {lines} lines, {FILE} at most"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION:
                yield f"{path}:{node.lineno} {node.name}: {lines} lines, {FUNCTION} at most"


def test_no_file_and_no_function_is_too_long() -> None:
    files = sorted((Path(__file__).parents[2] / "appliance").rglob("*.py"))
    assert len(files) > 100
    assert [said for path in files for said in too_long(path)] == []
