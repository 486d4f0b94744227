"""Assistant: talk with a language model about the appliance, and have it do what is confirmed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
from textual import events
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from appliance.core.assistant.model import ENDED, Said, Stage, Talk, TurnStatus
from appliance.core.console import Console
from appliance.core.state import Section
from appliance.errors import ApplianceError, NotFoundError
from appliance.screens import assistant_view as view
from appliance.screens.assistant_acts import Acts
from appliance.screens.assistant_said import LOOK, Message, Transcript, Words
from appliance.screens.page import Page
from appliance.screens.panelled import own_keys
from appliance.screens.widgets.lines import LineView

SHOWN = 8
"""Newest messages of a talk that stand on the page; each look at older ones shows as many more."""
SHARE = 4
"""An answer rests this many times as long as its last painting took: other consoles are painted meanwhile."""
BATCH = 0.12
"""Least seconds between two paintings of an answer that grows."""
PATIENCE = 10.0
"""Seconds that one look at an answer waits for more."""
OFFER = 1.0
"""The same while an action waits for its confirmation: its dialog opens as soon as no other one is open."""


REST, TYPING = "Enter: type a question", "Enter: ask; Esc: back to the keys"
"""What stands in the empty line."""


class Assistant(Page):
    """The talk, and the line to type into."""

    page = "assistant"
    sections = frozenset({Section.llm, Section.services})
    keys = (
        ("Enter", "Ask"), ("s", "Stop"), ("r", "Again"), ("n", "New"), ("h", "Talks"), ("m", "Model"), ("p", "Place"),
        ("e", "Edge only"), ("a", "Attach"), ("t", "Tools on or off"), ("f", "What is remembered about you"),
        ("c", "Send the live state along: where it matters, yes, no"), ("/", "Search in talks"),
        ("l", "A longer question, in an editor"), ("y", "Confirm what waits"),
        ("o", "Older messages"), ("x", "Write the talk into a file"),
        ("d", "Delete the talk"),
    )  # fmt: skip
    needs = MappingProxyType({key: "assistant.ask" for key, _ in keys})
    AUTO_FOCUS = "#talk"
    CSS = LOOK
    BINDINGS: ClassVar[list[BindingType]] = own_keys((
        ("enter", "type"), ("s", "stop"), ("r", "again"), ("n", "new"), ("h", "talks"), ("m", "model"), ("p", "place"),
        ("e", "edge"), ("a", "attach"), ("t", "tools"), ("c", "state"), ("f", "facts"), ("slash", "search"), ("l", "long"),
        ("y", "confirm"), ("o", "older"), ("x", "export"), ("d,delete", "delete"),
    ))  # fmt: skip

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.acts = Acts(self)
        self.talk: Talk | None = None
        self.wanted = view.Wanted()
        self.turn: TurnStatus | None = None
        """The answer that is written now."""
        self._live: Message | None = None
        self._began = 0.0
        self._loaded = False
        self._shown = SHOWN

    def body(self) -> Iterable[Widget]:
        """How it is asked, the talk, the line to type into."""
        yield LineView(id="bar")
        yield Transcript(id="talk")
        yield Input(placeholder=REST, id="typed")

    def show(self, sections: frozenset[Section]) -> None:
        """Show how it is asked; the newest talk at first."""
        line = self.query_one("#bar", LineView)
        lines = view.bar(self.talk, self.wanted, max(20, self.size.width - 1))
        line.styles.height = len(lines)
        line.set_lines(lines)
        if not self._loaded:
            self._loaded = True
            self.open("")
        elif self.talk is None and self._live is None:
            for each in self.query(".empty").results(Words):
                each.set_lines(view.empty(self.lacking))

    @property
    def lacking(self) -> list[Any]:
        """Why nobody can be asked."""
        return view.missing(self.console.get(Section.services).value or (), self.console.get(Section.llm).value)

    def show_ages(self) -> None:
        """For how long the answer is on its way."""
        if self.turn is not None and self._live is not None and self._live.is_mounted:
            self._live.set_foot(view.under_way(self.turn, time.monotonic() - self._began))

    def to_top(self) -> None:
        """To the first message."""
        self.query_one(Transcript).scroll_home(animate=False)

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.call_after_refresh(self.refresh_all)

    def open(self, talk: str) -> None:
        """Show a talk; empty for the newest one."""
        self._shown = SHOWN
        self._start(self._open(talk))

    def older(self) -> None:
        """Show more of the talk's earlier messages."""
        if self.turn is None and self.talk is not None and len(self.talk.said) > self._shown:
            self._shown += SHOWN
            self._start(self._show_talk(at_end=False))

    def begin(self) -> None:
        """A new talk."""
        self.talk, self.turn, self._live, self._shown = None, None, None, SHOWN
        self._start(self._show_talk())

    def _start(self, work: Any) -> None:
        self.run_worker(work, name="assistant", group="assistant", exclusive=True, exit_on_error=False)

    async def _open(self, talk: str, *, goes_on: bool = False) -> None:
        """Show a talk and the answer that is written in it; where it `goes_on`, its last question alone is new."""
        turn = ""
        try:
            found = await self.console.invoke("assistant.show", {"talk": talk})
            self.talk, turn = found["talk"], found["turn"]
        except NotFoundError:
            self.talk = None
        except ApplianceError as error:
            self.say(str(error), "bad")
        self.turn = self._live = None
        if goes_on and self.talk is not None:
            await self.query_one(Transcript).add(self._message(self.talk.said[-1]))
            self.show(self.sections)
        else:
            await self._show_talk()
        if turn and self.talk is not None:
            await self._follow(turn)

    async def _show_talk(self, *, at_end: bool = True) -> None:
        talk = self.talk
        if talk is None:
            widgets: list[Widget] = [Words(view.empty(self.lacking), classes="empty")]
        else:
            widgets = [Words([view.earlier(talk, self._shown)])] if view.earlier(talk, self._shown) else []
            widgets += [self._message(each) for each in talk.said[-self._shown :]]
        await self.query_one(Transcript).show(widgets, at_end=at_end and talk is not None)
        self.show(self.sections)

    def _message(self, said: Said) -> Message:
        agent = self.talk.agent if self.talk is not None else "assistant"
        name = self.console.actor.name if said.role == "user" else agent
        return Message(said, name, console=self.spark.caps.is_console)

    def ask(self, text: str) -> None:
        """Ask a question in this talk."""
        if self.turn is not None:
            self.say("an answer is being written; s stops it", "warn")
        elif text.strip():
            self._start(self._ask("assistant.ask", {"text": text, "talk": self.talk.talk if self.talk is not None else ""}))

    def again(self) -> None:
        """Have the last question answered anew."""
        if self.turn is not None or self.talk is None:
            self.say("an answer is being written; s stops it" if self.turn is not None else "there is no question yet", "warn")
        else:
            self._start(self._ask("assistant.again", {"talk": self.talk.talk}))

    async def _ask(self, action: str, args: dict[str, Any]) -> None:
        wanted = self.wanted
        way = {"model": wanted.model, "place": wanted.place, "edge_only": wanted.edge_only, "tools": wanted.tools}
        attached = {"picture": wanted.picture, "detection": wanted.detection} if action == "assistant.ask" else {}
        try:
            status = await self.console.invoke(action, {**args, **way, **attached, "state": wanted.state, "wait": False})
        except ApplianceError as error:
            self.say(str(error), "bad")
            self.acts.keep(args.get("text", ""))
            return
        self.wanted = replace(wanted, picture="", detection=False)
        await self._open(status.talk, goes_on=action == "assistant.ask" and self.talk is not None)

    async def _follow(self, turn: str) -> None:
        """Show an answer while it is written: what came since the last look at once."""
        self._began, at = time.monotonic(), 0
        self._live = live = self._message(Said(role="assistant", text="", time=time.time()))
        await self.query_one(Transcript).add(live)
        try:
            while True:
                patience = OFFER if self.turn is not None and self.turn.asked is not None else PATIENCE
                self.turn = status = await self.console.invoke(
                    "assistant.follow", {"turn": turn, "since": at, "wait": patience if self.turn is not None else 0}
                )
                began = time.monotonic()
                if status.text:
                    await live.append(status.text)
                    at = status.at
                self._show_news(live, status)
                if status.stage in ENDED and status.at <= at:
                    return
                await asyncio.sleep(max(BATCH, SHARE * (time.monotonic() - began)))
        except ApplianceError as error:
            self.say(str(error), "bad")
        finally:
            if self._live is live:
                self.turn = self._live = None
                self.acts.offered = ""

    def _show_news(self, live: Message, status: TurnStatus) -> None:
        if status.said is not None:
            live.set_foot(view.foot(status.said))
            if self.talk is not None:
                self.talk = msgspec.structs.replace(self.talk, said=(*self.talk.said, status.said))
            return
        live.set_foot(view.under_way(status, time.monotonic() - self._began))
        if status.asked is not None and status.stage is Stage.asking:
            self.acts.offer(status)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask what was typed."""
        text, event.input.value = event.value, ""
        self.set_focus(self.query_one("#talk"))  # a letter of the next question must not be the yes to what this one asks
        if self.turn is not None:
            event.input.value = text
        self.ask(text)

    def on_descendant_focus(self, _: events.DescendantFocus) -> None:
        """Say what Enter does now."""
        line = self.query_one("#typed", Input)
        line.placeholder = TYPING if line.has_focus else REST

    def on_key(self, event: events.Key) -> None:
        """Esc leaves the line; what stands in it stays."""
        if event.key == "escape" and isinstance(self.focused, Input):
            event.stop()
            self.set_focus(self.query_one("#talk"))

    def want(self, **changed: Any) -> None:
        """Ask otherwise from now on."""
        self.wanted = replace(self.wanted, **changed)
        self.show(self.sections)

    def action_do(self, what: str) -> None:
        """One of the page's own keys."""
        self.acts.do(what)
