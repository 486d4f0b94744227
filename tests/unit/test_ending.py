"""A process in which something hangs ends all the same, and says what hung."""

from __future__ import annotations

import subprocess
import sys

import pytest

THREAD = "asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)"
TASK = "asyncio.create_task(deaf()); await asyncio.sleep(0)"
SCRIPT = """
import asyncio, contextlib, threading
from appliance import ending

async def deaf():
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

async def main():
    {work}
    return {code}

raise SystemExit(ending.run(main(), 0.2))
"""


def ended(work: str, code: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT.format(work=work, code=code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("work", [THREAD, TASK])
def test_what_hangs_keeps_no_process(work: str) -> None:
    done = ended(work, 0)
    assert done.returncode == 1
    assert "did not end by itself; its threads were:" in done.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_a_good_end_keeps_its_exit_code(code: int) -> None:
    done = ended("pass", code)
    assert (done.returncode, done.stderr) == (code, "")
