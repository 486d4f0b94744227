"""Work that is killed in the midst, as by a cut of the power."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

CHANGES = ("rename", "replace", "fsync", "mkdir", "unlink", "pwrite", "ftruncate", "chown")
"""Functions of `os` that change a disk."""


def killed_at(step: int, work: Callable[[], object], changes: Sequence[str] = CHANGES) -> bool:
    """Do it in a child that is killed at its nth change of a disk; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = step

        def cut(real: Callable[..., Any]) -> Callable[..., Any]:
            def change(*args: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **named)

            return change

        for name in changes:
            setattr(os, name, cut(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
