"""Programs that end soon."""

from __future__ import annotations

import subprocess


class ProgramFailedError(AssertionError):
    """A program ended with a fault; says what it wrote."""


def run(*command: str, limit: float = 300.0, stdin: bytes | None = None) -> str:
    """What a program wrote. Raises ProgramFailedError where it ends with another code than 0."""
    done = subprocess.run(command, capture_output=True, check=False, timeout=limit, input=stdin)
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        raise ProgramFailedError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    return done.stdout.decode(errors="replace")
