"""Actions on users, on the settings, and the first-run set-up."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from pydantic import Field, SecretStr

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.auth import Accounts
from appliance.core.model import Role, UserInfo
from appliance.errors import ConfigError

log = logging.getLogger(__name__)

NAME_LENGTH, PASSWORD_LENGTH = 256, 1024
"""Characters."""
RoleName = Literal["viewer", "operator", "admin"]


class UserName(Params):
    """One user."""

    name: str = Field(max_length=NAME_LENGTH, description="Name of the user")


class NewUser(Params):
    """A user to create."""

    name: str = Field(max_length=NAME_LENGTH, description="Name: a to z, 0 to 9, _ and -")
    role: RoleName = Field("viewer", description="What the user may do")
    password: SecretStr = Field(
        SecretStr(""),
        max_length=PASSWORD_LENGTH,
        description="Password, 8 characters at least; empty: only keys open the account",
    )


class UserRole(Params):
    """A user and a role."""

    name: str = Field(max_length=NAME_LENGTH, description="Name of the user")
    role: RoleName = Field(description="What the user may do")


class UserPassword(Params):
    """A user and a password."""

    name: str = Field(max_length=NAME_LENGTH, description="Name of the user")
    password: SecretStr = Field(max_length=PASSWORD_LENGTH, description="Password, 8 characters at least")


class UserKey(Params):
    """A user and a public key."""

    name: str = Field(max_length=NAME_LENGTH, description="Name of the user")
    public_key: str = Field(max_length=16384, description="One line of a .pub file, OpenSSH format")
    role: Literal["", "viewer", "operator", "admin"] = Field(
        "", description="What a login with this key may do at most; empty: whatever the user may"
    )


class UserFingerprint(Params):
    """A user and a key's fingerprint."""

    name: str = Field(max_length=NAME_LENGTH, description="Name of the user")
    fingerprint: str = Field(max_length=128, description="SHA256:… as `user list` shows it")


class FirstRun(Params):
    """What the first-run wizard asks."""

    admin: str = Field("admin", max_length=NAME_LENGTH, description="Name of the first administrator")
    password: SecretStr = Field(max_length=PASSWORD_LENGTH, description="Password, 8 characters at least")
    device_id: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Name of this appliance; empty keeps the present one"
    )


def user_actions(accounts: Accounts, changed: Callable[[], Awaitable[None]]) -> list[Action]:
    """Users and their keys; `changed` is awaited after each change."""

    async def listing(_: Invocation, __: NoParams) -> list[UserInfo]:
        return await accounts.users()

    async def add(_: Invocation, params: NewUser) -> UserInfo:
        user = await accounts.add(params.name, Role[params.role], params.password.get_secret_value())
        await changed()
        return user

    async def remove(_: Invocation, params: UserName) -> None:
        await accounts.remove(params.name)
        await changed()

    async def set_role(_: Invocation, params: UserRole) -> UserInfo:
        await accounts.set_role(params.name, Role[params.role])
        return await accounts.get(params.name)

    async def set_password(_: Invocation, params: UserPassword) -> None:
        await accounts.set_password(params.name, params.password.get_secret_value())

    async def add_key(_: Invocation, params: UserKey) -> dict[str, str]:
        return {
            "fingerprint": await accounts.add_key(params.name, params.public_key, Role[params.role] if params.role else None)
        }

    async def remove_key(_: Invocation, params: UserFingerprint) -> None:
        await accounts.remove_key(params.name, params.fingerprint)

    admin = functools.partial(Action, role=Role.admin)
    return [
        admin("user.list", "List users, their roles and keys", listing, query=True),
        admin("user.add", "Add a user", add, params=NewUser, positional=("name",)),
        admin("user.remove", "Remove a user", remove, params=UserName, positional=("name",), dangerous=True,
               confirm_text="Remove the user {name} and all their keys?", look_up=lambda params: accounts.get(params.name)),
        admin("user.set-role", "Change a user's role", set_role, params=UserRole, positional=("name", "role")),
        admin("user.set-password", "Change a user's password", set_password, params=UserPassword, positional=("name",)),
        admin("user.add-key", "Let a public key log in as a user", add_key, params=UserKey,
               positional=("name", "public_key")),
        admin("user.remove-key", "Forget a user's public key", remove_key, params=UserFingerprint,
               positional=("name", "fingerprint")),
    ]  # fmt: skip


def setup_action(
    accounts: Accounts, rename: Callable[[str], Awaitable[None]], changed: Callable[[], Awaitable[None]]
) -> Action:
    """The first-run set-up; `rename` writes the appliance's name into the configuration file."""

    async def complete(_: Invocation, params: FirstRun) -> dict[str, Any]:
        user = await accounts.add(params.admin, Role.admin, params.password.get_secret_value(), first=True)
        await changed()
        problem = await _rename(params.device_id, rename) if params.device_id else ""
        renamed = bool(params.device_id) and not problem
        return {"admin": user.name, "device_id": params.device_id, "renamed_at_next_start": renamed, "problem": problem}

    return Action(
        "setup.complete", "Create the first administrator and name the appliance", complete, params=FirstRun, role=Role.admin
    )


async def _rename(name: str, rename: Callable[[str], Awaitable[None]]) -> str:
    """Write the appliance's new name; returns why that failed, or "": the administrator is there either way."""
    try:
        await rename(name)
    except ConfigError as error:
        log.warning("the appliance keeps its name: %s", error)
        return str(error)
    return ""
