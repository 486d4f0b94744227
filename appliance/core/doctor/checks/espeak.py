"""espeak-ng, the voice that is always there."""

from __future__ import annotations

import re

from appliance.core.doctor import probe
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

FIX = "sudo apt-get install espeak-ng"


async def run(context: DoctorContext) -> CheckResult:
    """Ask the program for its version, which it tells only where it finds its voices."""
    answer = await probe.run(["espeak-ng", "--version"], context.environ)
    if answer.code is None and not answer.hung:
        return CHECK.absent("espeak-ng is not installed; without a voice of another engine, answers are only shown", FIX)
    version = re.search(r"text-to-speech: (\S+)\s+Data at: (\S+)", answer.out)
    if not answer.good or version is None:
        return CHECK.failed(
            f"espeak-ng does not tell its version: {answer.problem or answer.out[:60]}", f"{FIX} --reinstall espeak-ng-data"
        )
    return CHECK.ok(f"espeak-ng {version[1]}, voices in {version[2]}")


CHECK = Check("espeak", "espeak-ng", run)
