"""Actions on updates of the image: look, check, install, go back, verify, restart."""

from __future__ import annotations

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.figures import counted
from appliance.core.lifecycle.update.model import Checked, TrialState, UpdateStatus
from appliance.core.lifecycle.update.service import UpdateService
from appliance.core.model import JobStatus, Role
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, InvalidArgumentsError

LONG = 5 * 3600.0
"""Seconds that somebody may wait for the end of a job."""
ASKING = 300.0
"""Seconds for a look at a source, or for RAUC."""
HERE = frozenset({"console", "socket"})
"""Fronts of whoever is at this machine, who may name a file of theirs."""


class Installing(Params):
    """An update."""

    what: str = Field("", max_length=4096, description="A version of the source, or the path of a bundle; empty: the newest")
    allow_older: bool = Field(False, description="It may be older than what runs, or the same")
    no_backup: bool = Field(False, description="Make no backup first")
    reboot: bool = Field(False, description="Restart into it when it is installed")
    wait: bool = Field(False, description="Wait until it is installed")


class GoingBack(Params):
    """The way back."""

    reboot: bool = Field(False, description="Restart into it at once")


class Verifying(Params):
    """A look at the slots."""

    wait: bool = Field(False, description="Wait until both were read")


def update_actions(service: UpdateService, state: LiveState) -> list[Action]:
    """All of the updates.

    Args:
        service: Does the work.
        state: Where the status is.
    """
    return [*_looks(service, state), *_changes(service)]


def _looks(service: UpdateService, state: LiveState) -> list[Action]:
    async def status(_: Invocation, __: NoParams) -> UpdateStatus:
        try:
            await service.desk.refresh(ask=True)
        except AbsentError:
            return state.get(Section.update).value or UpdateStatus()
        return service.desk.status

    async def check(_: Invocation, __: NoParams) -> Checked:
        return await service.desk.check()

    async def verify(call: Invocation, params: Verifying) -> JobStatus:
        job = await service.desk.verify(call.actor.name)
        return await service.desk.waited(job) if params.wait else job

    return [
        Action("update.status", "Show which system runs, which is on trial, what the last update came to", status, query=True,
               role=Role.viewer, brief=brief, shortcut="i"),
        Action("update.check", "Look whether the source has a newer release", check, role=Role.operator, timeout=ASKING,
               brief=lambda found: found.said),
        Action("update.verify", "Read both slots again, and compare them with what was written", verify, Verifying,
               Role.operator, timeout=LONG),
    ]  # fmt: skip


def brief(status: UpdateStatus) -> str:
    """In one line."""
    if status.booted is None:
        return "this machine was not started from our image"
    if status.doing:
        return f"under way: {status.doing}"
    runs = f"{status.version} runs from slot {status.booted}"
    if status.trial.state is TrialState.running:
        trial = status.trial
        held = counted(len(trial.holds), "service")
        return f"{runs}, on trial: {trial.steady or 0:.0f} s steady of {trial.needed or 0:.0f}, held by {held}"
    if status.trial.state is TrialState.waiting:
        return f"{runs}; {status.trial.version or 'another'} waits for a restart"
    return f"{runs}; {status.newest.version} is there" if status.newest is not None else runs


def _changes(service: UpdateService) -> list[Action]:
    async def install(call: Invocation, params: Installing) -> JobStatus:
        if params.what.startswith("/") and call.actor.via not in HERE:
            raise InvalidArgumentsError("A file may be named only at this machine.", "name a version, or do it there.")
        desk, first = service.desk, False if params.no_backup else None
        name = call.actor.name
        job = await desk.install(name, params.what, older=params.allow_older, backup=first, restart=params.reboot)
        return await desk.waited(job) if params.wait else job

    async def rollback(call: Invocation, params: GoingBack) -> dict[str, str]:
        done = await service.desk.rollback(call.actor.name)
        return {"done": done, "restart": await service.desk.restart() if params.reboot else ""}

    async def reboot(_: Invocation, __: NoParams) -> dict[str, str]:
        return {"done": await service.desk.restart()}

    return [
        Action("update.install", "Install an update, to be tried by the next start", install, Installing, Role.admin,
               dangerous=True, timeout=LONG, positional=("what",),
               confirm_text="The other slot is written. What runs stays as it is until the next start."),
        Action("update.rollback", "Have the next start boot the former system", rollback, GoingBack, Role.admin,
               dangerous=True, timeout=ASKING,
               confirm_text="The next start tries the former system; an update that waits for its start is not tried."),
        Action("update.reboot", "Restart this machine, into the update where one waits", reboot, role=Role.admin,
               dangerous=True, timeout=ASKING, confirm_text="This machine is restarted now."),
    ]  # fmt: skip
