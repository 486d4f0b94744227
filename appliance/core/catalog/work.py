"""Actions on jobs, alerts, the audit and the log."""

from __future__ import annotations

import functools
from typing import Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.alerts.engine import ACTIVE
from appliance.core.alerts.service import AlertService
from appliance.core.audit import AuditLog, AuditVerdict
from appliance.core.jobs import Jobs
from appliance.core.logs import LogRing
from appliance.core.model import AlertState, JobState, Role
from appliance.core.state import LiveState, Section


class JobId(Params):
    """One job."""

    job_id: str = Field(max_length=64, description="Id of the job, or its last characters (4 at least)")


class AlertId(Params):
    """One alert."""

    alert_id: str = Field(max_length=256, description="Id of the alert, such as cpu:host")


class SilenceParams(Params):
    """Which rule, and for how long."""

    rule: str = Field(max_length=64, description="Name of the rule")
    minutes: float = Field(60, gt=0, le=7 * 24 * 60, description="Minutes")


class RuleName(Params):
    """One rule."""

    rule: str = Field(max_length=64, description="Name of the rule")


class Page(Params):
    """How many rows, and from where."""

    limit: int = Field(200, ge=1, le=10_000, description="Most rows")
    before: int | None = Field(None, description="Only rows with a lower number")


class LogQuery(Params):
    """Which lines of the log."""

    limit: int = Field(200, ge=1, le=2000, description="Most lines")
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("DEBUG", description="Lowest level")
    contains: str = Field("", max_length=256, description="Text that the line must contain")


def job_actions(jobs: Jobs) -> list[Action]:
    """Jobs: list, show, wait, cancel."""

    async def listing(_: Invocation, __: NoParams) -> Any:
        return list(jobs.all())

    async def show(_: Invocation, params: JobId) -> Any:
        return jobs.get(params.job_id)

    async def wait(_: Invocation, params: JobId) -> Any:
        return await jobs.wait(params.job_id)

    async def cancel(_: Invocation, params: JobId) -> Any:
        return await jobs.cancel(params.job_id)

    def brief(found: list[Any]) -> str:
        running = [job.name for job in found if job.state is JobState.running]
        return f"{len(running)} running, {len(found)} in all" + (f": {', '.join(running)}" if running else "")

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("job.list", "List jobs, newest first", listing, shortcut="j", brief=brief),
        query("job.show", "Show one job with its result", show, params=JobId, positional=("job_id",)),
        query("job.wait", "Wait until a job has ended", wait, timeout=86400, hidden=True, params=JobId, positional=("job_id",)),
        Action("job.cancel", "Cancel a job", cancel, params=JobId, positional=("job_id",)),
    ]


def alert_actions(alerts: AlertService, state: LiveState) -> list[Action]:
    """Alerts: list, rules, history, acknowledge, silence."""

    async def listing(_: Invocation, __: NoParams) -> Any:
        return list(state.get(Section.alerts).value or ())

    async def rules(_: Invocation, __: NoParams) -> Any:
        return list(state.get(Section.rules).value or ())

    async def history(_: Invocation, params: Page) -> Any:
        return await alerts.history(params.limit, params.before)

    async def acknowledge(call: Invocation, params: AlertId) -> Any:
        return await alerts.acknowledge(params.alert_id, call.actor.name)

    async def acknowledge_all(call: Invocation, _: NoParams) -> Any:
        firing = [alert for alert in state.get(Section.alerts).value or () if alert.state is AlertState.firing]
        return [await alerts.acknowledge(alert.alert_id, call.actor.name) for alert in firing]

    async def silence(call: Invocation, params: SilenceParams) -> Any:
        return await alerts.silence(params.rule, params.minutes * 60, call.actor.name)

    async def unsilence(call: Invocation, params: RuleName) -> None:
        await alerts.unsilence(params.rule, call.actor.name)

    def brief(found: list[Any]) -> str:
        active = [alert for alert in found if alert.state in ACTIVE]
        return "; ".join(f"{alert.alert_id} {alert.state.value}: {alert.message}" for alert in active) or "no alerts"

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("alert.list", "List alerts, active ones first", listing, shortcut="a", brief=brief),
        query("alert.rules", "List alert rules and what each last saw", rules),
        query("alert.history", "Show past changes of alerts", history, params=Page),
        Action("alert.acknowledge", "Acknowledge an alert", acknowledge, params=AlertId, positional=("alert_id",)),
        Action("alert.acknowledge-all", "Acknowledge all firing alerts", acknowledge_all, shortcut="k",
               brief=lambda done: f"{len(done)} acknowledged"),
        Action("alert.silence", "Silence an alert rule for some minutes", silence, params=SilenceParams, positional=("rule",)),
        Action("alert.unsilence", "End the silence of an alert rule", unsilence, params=RuleName, positional=("rule",)),
    ]  # fmt: skip


def audit_actions(audit: AuditLog) -> list[Action]:
    """The audit log: list, verify."""

    async def listing(_: Invocation, params: Page) -> Any:
        return await audit.entries(params.limit, params.before)

    async def verify(_: Invocation, __: NoParams) -> AuditVerdict:
        return await audit.verify()

    def brief(verdict: AuditVerdict) -> str:
        return f"{verdict.rows} rows, chain intact" if verdict.intact else f"BROKEN: {verdict.problem}"

    return [
        Action("audit.list", "List the audit log, newest first", listing, params=Page, query=True),
        Action("audit.verify", "Check the audit log's chain", verify, query=True, shortcut="u", brief=brief, timeout=120),
    ]


def log_actions(logs: LogRing) -> list[Action]:
    """The appliance's own log."""

    async def listing(_: Invocation, params: LogQuery) -> Any:
        order = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
        kept = set(order[order.index(params.level) :])
        found = [line for line in logs.lines() if line.level in kept and params.contains.lower() in line.message.lower()]
        return found[-params.limit :]

    return [Action("log.list", "Show the newest lines of the log", listing, params=LogQuery, query=True)]
