"""The process ends, also where something in it does not."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any

LAST = 1.0
"""Seconds that tasks and threads have after everything was stopped."""


def run(work: Coroutine[Any, Any, int], last: float = LAST) -> int:
    """Run `work` on a new loop in this thread, as asyncio.run does, and bound what comes after it.

    asyncio waits without an end for tasks that ignore their cancellation, and the interpreter for threads of executors:
    a disk or a library that hangs would keep the process. What is acknowledged is on disk by then.

    Args:
        work: Returns the exit code.
        last: Seconds; see LAST.
    """
    with asyncio.Runner() as runner:
        code = runner.run(work)
        guard = threading.Timer(last, _give_up, (code,))
        guard.daemon = True
        guard.start()
    return code


def _give_up(code: int) -> None:
    stuck = sorted(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())
    sys.stderr.write(f"error: the process did not end by itself; its threads were: {', '.join(stuck)}\n")
    sys.stderr.flush()
    os._exit(code or 1)
