"""Statuses of updates as the fronts may meet them."""

from __future__ import annotations

import time

from msgspec.structs import replace

from appliance.core.lifecycle.update.model import (
    Outcome,
    OutcomeKind,
    Release,
    Slot,
    SlotState,
    Trial,
    TrialState,
    UpdateStatus,
    Waiting,
)

DAY = 86400.0
NOW = time.time()
A = Slot("A", SlotState.former, "1.1.0", 412 << 20, NOW - 40 * DAY, NOW - 40 * DAY)
B = Slot("B", SlotState.committed, "1.2.0", 418 << 20, NOW - 9 * DAY, NOW - 9 * DAY)
NEWER = Release("1.3.0", "arm64", "/mnt/nas/releases/prime-spark-1.3.0-arm64.raucb", 431 << 20, "0" * 64, NOW - 2 * DAY)
RUNS = UpdateStatus(
    "B", "B", "1.2.0", "arm64", (A, B), last=Outcome(OutcomeKind.committed, NOW - 9 * DAY, "1.1.0", "1.2.0", "slot B is well"),
    newest=NEWER, checked=NOW - 3600, source="/mnt/nas/releases", schedule="30 2 * * *",
)  # fmt: skip
WAITS = replace(RUNS, newest=None, slots=(replace(A, state=SlotState.trial, version="1.3.0"), B),
                trial=Trial(TrialState.waiting, "A", "1.3.0"))  # fmt: skip
TRIAL = replace(
    RUNS, booted="A", version="1.3.0", newest=None, slots=(replace(A, state=SlotState.trial, version="1.3.0"), B),
    trial=Trial(TrialState.running, "A", "1.3.0", 41.4, 60.0, 500.0),
    last=Outcome(OutcomeKind.installed, NOW - 300, "1.2.0", "1.3.0", "slot A is tried at the next start", "restart"),
)  # fmt: skip
HELD = replace(TRIAL, trial=replace(TRIAL.trial, steady=0.0, left=62.0, holds=(
    Waiting("kafka", "no broker answers", "see the network"), *(Waiting(f"s{number}", "it is down") for number in range(5)),
)))  # fmt: skip
FELL = replace(
    RUNS, newest=None, slots=(replace(A, state=SlotState.bad, version="1.3.0", problem="kafka: no broker answers"), B),
    last=Outcome(
        OutcomeKind.fell_back, NOW - 3 * DAY, "1.2.0", "1.3.0", "slot A was not kept: kafka: no broker answers", "take another."
    ),
)  # fmt: skip
ELSEWHERE = UpdateStatus(version="1.2.0")
