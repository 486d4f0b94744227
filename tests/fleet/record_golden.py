"""Records what this machine answers into golden files: `python -m tests.fleet.record_golden NAME [SHELL …]`.

`python -m tests.fleet.record_golden --parse` writes the .json beside each .txt anew; read the difference before it is kept.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.fleet.facts.compound import Question

GOLDEN = Path(__file__).parent / "golden"
MARK = "5ec710a15ec710a15ec710a1"


def record(name: str, shell: list[str]) -> None:
    """Ask this machine for everything that is quick."""
    for kind in ("metrics", "host"):
        question = Question.of(kind, MARK)
        told = subprocess.run(shell, input=question.script, capture_output=True, check=True).stdout
        where = f"# Recorded with {' '.join(shell)}.\n".encode()
        (GOLDEN / f"{name}.{kind}.txt").write_bytes(where + told)


def parsed(path: Path) -> dict[str, Any]:
    """What a golden file says, as plain values; one that is no answer says why."""
    question = Question.of(path.suffixes[-2].removeprefix("."), MARK)
    answers = question.read(path.read_bytes())
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({"fields": answers.fields, "missing": answers.missing}))
    return told


def main() -> None:
    """See the module."""
    if sys.argv[1] != "--parse":
        record(sys.argv[1], sys.argv[2:] or ["sh"])
        return
    for path in sorted(GOLDEN.glob("*.txt")):
        text = msgspec.json.format(msgspec.json.encode(parsed(path), order="sorted"), indent=1)
        path.with_suffix(".json").write_bytes(text + b"\n")


if __name__ == "__main__":
    main()
