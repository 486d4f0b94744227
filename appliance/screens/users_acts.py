"""What the keys of the Users page do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from appliance.core.access.accounts import Account
from appliance.screens import users_view as view
from appliance.screens.dialogs import Choice
from appliance.screens.flows import DeclinedError, Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.vpn_code import drawn, room

if TYPE_CHECKING:
    from appliance.screens.users import Users

ROLES = (
    ("v", "viewer: sees, changes nothing", "viewer"), ("o", "operator: does what days bring", "operator"),
    ("a", "admin: users, settings, everything", "admin"),
)  # fmt: skip
ADDED = ("name", "role", "password")
AROUND = (8, 6)
"""Columns and lines of the dialog around its text."""
CODE = {"code": {"type": "string", "description": "the six digits that the authenticator shows now"}}


class Acts:
    """Dialogs and invocations of one Users page.

    Args:
        page: It.
    """

    def __init__(self, page: Users) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        if what == "add":
            self._flows.start(self._add(), what)
        elif what == "factor" and self._page.refused:
            self._flows.start(self._own_factor(), what)
        else:
            self._with_one(what)

    def _with_one(self, what: str) -> None:
        each = self._page.account
        flows: dict[str, Callable[[Account], Coroutine[Any, Any, None]]] = {
            "role": self._role, "password": self._password, "factor": self._factor, "unlock": self._unlock,
            "log-out": self._log_out, "remove": self._remove,
        }  # fmt: skip
        if each is not None:
            self._flows.start(flows[what](each), what)
        else:
            self._page.say(self._page.problem or "put the cursor on a user", "warn")

    def open(self, name: str) -> None:
        """All of an account."""
        self._flows.start(self._show(name), "account")

    async def _show(self, name: str) -> None:
        users = {user.name: user for user in await self._page.console.invoke("user.list")}
        each = next((one for one in self._page.accounts if one.name == name), None)
        keys = view.key_lines(users[name]) if name in users else []
        facts = view.fact_lines(each, self._page.stamp.age)
        await self._flows.read(f"User {name}", [*facts, (), (("Public keys", "title"),), *keys])

    async def _done(self, name: str, args: dict[str, Any], told: str) -> None:
        await self._flows.do(name, args, told)
        self._page.look()

    async def _add(self) -> None:
        made = await ask_for(self._page, "user.add", "Add a user; without a password only keys open the account", ADDED)
        if made is not None:
            self._page.choose(made.name)
            self._page.say(f"{made.name} is added as {made.role.value}", "ok")

    async def _role(self, each: Account) -> None:
        text = f"{each.name} is {each.role.value}. With another role, what {each.name} has open ends."
        answer = await self._page.app.push_screen_wait(
            Choice(f"Role of {each.name}", text, tuple((key, told) for key, told, _ in ROLES))
        )
        role = next((name for key, _, name in ROLES if key == answer), "")
        if role:
            await self._done("user.set-role", {"name": each.name, "role": role}, f"{each.name} is {role} now")

    async def _password(self, each: Account) -> None:
        title = f"New password of {each.name}; what {each.name} has open ends"
        asked = {"password": {"type": "string", "format": "password", "description": "8 characters at least"}}

        async def submit(values: dict[str, Any]) -> bool:
            await self._page.console.invoke("user.set-password", {**values, "name": each.name})
            return True

        if await self._flows.form(title, {"properties": asked, "required": ["password"]}, submit=submit) is not None:
            self._page.say(f"{each.name} has another password", "ok")
            self._page.look()

    async def _unlock(self, each: Account) -> None:
        done = await self._flows.invoke("user.unlock", {"name": each.name})
        self._page.say(f"{each.name} {'may log in again' if done['was_locked'] else 'was not locked'}", "ok")
        self._page.look()

    async def _log_out(self, each: Account) -> None:
        text = f"End everything that {each.name} has open?"
        choices = (("s", "SSH, consoles over it, logins of the API"), ("t", f"these, and {each.name}'s tokens of programs too"))
        answer = await self._page.app.push_screen_wait(Choice(f"Log {each.name} out", text, choices))
        if answer is None:
            raise DeclinedError
        args = {"name": each.name, "tokens": answer == "t"}
        done = await self._page.console.invoke("user.log-out", args, confirm=True)
        self._page.say(f"ended of {each.name}: {told_of(done)}", "ok")
        self._page.look()

    async def _remove(self, each: Account) -> None:
        await self._done("user.remove", {"name": each.name}, f"{each.name} is removed")

    async def _factor(self, each: Account) -> None:
        if not each.second_factor:
            await self._enrol({"user": each.name})
            return
        actor = self._page.console.actor
        if actor.via == "ssh" and actor.name == each.name:  # one's own, from elsewhere: only with a code
            if await self._flows.fill_in("totp.remove", "Remove your second factor", CODE, user=each.name) is not None:
                self._page.say(f"{each.name} has no second factor now", "ok")
                self._page.look()
            return
        text = f"Without it, the password alone lets {each.name} in."
        if await self._page.app.push_screen_wait(Choice("Remove the second factor", text, (("y", "yes, remove it"),))) != "y":
            raise DeclinedError
        await self._done("totp.remove", {"user": each.name}, f"{each.name} has no second factor now")

    async def _own_factor(self) -> None:
        """Of somebody who may see no account but may guard their own."""
        await self._enrol({})

    async def _enrol(self, who: dict[str, str]) -> None:
        """The secret, the authenticator's first code, the recovery codes."""
        answer = await self._flows.invoke("totp.begin", who)
        app, full = self._page.spark, self._page.spark.caps.full_glyphs
        columns, lines = room(answer["qr"], full=full)
        fits = columns <= self._page.size.width - AROUND[0] and lines <= self._page.size.height - AROUND[1]
        code = drawn(answer["qr"], full=full, dark_on_light=app.look.name == "light") if fits else []
        short = "" if fits else f"A code for a camera would take {columns} x {lines} cells: use a larger terminal for it."
        user = answer["user"]
        await self._flows.read(f"Second factor of {user}", view.enrolment(answer, code, short))
        done = await self._flows.fill_in("totp.confirm", f"First code of {user}", CODE, user=user)
        if done is None:
            self._page.say(f"{user}'s second factor does not count: no code of it was given", "warn")
            return
        await self._flows.read(f"Recovery codes of {user}", view.recovery(done[1]["recovery_codes"]))
        self._page.say(f"{user} has a second factor now", "ok")
        self._page.look()


def told_of(done: dict[str, int]) -> str:
    """ "1 console, 2 logins"."""
    parts = [f"{count} {what.removesuffix('s') if count == 1 else what}" for what, count in done.items() if count]
    return ", ".join(parts) or "nothing was open"
