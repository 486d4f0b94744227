"""The file on the card: whether it was applied, and what is wrong in it."""

from __future__ import annotations

import asyncio

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.lifecycle.firstboot.model import Outcome, read_outcome
from appliance.core.model import CheckResult

HOW = "nothing to do; what the image reads is in docs/first-boot.md"


async def run(context: DoctorContext) -> CheckResult:
    """Read what came of it at this start."""
    return judge(await asyncio.to_thread(read_outcome, context.root / "run/prime-spark"))


def judge(outcome: Outcome | None) -> CheckResult:
    """What that means."""
    if outcome is None:
        return CHECK.absent("this machine was not started from our image", HOW)
    place = f"{outcome.file}:{outcome.line}" if outcome.line else outcome.file
    if outcome.wrong:
        more = f" (and {len(outcome.others)} more: prime-spark first-boot status)" if outcome.others else ""
        left = f"{more}; nothing of it was applied" if outcome.state == "broken" else ""
        return CHECK.failed(f"{place}: {outcome.message.rstrip('.')}{left}", outcome.next_step)
    if outcome.warnings:
        return CHECK.warning(
            f"{place}: {'; '.join(outcome.warnings)}", "carry that out on another computer, with the card in it"
        )
    if outcome.state == "none":
        return CHECK.ok("there is no first-boot file to apply")
    return CHECK.ok(f"{place} was applied" + (f"; the clock showed {outcome.clock}" if outcome.clock else ""))


CHECK = Check("first_boot", "First-boot file", run)
"""Read from /run only."""
