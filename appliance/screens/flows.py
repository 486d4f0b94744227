"""What takes more than one step: invoke with a confirmation, the palette, help, leaving, the first run."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.actions import ActionInfo
from appliance.core.model import Device
from appliance.core.state import Section
from appliance.errors import ActionError, ApplianceError, ConfirmationRequiredError
from appliance.screens.dialogs import Choice, Palette, Reader
from appliance.screens.forms import BESIDE, Done, FieldError, Fields, Submit
from appliance.screens.page import COMMON
from appliance.screens.people import People
from appliance.screens.tabs import ABOUT, LETTERS, TABS, key_name
from appliance.screens.themes import Role
from appliance.screens.values import layout
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from appliance.screens.app import SparkApp

log = logging.getLogger(__name__)


class DeclinedError(Exception):
    """The reader said no to a confirmation."""


class Flows:
    """Runs as workers of the App; one failing ends nothing else."""

    def __init__(self, app: SparkApp) -> None:
        self._app = app

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run a flow; only one at a time, so that no key opens two dialogs."""
        if any(worker.group == "flow" and not worker.is_finished for worker in self._app.workers):
            work.close()
            return
        self._app.run_worker(self._guarded(work), name=name, group="flow", exit_on_error=False)

    async def _guarded(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except DeclinedError:
            self.say("not confirmed, not done", "warn")
        except ApplianceError as error:
            self.say(str(error), "bad")
        except Exception as error:  # a fault of ours: the key must not seem dead, and the other pages go on
            log.exception("a key's work broke off")
            self.say(f"That broke off: {type(error).__name__}: {error}. The log has where (logs, Enter).", "bad")

    def say(self, text: str, role: Role = "text") -> None:
        """Show a message on the page."""
        if (page := self._app.page) is not None:
            page.say(text, role)

    async def invoke(self, name: str, args: dict[str, Any] | None = None) -> Any:
        """Invoke an action, asking first where it is dangerous. Raises ApplianceError, DeclinedError."""
        try:
            return await self._app.spark.invoke(name, args)
        except ConfirmationRequiredError as error:
            if await self._app.push_screen_wait(Choice("Confirm", error.message, (("y", "yes, do it"),))) != "y":
                raise DeclinedError from None
            return await self._app.spark.invoke(name, args, confirm=True)

    def may(self, name: str) -> bool:
        """Whether this actor's role reaches for an action."""
        return name in self._app.spark.allowed()

    async def confirm(self, name: str, title: str, text: str, yes: str) -> None:
        """Say what will happen and ask, but not whoever may not do it: the dispatcher says why. Raises DeclinedError."""
        if self.may(name) and await self._app.push_screen_wait(Choice(title, text, (("y", yes),))) != "y":
            raise DeclinedError

    async def do(self, name: str, args: dict[str, Any], done: str) -> Any:
        """Invoke and say what came of it."""
        result = await self.invoke(name, args)
        self.say(done, "ok")
        return result

    async def palette(self) -> None:
        """Offer every action that this actor may invoke, ask for its parameters, show its result."""
        actions = {action.name: action for action in self._app.spark.actions()}
        pages = {f"page.{page}": (page, f"Show {title}: {ABOUT[page]}") for _, page, title in TABS}
        name = await self._app.push_screen_wait(
            Palette(list(actions.values()), [(key, about) for key, (_, about) in pages.items()])
        )
        if name in pages:
            await self._app.action_show(pages[name][0])
        elif name is not None:
            await self._run(actions[name])

    async def run(self, name: str, title: str, **known: Any) -> None:
        """Ask for an action's parameters as its schema has them, invoke it, show its result.

        Args:
            name: Of the action.
            title: Of the form.
            known: Arguments that are not asked for.

        Raises:
            NotAuthorizedError: The reader's role does not reach.
        """
        action = self._app.spark.action(name)
        if action is None:
            await self.invoke(name, known)
        else:
            await self._run(action, title, known)

    async def _run(self, action: ActionInfo, title: str = "", known: Mapping[str, Any] = MappingProxyType({})) -> None:
        if action.name == "setup.complete":
            await self.first_run()
            return
        done: Done | None
        asked = {name: kind for name, kind in action.parameters.get("properties", {}).items() if name not in known}
        if asked:
            required = [name for name in action.parameters.get("required", []) if name in asked]
            schema = {**action.parameters, "properties": asked, "required": required}
            submit = functools.partial(self._submit_with, action.name, known)
            done = await self.form(title or action.summary, schema, submit=submit)
        else:
            done = Done(await self.invoke(action.name, dict(known)))
        if done is None:
            return
        result = msgspec.to_builtins(done.result, enc_hook=str)
        if isinstance(result, list | dict) and result:
            await self.show(action.summary, result)
        else:
            self.say(f"{action.name}: {'done' if result in (None, [], {}) else result}", "ok")

    async def _submit_with(self, name: str, known: Mapping[str, Any], values: dict[str, Any]) -> Any:
        return await self._submit(name, {**values, **known})

    async def _submit(self, name: str, values: dict[str, Any]) -> Any:
        try:
            return await self.invoke(name, values)
        except DeclinedError:
            raise ActionError("Not confirmed, not done.") from None

    async def form(
        self, title: str, schema: dict[str, Any], intro: Sequence[str] = (), submit: Submit | None = None
    ) -> Done | None:
        """Ask for values, and again while `submit` refuses them; None where the reader left."""
        done: Done | None = await self._app.push_screen_wait(Fields(title, schema, intro, submit))
        return done

    async def ask(
        self, title: str, properties: dict[str, Any], required: list[str], intro: list[str] | None = None
    ) -> dict[str, Any] | None:
        """Ask for values."""
        done = await self.form(title, {"properties": properties, "required": required}, intro or [])
        return done.result if done is not None else None

    async def fill_in(
        self, name: str, title: str, properties: dict[str, Any], intro: Sequence[str] = (), **known: Any
    ) -> tuple[dict[str, Any], Any] | None:
        """Ask for an action's arguments, all needed, until it takes them: (arguments, result), or None where the reader left.

        Whoever may not do it is told so before they type.

        Args:
            name: Of the action.
            title: Of the form.
            properties: What is asked for, as JSON Schema.
            intro: Lines above the fields.
            known: Further arguments.

        Raises:
            NotAuthorizedError: The reader's role does not reach.
        """
        if not self.may(name):
            await self.invoke(name, {})
        given: dict[str, Any] = {}

        async def submit(values: dict[str, Any]) -> Any:
            given.update(values)
            return await self._submit(name, {**known, **values})

        done = await self.form(title, {"properties": properties, "required": list(properties)}, intro, submit)
        return None if done is None else (given, done.result)

    async def read(self, title: str, lines: list[Line]) -> None:
        """Show a text."""
        await self._app.push_screen_wait(Reader(title, lines))

    async def show(self, title: str, value: Any) -> None:
        """Show a value of any kind."""
        await self.read(title, layout(msgspec.to_builtins(value, enc_hook=str), self._app.size.width - BESIDE))

    async def help(self) -> None:
        """What the keys of this page, and of all pages, do."""
        page = self._app.page
        offered = page.offered() if page is not None else ()
        own = [key_line(key, text) for key, text in offered]
        pages = [key_line(f"{key_name(key):<3} g {LETTERS[page]}", f"{title}: {ABOUT[page]}") for key, page, title in TABS]
        common = [
            key_line(key, text)
            for key, text in (
                *COMMON,
                ("g", "Go to a page: its letter, such as g t; g g is the top of a table"),
                ("w", "Who is connected"),
                ("[ ]", "Page before, next page"),
                ("Esc", "Leave a dialog"),
                ("Ctrl-L", "Paint anew"),
            )
        ]
        moves = [
            key_line("arrows", "Move in a table; PgUp, PgDn, Home, End too"),
        ]
        if "Enter" not in {key for key, _ in offered}:  # a page's own word for it tells more
            moves.append(key_line("Enter", "Open what the cursor is on"))
        lines: list[Line] = [
            (("This page", "title"),),
            *own,
            *moves,
            (),
            (("Everywhere", "title"),),
            *common,
            (),
            (("Pages", "title"),),
            *pages,
        ]
        note: list[Line] = [
            (),
            (("Every screen has a text twin: prime-spark status, services, alert list, job list, log list, …", "muted"),),
        ]
        await self.read("Help", [*lines, *note])

    async def people(self) -> None:
        """Who else is connected."""
        await self._app.push_screen_wait(People(self._app.spark))

    async def leave(self) -> None:
        """Close this console; where it started the appliance, ask what becomes of that."""
        if not self._app.owner:
            self._app.exit()
            return
        text = (
            "This console started the appliance. Its services can go on without a screen, with headless keys in this terminal."
        )
        choices = (("s", "stop the appliance"), ("h", "leave it running, headless here"))
        answer = await self._app.push_screen_wait(Choice("Quit", text, choices))
        if answer == "s":
            await self._app.spark.invoke("appliance.stop", {}, confirm=True)
        elif answer == "h":
            self._app.exit("headless")

    async def first_run(self) -> None:
        """Name the appliance and its first administrator."""
        devices: tuple[Device, ...] = self._app.spark.get(Section.devices).value or ()
        found = ", ".join(device.name for device in devices if device.health.value == "healthy") or "nothing"
        missing = ", ".join(device.name for device in devices if device.health.value == "absent") or "nothing"
        setup = self._app.spark.get(Section.setup).value or {}
        broken = [setup["problem"], f"Next: {setup['next_step']}", ""] if setup.get("problem") else []
        intro = [
            *broken,
            "Welcome. Nobody is administrator yet, so nobody can log in over SSH.",
            f"Found: {found}",
            f"Not found: {missing}",
            "Esc: later (command: setup: complete)",
            "",
        ]
        name = setup.get("host_name", "")
        properties = {
            "device_id": {"type": "string", "default": name, "description": "name of this appliance"},
            "admin": {"type": "string", "default": "admin", "description": "first administrator"},
            "password": {"type": "string", "format": "password", "description": "8 characters at least"},
        }

        async def complete(values: dict[str, Any]) -> Any:
            kept = {key: value for key, value in values.items() if (key, value) != ("device_id", name)}
            try:
                return await self._app.spark.invoke("setup.complete", kept)
            except ApplianceError as error:
                raise FieldError("admin", str(error)) if "user name" in error.message else error from None

        schema = {"properties": properties, "required": list(properties)}
        done = await self.form("First run", schema, intro, complete)
        if done is not None:
            await self._set_up(done.result)

    async def _set_up(self, result: dict[str, Any]) -> None:
        later = "; the new name holds from the next start" if result["renamed_at_next_start"] else ""
        text = f"{result['admin']} is administrator and may log in over SSH{later}"
        if not result["problem"]:
            self.say(text, "ok")
            return
        problem: list[Line] = [((f"{text}.", "ok"),), (), (("But the appliance keeps its name: ", "warn"),)]
        await self.read("First run", [*problem, ((result["problem"], "text"),)])


def key_line(key: str, text: str) -> Line:
    """One line of the help."""
    return ((f"  {key:<8}", "accent"), (text, "text"))


def scalar(value: Any) -> str:
    """One value as text."""
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
