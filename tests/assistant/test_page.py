"""The Assistant page on a console and on a wide terminal: streaming, confirmations, keys, what is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.core.assistant.model import Asked, Stage, TurnStatus
from appliance.core.model import Role
from appliance.screens import assistant_said
from appliance.screens import assistant_view as view
from appliance.screens.glyphs import Caps, Colours, unsafe
from tests.assistant.conftest import Talker, Upstreams, ask, do
from tests.screens.conftest import Seen
from tests.screens.test_pages import COLOURS, printed
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
ANSWER = """## Two things

- `memory` is **degraded**
  - look at the cable

1. restart it

| node | state |
|---|---|
| nas | gone |

> A quote.

```sh
prime-spark status
```

\x1b]52;c;evil\x07 see https://example.org \N{GRINNING FACE}
"""


async def type_in(seen: Seen, text: str) -> None:
    """A question, typed and sent."""
    await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "talk", 20)
    await seen.shows("Enter: type a question")
    seen.session.feed(b"\r")
    await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "typed", 20)
    await seen.shows("Enter: ask; Esc: back")
    seen.session.feed(text.encode())
    await wait_for(lambda: getattr(seen.app.focused, "value", "") == text, 20)
    seen.session.feed(b"\r")


async def test_a_talk_with_its_tools_on_a_console(appliance: Upstreams) -> None:
    edge = Talker()
    async with appliance(edge) as bench:
        seen = bench.open(PLAIN)
        await seen.press("gh", "Enter, and type a question")
        edge.says.append(tuple(ANSWER[at : at + 9] for at in range(0, len(ANSWER), 9)))
        await type_in(seen, "What is wrong with my fleet?")
        await seen.shows("From: edge (edge), llama3.2:latest: edge-first")
        await seen.shows("Sources: alerts")
        await seen.shows("nothing left the house")
        await seen.press("gg", "What is wrong with my fleet?")
        await seen.press("\x1b[H", "look at the cable")

        edge.wants.append(("service__restart", {"name": "power"}))
        await type_in(seen, "Restart the service power, please")
        await seen.shows('service.restart: name = "power"')
        await seen.press("n", "service.restart declined")
        await seen.shows("2 rounds")
        edge.wants.append(("service__restart", {"name": "power"}))
        await seen.press("r", "The assistant asks")
        await seen.press("y", "service.restart done")
        audit = await bench.invoke("audit.list")
        assert [each.action for each in audit].count("service.restart") == 2, "begun and ended, once"  # type: ignore[attr-defined]

        await seen.press("h", "Talks: 1 of 200")
        await seen.press("\x1b", "Enter Ask")
        await seen.press("n", "A new talk")
        data = bytes(seen.channel.written)
        assert b"\x1b]52" not in data, "nothing that a model writes steers the terminal"
        assert unsafe(printed(data)) == set()
        assert not COLOURS.search(data.decode())
        await seen.end()


async def test_an_answer_grows_is_stopped_and_shown_in_parts(appliance: Upstreams, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = Talker()
    async with appliance(edge) as bench:
        talk = ""
        for number in range(6):
            talk = (await ask(bench, f"Question number {number}", talk=talk)).talk
        seen = bench.open()
        await seen.press("gh", "Question number 5")
        await seen.press("\x1b[H", "4 earlier messages")
        await seen.press("o", "Question number 0")
        edge.script.append("hang-mid")
        await type_in(seen, "Why?")
        await seen.shows("s stops it")
        await wait_for(lambda: seen.display.count("The sky is blue.") == seen.display.count("The sky") - 1, 20)
        await seen.press("2", "Detail")
        await seen.press("gh", "s stops it")  # it is written on while nobody looks
        await seen.press("s", "stopped")
        await wait_for(lambda: edge.cancelled == 1)

        edge.says.append(tuple(f"word{number} " for number in range(120)))
        edge.pause = 0.002
        before = len(seen.channel.written)
        await seen.press("r", "word119")
        await seen.shows("120 out")
        painted = len(seen.channel.written) - before
        assert painted < 120 * 24 * 80, f"{painted} bytes for 120 tokens: not all is painted for each of them"

        monkeypatch.setattr(assistant_said, "LONGEST", 300)
        edge.says.append(tuple(f"part{number} " for number in range(80)))
        await seen.press("r", "Only its first characters are shown")
        await seen.shows("80 out")
        assert "part79" not in seen.display
        await seen.end()


async def test_the_keys_say_how_it_is_asked(appliance: Upstreams, tmp_path: Path) -> None:
    edge, cloud = Talker(), Talker({"big:latest": {}})
    async with appliance(edge, cloud) as bench:
        seen = bench.open(size=(160, 48))
        await seen.press("gh", "may leave the house")
        await seen.press("p", "place edge")
        await seen.press("ppp", "place auto")
        await seen.press("e", "EDGE ONLY")
        await seen.press("t", "no tools")
        await seen.press("c", "state along")
        await seen.press("m", "as the settings have it")
        await seen.press("big\r", "model big:latest")
        await type_in(seen, "A poem")
        await seen.shows("must not leave the house")
        assert cloud.asked == []
        await seen.press("e", "stays in the house for good")
        await seen.press("n", "A new talk")
        await seen.press("e", "may leave the house")
        await type_in(seen, "A poem")
        await seen.shows("left the house")
        assert ("tools" in cloud.asked[0][1], "Live state" in cloud.system()) == (False, True)
        await seen.press("a", "goes along with the next question")
        await seen.press("d", "with the newest detection")
        await type_in(seen, "Who is there?")
        await seen.shows("no detection yet")
        await seen.press("a", "goes along with the next question")
        await seen.press("n", "A poem")
        await seen.press("f", "0 facts about you")
        seen.session.feed(b"a")
        await seen.fill("text", "I like tea")
        await wait_for(lambda: _facts(bench))
        await seen.press("f", "1 fact about you")
        await seen.press("l", "I like tea")
        await seen.press("\x1b", "Enter Ask")
        await seen.press("x", "written: ")
        await seen.press("d", "deleted for good")
        await seen.press("y", "A new talk")
        await seen.end()


async def _facts(bench: object) -> bool:
    return bool(await do(bench, "facts"))  # type: ignore[arg-type]


async def test_without_a_model_it_says_what_is_missing(appliance: Upstreams) -> None:
    async with appliance() as bench:
        seen = bench.open(PLAIN)
        await seen.press("gh", "There is nobody to talk with")
        await seen.shows("llm.edge_url")
        await type_in(seen, "What is wrong?")
        await seen.shows("No language model is configured")
        await wait_for(lambda: seen.app.screen.query_one("#typed").value == "What is wrong?", message="it is not lost")  # type: ignore[attr-defined]
        await seen.end()
        viewer = bench.open(role=Role.viewer)
        await viewer.press("gh", "assistant.show needs the role operator")
        assert "Enter Ask" not in viewer.display
        await viewer.end()


def test_what_a_confirmation_says_is_whole() -> None:
    asked = Asked("c1", "fleet.run", {"command": "rm -r /tmp/x", "nodes": ["nas"]}, "Run a command on nodes?", dangerous=True)
    text = view.asked_text(asked)
    assert 'command = "rm -r /tmp/x", nodes = ["nas"]' in text
    status = TurnStatus(turn="t", talk="k", stage=Stage.asking, text="", at=0, asked=asked)
    told = "".join(piece for line in view.under_way(status, 3.0) for piece, _ in line)
    assert told == "it waits for your confirmation: y, 3 s; s stops it"


async def test_the_command_line_asks_confirms_and_forgets(appliance: Upstreams) -> None:
    from tests.integration.test_front import line

    edge = Talker()
    async with appliance(edge) as bench:
        code, text = await line(bench, "assistant", "ask", "What is wrong with my fleet?")
        assert (code, "The sky is blue." in text, "From: edge (edge)" in text, "Sources: alerts" in text) == (
            0,
            True,
            True,
            True,
        )
        edge.wants.append(("service__restart", {"name": "power"}))
        code, text = await line(bench, "assistant", "ask", "Restart the service power")
        assert (code, "The model wants: Restart a service?" in text) == (0, True), text
        how = " ".join(text.partition("): ")[2].split()).removeprefix("prime-spark ")
        code, text = await line(bench, *how.split())
        assert (code, "service.restart done" in text) == (0, True), text
        code, text = await line(bench, "assistant", "history", "fleet")
        assert (code, "1 of 200 talks" in text) == (0, True), text
        code, text = await line(bench, "assistant", "show")
        assert (code, "Restart the service power" in text) == (0, True), text
        assert (await line(bench, "assistant", "remember", "I like tea"))[0] == 0
        code, text = await line(bench, "assistant", "facts", "--json")
        assert (code, "I like tea" in text) == (0, True)
        code, text = await line(bench, "assistant", "forget", "all")
        assert (code, "1" in text) == (0, True)
        await asyncio.sleep(0)
        assert (await ask(bench, "Hello")).said.text == "The sky is blue."
