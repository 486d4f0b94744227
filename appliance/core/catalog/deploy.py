"""Actions on deployments: what would be done, doing it, how it is, going back, scaling, finding services."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
from typing import Any

import msgspec
from pydantic import Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from appliance.core.actions import Action, Invocation, Params
from appliance.core.deploy.desk import Desk, History, Planned
from appliance.core.deploy.hiding import without_values
from appliance.core.deploy.model import Deployed, DeployStatus, Endpoint, Rollout
from appliance.core.figures import counted
from appliance.core.model import Role
from appliance.errors import StoreError

SECRET = r"^deploy\.[a-z0-9][a-z0-9._-]{0,100}$"  # noqa: S105 the form of a name


class File(Params):
    """A specification. Its environment may hold what nobody else is to know: the audit has no word of it."""

    file: SecretStr = Field(
        max_length=400_000,
        description="The service's specification as TOML in Base64; on the command line: a file to read",
        json_schema_extra={"contentEncoding": "base64", "format": "file"},
    )

    @field_validator("file")
    @classmethod
    def _is_text(cls, file: SecretStr) -> SecretStr:
        try:
            base64.b64decode(file.get_secret_value(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise PydanticCustomError("file", "this is no text in Base64") from None
        return file

    @property
    def text(self) -> str:
        """Decoded."""
        return base64.b64decode(self.file.get_secret_value()).decode()


class Which(Params):
    """One service, or all."""

    name: str = Field("", max_length=31, description="Name of the service; all where it is not given")


class Name(Params):
    """One service."""

    name: str = Field(min_length=1, max_length=31, description="Name of the service")


class Past(Name):
    """How much of the past."""

    limit: int = Field(20, ge=1, le=500, description="Most rows of each kind")


class Back(Name):
    """Where to."""

    revision: int | None = Field(None, ge=1, description="To this revision; not given: give up what is under way, or one back")


class Scale(Name):
    """How many."""

    replicas: int = Field(ge=0, le=200, description="Replicas that are wanted")


class SecretValue(Params):
    """A secret that services may ask for."""

    name: str = Field(pattern=SECRET, max_length=110, description='Its name, such as "deploy.web.token"')
    value: SecretStr = Field(min_length=1, max_length=10_000, description="The secret")


def deploy_actions(desk: Desk) -> list[Action]:
    """All of deployments."""
    return [*_showing(desk), *_changing(desk), *_holding(desk)]


def brief(found: DeployStatus) -> str:
    """In one line."""
    ill = [each for each in found.services if each.health != "healthy"]
    rolling = [each.name for each in found.services if each.rollout is not None and each.rollout.rollout.ended is None]
    told = counted(len(found.services), "service")
    told += (
        f", {len(ill)} not well: {', '.join(each.name for each in ill[:3])}" if ill else ", all well" if found.services else ""
    )
    return told + (f"; being rolled out: {', '.join(rolling[:3])}" if rolling else "")


def _showing(desk: Desk) -> list[Action]:
    async def plan(_: Invocation, params: File) -> Planned:
        return await desk.plan(params.text)

    async def status(_: Invocation, params: Which) -> DeployStatus:
        now = desk.service.status()
        if not params.name:
            return now
        desk.keeper(params.name)
        mine: tuple[Deployed, ...] = tuple(each for each in now.services if each.name == params.name)
        return msgspec.structs.replace(now, services=mine)

    async def history(invocation: Invocation, params: Past) -> History:
        found = await desk.history(params.name, params.limit)
        if invocation.actor.role is Role.admin:  # who deploys it edits this text
            return found
        versions = await asyncio.to_thread(lambda: tuple(without_values(each) for each in found.versions))
        return msgspec.structs.replace(found, versions=versions)

    async def endpoints(_: Invocation, params: Name) -> dict[str, Any]:
        found: tuple[Endpoint, ...] = desk.service.discovery.endpoints(params.name)
        return {"service": params.name, "front": desk.service.discovery.front(params.name), "endpoints": found}

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("deploy.status", "Show deployed services, their replicas and rollouts", status, params=Which,
              positional=("name",), brief=brief),
        query("deploy.plan", "Say what deploying a specification would do; nothing is done", plan, params=File,
              role=Role.operator, timeout=60.0),
        query("deploy.history", "Show a service's versions, rollouts and events", history, params=Past, positional=("name",)),
        query("deploy.endpoints", "Say where a service answers now", endpoints, params=Name, positional=("name",)),
    ]  # fmt: skip


def _changing(desk: Desk) -> list[Action]:
    async def apply(invocation: Invocation, params: File) -> dict[str, Any]:
        rollout = await desk.apply(params.text, invocation.actor.name)
        if rollout is None:
            return {"changed": False, "reason": "it is deployed so already", "rollout": None}
        return {"changed": True, "reason": f"revision {rollout.to_revision} is rolled out", "rollout": rollout}

    async def rollback(invocation: Invocation, params: Back) -> Rollout:
        return await desk.rollback(params.name, invocation.actor.name, params.revision)

    async def remove(invocation: Invocation, params: Name) -> dict[str, Any]:
        return {"removing": params.name, "replicas": await desk.remove(params.name, invocation.actor.name)}

    async def look(params: Name) -> object:
        return desk.keeper(params.name)

    admin = functools.partial(Action, role=Role.admin, timeout=60.0)
    return [
        admin("deploy.apply", "Deploy a service, or a new version of it", apply, params=File),
        Action("deploy.rollback", "Give a rollout up, or go back to an earlier version", rollback, params=Back,
               positional=("name",), dangerous=True, look_up=look, timeout=60.0,
               confirm_text="Take {name} back? A rollout that is under way is given up; else an earlier version comes."),
        admin("deploy.remove", "Stop a service everywhere and forget it", remove, params=Name, positional=("name",),
              dangerous=True, look_up=look, confirm_text="Stop {name} on all nodes and forget its versions?"),
    ]  # fmt: skip


def _holding(desk: Desk) -> list[Action]:
    async def scale(invocation: Invocation, params: Scale) -> dict[str, Any]:
        before = await desk.scale(params.name, params.replicas, invocation.actor.name)
        return {"name": params.name, "before": before, "replicas": params.replicas}

    async def pause(invocation: Invocation, params: Name) -> Rollout:
        return await desk.pause(params.name, invocation.actor.name)

    async def resume(invocation: Invocation, params: Name) -> Rollout:
        return await desk.resume(params.name, invocation.actor.name)

    async def secret(_: Invocation, params: SecretValue) -> dict[str, str]:
        try:
            await asyncio.to_thread(desk.service.ground.secrets.put, params.name, params.value.get_secret_value().encode())
        except OSError as error:
            reason = f"The secret {params.name} is not kept: {error.strerror}."
            raise StoreError(reason, "see to room and rights of the secrets' directory.") from error
        return {"kept": params.name, "next_step": "services get it with their next version"}

    do = functools.partial(Action, positional=("name",), timeout=60.0)
    return [
        do("deploy.scale", "Want another number of replicas", scale, params=Scale, positional=("name", "replicas")),
        do("deploy.pause", "Hold a rollout where it is; what fails is taken back all the same", pause, params=Name),
        do("deploy.resume", "Let a rollout go on that was held", resume, params=Name),
        do("deploy.secret", "Keep a secret that services may ask for", secret, params=SecretValue, role=Role.admin),
    ]  # fmt: skip
