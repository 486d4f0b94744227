"""Redis: a server to be had for memory tier 1."""

from __future__ import annotations

import re

from appliance.core.doctor import probe
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

OLDEST = 7
FIX = "sudo apt-get install redis-server"


async def run(context: DoctorContext) -> CheckResult:
    """Ask the program for its version."""
    answer = await probe.run(["redis-server", "--version"], context.environ)
    if answer.code is None and not answer.hung:
        return CHECK.absent("redis-server is not installed; memory tier 1 has no server to use", FIX)
    version = re.search(r"v=((\d+)[\d.]*)", answer.out)
    if not answer.good or version is None:
        return CHECK.failed(
            f"redis-server does not tell its version: {answer.problem or answer.out[:60]}", f"{FIX} --reinstall"
        )
    if int(version[2]) < OLDEST:
        return CHECK.warning(
            f"redis-server {version[1]}; {OLDEST} or newer is wanted", "upgrade to Debian 12 or newer, then: " + FIX
        )
    return CHECK.ok(f"redis-server {version[1]}")


CHECK = Check("redis", "Redis", run)
