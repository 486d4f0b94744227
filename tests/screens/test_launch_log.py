"""What a start tells the log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.launch import farewell

CHILD = """
import os
from appliance import launch

async def mode(settings, where, ring, environ):
    print("\\n".join(f"{line.level} {line.message}" for line in ring.lines()))
    return 0

raise SystemExit(launch._locked(os.environ, mode, on_held=None, stderr=False))
"""


@pytest.mark.parametrize(
    ("given", "told"), [({"AIRFLOW_PORT": "here"}, "WARNING set, but not read by this version: AIRFLOW_PORT\n"), ({}, "\n")]
)
def test_variables_without_effect_are_named_at_the_start(home: Path, given: dict[str, str], told: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "AIRFLOW_PORT"} | given
    done = subprocess.run([sys.executable, "-c", CHILD], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, told), done.stderr


def test_keys_are_offered_only_where_a_terminal_is() -> None:
    """A terminal that was hung up has no keys to press."""
    master, slave = os.openpty()
    try:
        assert "? lists the keys" in farewell(slave)
        os.close(master)
        assert "?" not in farewell(slave)
    finally:
        os.close(slave)
