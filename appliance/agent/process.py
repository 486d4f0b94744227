"""One role as a process of its own: made, supervised, told about in the log and in a file, and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping

from appliance import config
from appliance.agent.report import Report
from appliance.agent.roles import Role, Surroundings, role_of
from appliance.core import logs
from appliance.core.access.elsewhere import open_secrets
from appliance.core.clock import SystemClock
from appliance.core.model import Health, ServiceStatus
from appliance.core.services import Supervisor
from appliance.core.state import LiveState
from appliance.core.supervision import Policy
from appliance.paths import Paths

log = logging.getLogger(__name__)

STOP = 8.5
"""Seconds in which the role ends."""
TELL = 2.0
"""Seconds between two reports in the file."""
LINE = 60.0
"""Seconds between two lines in the log while nothing changes."""


async def run(name: str, paths: Paths, environ: Mapping[str, str]) -> int:
    """Run a role until SIGTERM or SIGINT; returns the exit code.

    Raises:
        NotFoundError: There is no such role.
        ConfigError: A setting is wrong.
        StoreError: A secret cannot be read.
    """
    role = role_of(name)
    settings = config.load(paths, environ)
    paths.make()
    logs.configure(settings.log.level, settings.log.format, paths.logs / f"agent-{name}.log", stderr=True)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    clock = SystemClock()
    around = Surroundings(settings, paths, open_secrets(paths.secrets, environ, settings, clock), clock)
    policy = Policy(probe_interval=min(TELL, settings.health.check_interval_seconds), stop_deadline=STOP - 0.5)
    supervisor = Supervisor([role.make(around)], LiveState(clock), clock, policy, _changed)
    with Report(paths.run, name) as report:
        supervisor.start()
        log.info("role %s runs as process %d", name, os.getpid())
        await _tell(supervisor, report, stopping)
        log.info("role %s stops", name)
        await supervisor.stop(STOP)
    _say_end(role, supervisor.statuses()[0])
    return 0


async def _tell(supervisor: Supervisor, report: Report, stopping: asyncio.Event) -> None:
    """Keep the file and the log up to date until the role is asked to stop."""
    loop = asyncio.get_running_loop()
    next_line = loop.time() + LINE
    while not stopping.is_set():
        status = supervisor.statuses()[0]
        await asyncio.to_thread(report.write, status)
        if loop.time() >= next_line:
            next_line = loop.time() + LINE
            log.log(_level(status), "%s is %s: %s", status.name, status.health.value, status.reason)
        try:
            async with asyncio.timeout(TELL):
                await stopping.wait()
        except TimeoutError:
            continue


def _changed(_: ServiceStatus, after: ServiceStatus) -> None:
    step = f" Next: {after.next_step}" if after.next_step else ""
    log.log(_level(after), "%s is %s: %s%s", after.name, after.health.value, after.reason, step)


def _level(status: ServiceStatus) -> int:
    return logging.INFO if status.health is Health.healthy else logging.WARNING


def _say_end(role: Role, status: ServiceStatus) -> None:
    log.info("role %s has ended: %s", role.name, status.reason)
