"""Actions on accounts and what they have open: who is locked, who is logged in, ending it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.model import Role

if TYPE_CHECKING:
    from appliance.core.access.accounts import Account
    from appliance.core.access.roster import Roster

NAME_LENGTH = 256
"""Characters."""


class AccountName(Params):
    """One account."""

    name: str = Field(max_length=NAME_LENGTH, description="Name of the user")


class LoggingOut(AccountName):
    """An account, and how much of it ends."""

    tokens: bool = Field(False, description="Revoke the tokens of programs in this name too")


def account_actions(roster: Callable[[], Roster]) -> list[Action]:
    """Accounts as a whole; adding and changing them is in `people`.

    Args:
        roster: Puts them together; made when it is first needed.
    """

    async def listing(_: Invocation, __: NoParams) -> list[Account]:
        return await roster().all()

    async def unlock(_: Invocation, params: AccountName) -> dict[str, Any]:
        return {"user": params.name, "was_locked": await roster().unlock(params.name)}

    async def log_out(_: Invocation, params: LoggingOut) -> dict[str, int]:
        return await roster().log_out(params.name, tokens=params.tokens)

    admin = functools.partial(Action, role=Role.admin, positional=("name",))
    return [
        Action("user.accounts", "List accounts: second factor, lock, last login, sessions, tokens", listing, query=True,
               role=Role.admin),
        admin("user.unlock", "Let a locked account log in again at once", unlock, params=AccountName),
        admin("user.log-out", "End all that a user has open: SSH, consoles over it, logins of the API", log_out,
              params=LoggingOut, dangerous=True,
              confirm_text="End everything that {name} has open? Who works there is cut off."),
    ]  # fmt: skip
