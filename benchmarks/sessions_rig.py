"""Bare sessions of onnxruntime to compare with."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

THREADS = 2


def bare_session(path: str, *, spin: bool) -> Any:
    """A session with as many threads as ours.

    Args:
        path: The model.
        spin: Its threads spin while they wait, as is onnxruntime's default; the appliance forbids it: it heats an idle board.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def lower_quartile(seconds: Sequence[float]) -> float:
    """What else runs on the machine only ever adds time."""
    return statistics.quantiles(seconds, n=4)[0]
