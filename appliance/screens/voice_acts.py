"""What the keys of the Voice page do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.voice.model import Reply, Stage, Utterance
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.dialogs import Choice
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.picking import Pick
from appliance.screens.voice_told import utterance_lines
from appliance.screens.voice_view import OUTCOMES
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from appliance.screens.voice import Voice

TEST_SECONDS = 3.0
"""Length of a test recording."""
AROUND = 4
"""Cells of a dialog beside its text."""
MODES = (
    ("e", "edge-only", "edge-only: neither sound nor words leave the house"),
    ("c", "cloud", "cloud: services and models outside may be asked, up to the day's cap"),
)
ALL = "all of them"


class Acts:
    """Dialogs and invocations of one Voice page.

    Args:
        page: It.
    """

    def __init__(self, page: Voice) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        if what == "listen":
            self._start_listening()
            return
        work = {
            "cancel": self._cancel, "mute": self._mute, "test": self._test, "say": self._say, "ask": self._ask,
            "privacy": self._privacy, "engines": self._engines, "tune": self._tune, "forget": self._forget,
        }[what]  # fmt: skip
        if what == "cancel":  # also while a flow waits for what it ends
            self._page.run_worker(self._guarded(work()), name=what, group=what, exit_on_error=False)
        else:
            self._flows.start(work(), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        status = self._page.status
        if status is None:
            return
        if panel == "heard":
            found = next((each for each in status.utterances if each.utterance_id == key), None)
            if found is not None:
                room = self._page.size.width - AROUND
                self._flows.start(self._flows.read("Utterance", utterance_lines(found, room, self._page.spark.glyphs)), panel)
            return
        rows: dict[str, Any] = {each.phrase: each for each in status.wake} if panel == "wake" else {}
        rows |= {f"{each.kind}:{each.name}": each for each in status.engines} if panel == "engines" else {}
        if key in rows:
            self._flows.start(self._flows.show("Wake word" if panel == "wake" else "Engine", rows[key]), panel)

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except ApplianceError as error:
            self._page.say(str(error), "bad")

    # -- listen --------------------------------------------------------------------------------------------------------

    def _start_listening(self) -> None:
        page = self._page
        if any(worker.group == "listen" and not worker.is_finished for worker in page.workers):
            page.say("it listens already; Esc cancels")
            return
        page.run_worker(self._guarded(self._listen()), name="listen", group="listen", exit_on_error=False)

    async def _listen(self) -> None:
        status = self._page.status
        if status is not None and status.stage in {Stage.speaking, Stage.following}:  # whoever presses wants to speak
            await self._page.console.invoke("voice.cancel")
        self._page.say("speak now; Esc cancels", "accent")
        heard: Utterance = await self._page.console.invoke("voice.listen")
        text = f'"{heard.words}": ' if heard.words else ""
        self._page.say(f"{text}{heard.reply or heard.outcome.value}", OUTCOMES[heard.outcome])

    async def _cancel(self) -> None:
        status = self._page.status
        if status is None or status.stage in {Stage.absent, Stage.idle, Stage.muted}:
            return
        done = await self._page.console.invoke("voice.cancel")
        self._page.say("ended" if done["cancelled"] else "nothing was under way")

    async def _mute(self) -> None:
        status = self._page.status
        microphone = status.microphone if status is not None else None
        muted = not (microphone is not None and microphone.muted)
        done = "the microphone gives nothing any more" if muted else "the microphone is open"
        await self._flows.do("voice.mute", {"muted": muted}, done)

    # -- try it --------------------------------------------------------------------------------------------------------

    async def _test(self) -> None:
        self._page.say(f"speak: {TEST_SECONDS:.0f} s are recorded", "accent")
        await self._flows.invoke("voice.record", {"seconds": TEST_SECONDS})
        self._page.say("this is what was heard", "accent")
        await self._flows.do("voice.play", {}, "recorded, and played back")

    async def _say(self) -> None:
        if await ask_for(self._page, "voice.say", "Say aloud", ("text",)) is not None:
            self._page.say("said", "ok")

    async def _ask(self) -> None:
        reply: Reply | None = await ask_for(self._page, "voice.ask", "Ask, as if it was spoken", ("text", "aloud"))
        while reply is not None and reply.expects:
            reply = await self._go_on(reply)
        if reply is None:
            return
        room = self._page.size.width - AROUND
        if len(reply.text) < room and "\n" not in reply.text:
            self._page.say(reply.text or reply.outcome.value, OUTCOMES[reply.outcome])
            return
        lines: list[Line] = [((line, "text"),) for line in reply.text.splitlines()]
        await self._flows.read(f"Answer ({reply.source})", lines)

    async def _go_on(self, reply: Reply) -> Reply | None:
        """Give what an answer waits for; leaving the dialog is a no."""
        if reply.expects == "confirm":
            answer = await self._page.app.push_screen_wait(Choice("Confirm", reply.text, (("y", "yes"),)))
            text = "yes" if answer == "y" else "no"
        else:
            kind = {"text": {"type": "string", "description": "what is missing"}}
            values = await self._flows.ask("Ask, as if it was spoken", kind, ["text"], [reply.text])
            text = values["text"] if values is not None else "cancel"
        found: Reply = await self._page.console.invoke("voice.ask", {"text": text})
        return found

    # -- set it --------------------------------------------------------------------------------------------------------

    async def _privacy(self) -> None:
        if not self._flows.may("voice.privacy"):
            await self._flows.invoke("voice.privacy", {"mode": "edge-only"})
        status = self._page.status
        now = status.privacy if status is not None else "unknown"
        keys = tuple((key, told) for key, _, told in MODES)
        answer = await self._page.app.push_screen_wait(Choice("Privacy", f"What may leave the house; now: {now}.", keys))
        mode = next((mode for key, mode, _ in MODES if key == answer), None)
        if mode is not None:
            await self._flows.do("voice.privacy", {"mode": mode}, f"privacy is {mode}")

    async def _engines(self) -> None:
        self._page.say("looking at every engine")
        found = await self._flows.invoke("voice.engines")
        self._page.open_panel("engines")
        ill = [each for each in msgspec.to_builtins(found) if each["health"] != "healthy"]
        told = "all engines are well" if not ill else f"{len(ill)} of {len(found)} engines are not well"
        self._page.say(told, "warn" if ill else "ok")

    async def _tune(self) -> None:
        if not self._flows.may("voice.tune"):
            await self._flows.invoke("voice.tune", {})
        found = msgspec.to_builtins(await self._flows.invoke("voice.parameters"))
        rows = {each["name"]: each for each in found}
        picked = await self._pick("Parameter of the array", [(name, parameter_text(each)) for name, each in rows.items()])
        if picked is None:
            return
        chosen = rows[picked]
        asked = await ask_for(
            self._page, "voice.tune", f"{picked}: {parameter_text(chosen)}", ("value",), {"name": picked},
            {"value": chosen.get("value")} if chosen.get("value") is not None else {},
        )  # fmt: skip
        if asked is not None:
            self._page.say(f"{picked} is set", "ok")

    async def _forget(self) -> None:
        if not self._flows.may("voice.forget"):
            await self._flows.invoke("voice.forget", {})
        found = msgspec.to_builtins(await self._flows.invoke("voice.recordings"))
        if not found:
            self._page.say("no recording is kept")
            return
        names = [(each["key"], f"{f.clock(each['time'])} {each['words']}") for each in found]
        picked = await self._pick("Forget a recording", [(ALL, f"{len(names)} recordings"), *names])
        if picked is None:
            return
        await self._flows.do("voice.forget", {"key": "all" if picked == ALL else picked}, "forgotten")

    async def _pick(self, title: str, names: list[tuple[str, str]]) -> str | None:
        picked = await self._page.spark.push_screen_wait(Pick(title, names))
        return picked[0] if picked else None


def parameter_text(each: dict[str, Any]) -> str:
    """A parameter's value, and what it may be."""
    least, most = each.get("least"), each.get("most")
    span = f" ({least:g} to {most:g})" if least is not None and most is not None else ""
    value = each.get("value")
    return f"{'not read' if value is None else format(value, 'g')}{span}"
