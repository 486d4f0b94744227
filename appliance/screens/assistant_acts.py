"""What the keys of the Assistant page do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Input

from appliance.core.assistant.model import Asked, TurnStatus
from appliance.errors import ApplianceError
from appliance.screens import assistant_view as view
from appliance.screens import format as f
from appliance.screens.dialogs import Choice
from appliance.screens.editor import Editor
from appliance.screens.flows import Flows
from appliance.screens.picking import Pick

if TYPE_CHECKING:
    from appliance.screens.assistant import Assistant

AUTO = "auto"
STATES = {None: True, True: False, False: None}
ABOUT_FACTS = (
    ("l", "look at it"), ("a", "add a fact"), ("p", "set your profile"), ("f", "forget a fact"), ("x", "forget all"),
)  # fmt: skip
PATH = {"picture": {"type": "string", "description": "path of a picture on this machine"}}
WORDS = {"search": {"type": "string", "description": "words of a title or of a text"}}
FACT = {"text": {"type": "string", "description": "what to remember about you"}}
PROFILE = {"text": {"type": "string", "description": "who you are, how answers should be; empty for nothing"}}


class Acts:
    """Dialogs and invocations of one Assistant page.

    Args:
        page: It.
    """

    def __init__(self, page: Assistant) -> None:
        self._page = page
        self.offered = ""
        """Call whose confirmation was asked for."""

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        page = self._page
        at_once = {
            "type": lambda: page.set_focus(page.query_one("#typed")), "again": page.again, "new": page.begin,
            "older": page.older,
            "place": self._place, "edge": self._edge, "tools": lambda: page.want(tools=not page.wanted.tools),
            "state": lambda: page.want(state=STATES[page.wanted.state]), "confirm": self._confirm_now,
        }  # fmt: skip
        if what in at_once:
            at_once[what]()
            return
        flow = {
            "stop": self._stop, "talks": self._talks, "model": self._model, "attach": self._attach, "facts": self._facts,
            "search": self._search, "long": self._long, "export": self._export, "delete": self._delete,
        }[what]  # fmt: skip
        self._flows.start(flow(), what)

    def keep(self, text: str) -> None:
        """Put a question back that could not be asked."""
        line = self._page.query_one("#typed", Input)
        if text and not line.value and "\n" not in text:
            line.value = text

    # -- confirmations -------------------------------------------------------------------------------------------------

    def offer(self, status: TurnStatus) -> None:
        """Ask for what an answer waits for, once; where another dialog is open, at the next look."""
        if status.asked is not None and status.asked.call != self.offered:
            self._flows.start(self._confirm(status.turn, status.asked), "confirm")

    def _confirm_now(self) -> None:
        turn = self._page.turn
        if turn is None or turn.asked is None:
            self._page.say("nothing waits for a confirmation")
        else:
            self._flows.start(self._confirm(turn.turn, turn.asked), "confirm")

    async def _confirm(self, turn: str, asked: Asked) -> None:
        self.offered = asked.call
        text = view.asked_text(asked)
        if len(text) > view.LONG:
            await self._flows.read("The assistant asks: read it whole", [((text, "text"),)])
            text = f"{text[: view.LONG]}… ({len(text) - view.LONG} characters more; Esc to decline)"
        choices = (("y", "yes, do it"), ("n", "no, go on without it"))
        answer = await self._page.spark.push_screen_wait(Choice("The assistant asks", text, choices))
        args = {"turn": turn, "call": asked.call, "allow": answer == "y", "wait": False}
        await self._page.console.invoke("assistant.confirm", args)

    # -- how it is asked -----------------------------------------------------------------------------------------------

    def _place(self) -> None:
        page, places = self._page, view.PLACES
        page.want(place=places[(places.index(page.wanted.place) + 1) % len(places)])

    def _edge(self) -> None:
        page = self._page
        if page.talk is not None and page.talk.edge_only:
            page.say("this talk stays in the house for good; n begins another one", "warn")
        else:
            page.want(edge_only=not page.wanted.edge_only)

    async def _model(self) -> None:
        rows: dict[str, str] = {AUTO: "as the settings have it"}
        for each in await self._page.console.invoke("llm.models"):
            about = f"for {each.stands_for} ({each.place})" if each.stands_for else f"{each.endpoint} ({each.place})"
            rows[each.name] = f"{rows[each.name]}, {about}" if each.name in rows else about
        page = self._page
        picked = await page.spark.push_screen_wait(Pick("Model", list(rows.items()), [page.wanted.model or AUTO]))
        if picked:
            page.want(model="" if picked[0] == AUTO else picked[0])

    async def _attach(self) -> None:
        page = self._page
        choices = (("p", "a picture of this machine"), ("d", "the newest detection"), ("n", "nothing"))
        answer = await page.spark.push_screen_wait(Choice("Attach", "What goes along with the next question?", choices))
        if answer == "p":
            given = await self._flows.ask("Attach a picture", PATH, ["picture"])
            if given is not None:
                page.want(picture=given["picture"], detection=False)
        elif answer is not None:
            page.want(picture="", detection=answer == "d")

    async def _long(self) -> None:
        text = await self._page.spark.push_screen_wait(Editor("A question", "", is_json=False))
        if text:
            self._page.ask(text)

    async def _stop(self) -> None:
        turn = self._page.turn
        if turn is None:
            self._page.say("no answer is being written")
        else:
            await self._page.console.invoke("assistant.stop", {"turn": turn.turn})

    # -- talks ---------------------------------------------------------------------------------------------------------

    async def _talks(self, search: str = "") -> None:
        found = await self._page.console.invoke("assistant.history", {"search": search})
        rows = view.talk_rows(found.talks)
        if not rows:
            self._page.say("no talk has these words" if search else "there is no talk yet", "warn")
            return
        gone = f", {found.dropped} older ones went" if found.dropped else ""
        title = f"Talks: {len(rows)} of {found.limit}{gone}"
        picked = await self._page.spark.push_screen_wait(Pick(title, [(name, about) for name, (_, about) in rows.items()]))
        if picked:
            self._page.open(rows[picked[0]][0])

    async def _search(self) -> None:
        given = await self._flows.ask("Search in talks", WORDS, ["search"])
        if given is not None:
            await self._talks(given["search"])

    async def _export(self) -> None:
        if (talk := self._page.talk) is None:
            self._page.say("there is no talk to write")
            return
        found = await self._page.console.invoke("assistant.export", {"talk": talk.talk, "save": True})
        self._page.say(f"written: {found}", "ok")

    async def _delete(self) -> None:
        if (talk := self._page.talk) is None:
            self._page.say("there is no talk to delete")
            return
        await self._flows.do("assistant.delete", {"talk": talk.talk}, "deleted")
        self._page.begin()

    # -- what is remembered --------------------------------------------------------------------------------------------

    async def _facts(self) -> None:
        page = self._page
        known = await page.console.invoke("assistant.facts")
        count = sum(len(each.facts) for each in known)
        told = f"{f.counted(count, 'fact')} about you."
        answer = await page.spark.push_screen_wait(Choice("What is remembered", told, ABOUT_FACTS))
        if answer == "l":
            await self._flows.read("What is remembered about you", view.remembered(known))
        elif answer == "a":
            await self._flows.fill_in("assistant.remember", "Remember a fact", FACT)
        elif answer == "p":
            present = next((each.profile for each in known if each.agent == "shared"), "")
            given = await self._flows.ask("Your profile", {"text": {**PROFILE["text"], "default": present}}, [])
            if given is not None:
                await page.console.invoke("assistant.profile", given)
        elif answer == "f":
            await self._forget(view.fact_rows(known))
        elif answer == "x":
            await self._flows.confirm("assistant.forget", "Forget all", "Profile and facts go for good.", "yes, do it")
            found = await page.console.invoke("assistant.forget", {"fact": "all"})
            page.say(f"forgotten: {f.counted(found['forgotten'], 'fact')}", "ok")

    async def _forget(self, rows: dict[str, tuple[str, str]]) -> None:
        if not rows:
            raise ApplianceError("No fact is remembered.", "a adds one.")
        names = [(text, agent) for text, (_, agent) in rows.items()]
        picked = await self._page.spark.push_screen_wait(Pick("Forget", names))
        if picked:
            await self._page.console.invoke("assistant.forget", {"fact": rows[picked[0]][0]})
            self._page.say("forgotten", "ok")
