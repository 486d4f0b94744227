"""What the keys of the Sessions page do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.screens import sessions_view as view
from appliance.screens.dialogs import Choice
from appliance.screens.flows import DeclinedError, Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.users_acts import told_of
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from appliance.screens.sessions import Sessions

CREATED = ("name", "user", "role", "scopes", "days")


class Acts:
    """Dialogs and invocations of one Sessions page.

    Args:
        page: It.
    """

    def __init__(self, page: Sessions) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        if what == "create":
            self._flows.start(self._create(), what)
            return
        panel, key = self._page.chosen
        if not key:
            self._page.say(self._page.problem or "put the cursor on a session or a token", "warn")
        elif what == "log-out":
            self._flows.start(self._log_out(self._user_of(panel, key)), what)
        elif panel == "tokens":
            self._flows.start(self._revoke(key), what)
        else:
            self._flows.start(self._end(key), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        lines = self._lines(panel, key)
        if lines:
            self._flows.start(self._flows.read("Token" if panel == "tokens" else "Session", lines), panel)

    def _lines(self, panel: str, key: str) -> list[Line]:
        if panel == "tokens":
            token = next((each for each in self._page.tokens if each.name == key), None)
            return [] if token is None else view.token_lines(token)
        if key.startswith(view.CONSOLE):
            console = next((each for each in self._page.consoles if f"{view.CONSOLE}{each.session_id}" == key), None)
            return [] if console is None else view.console_lines(console)
        login = next((each for each in self._page.logins if f"{view.LOGIN}{each.session_id}" == key), None)
        return [] if login is None else view.login_lines(login)

    def _user_of(self, panel: str, key: str) -> str:
        if panel == "tokens":
            return next((each.user for each in self._page.tokens if each.name == key), "")
        consoles = {f"{view.CONSOLE}{each.session_id}": each.user for each in self._page.consoles}
        logins = {f"{view.LOGIN}{each.session_id}": each.user for each in self._page.logins}
        return {**consoles, **logins}.get(key, "")

    async def _end(self, key: str) -> None:
        """The action on consoles asks by itself."""
        if key.startswith(view.CONSOLE):
            await self._flows.do("session.close", {"session_id": key.removeprefix(view.CONSOLE)}, "the console is closed")
        else:
            session = key.removeprefix(view.LOGIN)
            text = f"End the login {session}? Its client has to log in again."
            await self._flows.confirm("api.session-revoke", "End a login of the API", text, "yes, end it")
            await self._flows.do("api.session-revoke", {"session_id": session}, "the login has ended")
        self._page.look()

    async def _revoke(self, name: str) -> None:
        text = f"Revoke the token {name}? Programs that use it are turned away at once."
        await self._flows.confirm("api.token-revoke", "Revoke a token", text, "yes, revoke it")
        await self._flows.do("api.token-revoke", {"name": name}, f"the token {name} is revoked")
        self._page.look()

    async def _log_out(self, user: str) -> None:
        text = f"End everything that {user} has open over SSH and the API?"
        choices = (("s", "consoles over SSH, logins of the API"), ("t", f"these, and {user}'s tokens of programs too"))
        answer = await self._page.app.push_screen_wait(Choice(f"Log {user} out", text, choices))
        if answer is None:
            raise DeclinedError
        args: dict[str, Any] = {"name": user, "tokens": answer == "t"}
        done = await self._page.console.invoke("user.log-out", args, confirm=True)
        self._page.say(f"ended of {user}: {told_of(done)}", "ok")
        self._page.look()

    async def _create(self) -> None:
        answer = await ask_for(self._page, "api.token-create", "A token for a program; its secret is shown once", CREATED)
        if answer is not None:
            self._page.choose(answer["name"])
            await self._flows.read(f"Token {answer['name']}", view.made(answer))
