"""HAProxy: what directs the traffic of deployed services."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

from appliance.core.doctor import probe
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

DATABASE = "appliance.sqlite"
OLDEST = (2, 6)
FIX = "sudo apt-get install haproxy"
SHOWN = 5
"""Names that a result lists."""
DOCUMENTS = """SELECT name, document FROM deploy_services AS service JOIN deploy_revisions AS version
    ON version.service = name AND version.revision = CASE service.revision WHEN 0
        THEN (SELECT max(revision) FROM deploy_revisions WHERE service = name) ELSE service.revision END ORDER BY name"""
"""Of each service the version that is wanted; the newest one where none ever ran."""


async def run(context: DoctorContext) -> CheckResult:
    """Ask the program for its version, and the database who needs it."""
    answer = await probe.run([context.haproxy, "-v"], context.environ)
    fronts = await asyncio.to_thread(directed, context.home / DATABASE)
    if answer.code is None and not answer.hung:
        return CHECK.absent(f"{context.haproxy} is not installed; {_needed(fronts)}", FIX)
    version = re.search(r"version ((\d+)\.(\d+)[\w.+~-]*)", answer.out)
    if not answer.good or version is None:
        told = answer.problem or answer.out[:60]
        return CHECK.failed(f"{context.haproxy} does not tell its version: {told}", f"{FIX} --reinstall")
    if (int(version[2]), int(version[3])) < OLDEST:
        return CHECK.warning(f"HAProxy {version[1]}; 2.6 or newer is wanted", "upgrade to Debian 12 or newer, then: " + FIX)
    return CHECK.ok(f"HAProxy {version[1]}; " + (f"it directs {_names(fronts)}" if fronts else "no service wants it yet"))


def directed(database: Path) -> list[str]:
    """Deployed services that want their traffic directed; none where nothing was ever deployed. Blocks."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            return [name for name, document in connection.execute(DOCUMENTS) if "front" in tomllib.loads(document)]
    except (sqlite3.Error, tomllib.TOMLDecodeError):  # no database yet, an older one, or one that the disk's check tells about
        return []


def _needed(fronts: list[str]) -> str:
    if fronts:
        return f"nobody directs the traffic of {_names(fronts)}"
    return "services are deployed without directed traffic: neither blue-green nor canary"


def _names(fronts: list[str]) -> str:
    return ", ".join(fronts[:SHOWN]) + (" …" if len(fronts) > SHOWN else "")


CHECK = Check("haproxy", "HAProxy", run)
