"""The assistant's talks as lines: who says what, where an answer came from, what was done, what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from appliance.core.assistant.model import Asked, Call, Remembered, Said, Stage, Talk, TalkHead, TurnStatus, Way
from appliance.core.llm.model import LlmStatus
from appliance.core.model import Health, ServiceStatus
from appliance.core.printable import printable
from appliance.screens import format as f

if TYPE_CHECKING:
    from appliance.screens.themes import Look, Role
    from appliance.screens.widgets.lines import Line, Piece

PLACES = ("", "edge", "agent", "cloud")
LONG = 600
"""Characters of a confirmation that a dialog has room for; a longer one is read whole first."""
PICTURES = range(0x2600, 0x27C0)
"""Signs that a Linux console has none of."""
OUTCOMES: dict[str, Role] = {"done": "ok", "failed": "bad", "refused": "warn", "declined": "warn", "begun": "warn"}
EXAMPLES = (
    "what is wrong with my fleet?", "restart the service that failed", "remember that I prefer short answers",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """How the next question is asked.

    Attributes:
        model: Empty for the assistant's own.
        place: Empty for wherever the gateway decides.
        state: None where the question decides.
        picture: Path; empty for none.
    """

    model: str = ""
    place: str = ""
    edge_only: bool = False
    tools: bool = True
    state: bool | None = None
    picture: str = ""
    detection: bool = False


def styled(lines: Iterable[Line], look: Look) -> Text:
    """Lines as one text, which a widget wraps."""
    from appliance.screens.themes import style_of

    text = Text()
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for piece, role in line:
            text.append(printable(piece, keep="\n"), style_of(look, role))
    return text


def markdown(text: str, *, console: bool) -> str:
    """What a model wrote, made safe to show."""
    safe = printable(text, keep="\n\t")
    if not console or safe.isascii():
        return safe
    return "".join("·" if ord(char) >= 0x1F000 or ord(char) in PICTURES else char for char in safe if char != "\ufe0f")


def bar(talk: Talk | None, wanted: Wanted, room: int) -> list[Line]:
    """The talk, and how the next question is asked."""
    edge_only = wanted.edge_only or (talk is not None and talk.edge_only)
    state = {True: "state along", False: "no state along", None: "state where it matters"}[wanted.state]
    attached = "the newest detection" if wanted.detection else wanted.picture.rpartition("/")[2]
    pieces: list[Piece] = [
        (f" {talk.title if talk is not None else 'A new talk'} ", "title"),
        (f" model {wanted.model or 'auto'} ", "text"), (f" place {wanted.place or 'auto'} ", "text"),
        (" EDGE ONLY ", "ok") if edge_only else (" may leave the house ", "muted"),
        (f" {'tools' if wanted.tools else 'no tools'} ", "text" if wanted.tools else "muted"), (f" {state} ", "muted"),
    ]  # fmt: skip
    if attached:
        pieces.append((f" with {attached} ", "accent"))
    return _flow(pieces, room)


def _flow(pieces: Sequence[Piece], room: int) -> list[Line]:
    from appliance.screens.streams_view import flow

    return flow(pieces, room)


def missing(services: Iterable[ServiceStatus], status: LlmStatus | None) -> list[Line]:
    """Why nobody can be asked, and the next step; nothing where somebody can."""
    llm = next((each for each in services if each.name == "llm"), None)
    if llm is not None and llm.health in {Health.absent, Health.unhealthy}:
        lead = "There is nobody to talk with" if llm.health is Health.absent else "Nobody answers now"
        return [((f"{lead}: {llm.reason}.", "warn"),), ((f"Next step: {llm.next_step}", "text"),)]
    if status is None:
        return [(("The door to the language models is not open yet.", "muted"),)]
    return []


def empty(lacking: list[Line]) -> list[Line]:
    """What stands where no talk is."""
    if lacking:
        return lacking
    return [(("Enter, and type a question. Such as:", "muted"),), *(((f"  {each}", "text"),) for each in EXAMPLES)]


def earlier(talk: Talk, shown: int) -> Line:
    """What of a talk does not stand on the page; nothing where all of it does."""
    left = max(0, len(talk.said) - shown)
    words = [f"{f.counted(left, 'earlier message')}: o shows more, x writes all into a file"] if left else []
    words += [f"{talk.dropped} older ones found no room"] if talk.dropped else []
    return (("; ".join(words), "muted"),) if words else ()


def head(said: Said, name: str) -> Line:
    """Who says it, and when."""
    role: Role = "accent" if said.role == "user" else "title"
    return ((name, role), (f"  {f.clock(said.time)}", "muted"))


def question(said: Said) -> list[Line]:
    """What the user asked."""
    lines: list[Line] = [((line, "text"),) for line in said.text.splitlines()]
    if said.picture:
        lines.append(((f"with the picture {said.picture}", "muted"),))
    lines += [((line, "muted"),) for line in said.attached.splitlines()]
    return lines


def way(found: Way) -> Line:
    """Where an answer came from, why, and what it took."""
    left = found.left_house_bytes
    parts = [
        f"{found.endpoint} ({found.place}), {found.model}: {found.why}",
        f"{f.took(found.latency_ms)}, first token {f.took(found.first_token_ms)}",
        f"tokens {_count(found.tokens_in)} in, {_count(found.tokens_out)} out",
        f"cost {f.NONE if found.cost is None else format(found.cost, '.6g')}",
        "nothing left the house" if left == 0 else f"{f.size(left)} left the house",
    ]
    parts += [f"{found.rounds} rounds"] if found.rounds > 1 else []
    parts += ["kept from before"] if found.cached else []
    return (("; ".join(parts), "muted"),)


def _count(value: int | None) -> str:
    return f.NONE if value is None else str(value)


def foot(said: Said) -> list[Line]:
    """Below an answer: its way, its sources, what was done, what the reader should know."""
    lines: list[Line] = [called(each) for each in said.calls]
    if said.sources:
        names = ", ".join(f"{each.name} {f.age(each.age_s)}" for each in said.sources)
        lines.append((("Sources: ", "head"), (names, "muted")))
    if said.way is not None:
        lines.append((("From: ", "head"), *way(said.way)))
    if said.outcome in {"failed", "stopped"}:
        lines.append(((said.outcome, "bad" if said.outcome == "failed" else "warn"),))
    lines += [((note, "bad" if said.outcome == "failed" else "warn"),) for note in said.notes]
    return lines


def called(call: Call) -> Line:
    """One action that the model wanted."""
    told = " ".join(call.told.split())[:160] if call.outcome != "done" else ""
    return ((f"{call.name} ", "text"), (call.outcome, OUTCOMES.get(call.outcome, "muted")), (f"  {told}", "muted"))


def under_way(status: TurnStatus, seconds: float) -> list[Line]:
    """Below an answer that is written now."""
    what = {
        Stage.thinking: "the model was asked", Stage.writing: "writing", Stage.working: f"doing {status.doing}",
        Stage.asking: "it waits for your confirmation: y",
    }.get(status.stage, status.stage.value)  # fmt: skip
    return [*(called(each) for each in status.calls), ((f"{what}, {f.duration(seconds)}; s stops it", "accent"),)]


def asked_text(asked: Asked) -> str:
    """What a confirmation says: what is done, and with which arguments."""
    arguments = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in asked.arguments.items())
    return f"The model wants: {asked.text} ({asked.name}{': ' + arguments if arguments else ''})"


def talk_rows(talks: Iterable[TalkHead]) -> dict[str, tuple[str, str]]:
    """Talks to pick from: a name of its own each → (its id, what is said of it)."""
    rows: dict[str, tuple[str, str]] = {}
    for each in talks:
        name, number = each.title, 2
        while name in rows:
            name, number = f"{each.title} ({number})", number + 1
        rows[name] = (each.talk, each.found or f"{f.clock(each.updated)}, {f.counted(each.messages, 'message')}")
    return rows


def fact_rows(known: Iterable[Remembered]) -> dict[str, tuple[str, str]]:
    """Facts to pick from: text → (its id, whose)."""
    return {fact.text: (fact.fact, each.agent) for each in known for fact in each.facts}


def remembered(known: Sequence[Remembered]) -> list[Line]:
    """All that is remembered."""
    lines: list[Line] = []
    for each in known:
        lines += [((f"For {'all agents' if each.agent == 'shared' else each.agent}", "title"),)]
        lines += [((f"  profile: {each.profile}", "text"),)] if each.profile else []
        lines += [
            (
                (f"  {fact.text}", "text"),
                (f"  {f.clock(fact.time)}, {fact.fact}{', edge only' if fact.edge_only else ''}", "muted"),
            )
            for fact in each.facts
        ]
    return lines or [(("Nothing is remembered about you.", "muted"),)]
