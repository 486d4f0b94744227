"""The values of the assistant. What nobody told is None, never 0."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

DEFAULT_AGENT = "assistant"
SHARED = "shared"
"""Name under which what all agents of a user know is kept."""


class Stage(StrEnum):
    """Where an answer stands."""

    thinking = "thinking"
    """The model was asked, and has not begun."""
    writing = "writing"
    asking = "asking"
    """An action waits for the user's confirmation."""
    working = "working"
    """An action is carried out."""
    answered = "answered"
    stopped = "stopped"
    """By the user."""
    failed = "failed"


ENDED = frozenset({Stage.answered, Stage.stopped, Stage.failed})


class Source(msgspec.Struct, frozen=True):
    """A part of the live state that went along with a question."""

    name: str
    """Section of the state."""
    age_s: float | None
    """How old it was, seconds; None where it was never put."""
    told: str
    """What of it, in a few words."""


class Call(msgspec.Struct, frozen=True):
    """An action that the model asked for."""

    name: str
    arguments: dict[str, Any]
    outcome: str
    """"done", "failed", "declined" by the user, "refused" before anybody was asked, or "begun" where nobody waited for it."""
    told: str
    """Its result or why there is none, bounded; the model was given the same."""
    asked: bool = False
    """It was asked for on the screen."""


class Asked(msgspec.Struct, frozen=True):
    """An action that waits for a confirmation."""

    call: str
    """Names this one; a confirmation of another one does not count."""
    name: str
    arguments: dict[str, Any]
    text: str
    """What it will do."""
    dangerous: bool


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer came from, why, and what it took; of several rounds the last one's place and the sums."""

    endpoint: str
    place: str
    model: str
    why: str
    latency_ms: float | None = None
    first_token_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    left_house_bytes: int | None = None
    cached: bool = False
    rounds: int = 1


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a talk."""

    role: str
    """"user" or "assistant"."""
    text: str
    time: float
    """Wall clock, seconds since the epoch."""
    outcome: str = ""
    """Of an answer: "answered", "stopped" or "failed"."""
    way: Way | None = None
    sources: tuple[Source, ...] = ()
    calls: tuple[Call, ...] = ()
    notes: tuple[str, ...] = ()
    """What the reader should know: what was left out, cut, or not kept."""
    picture: str = ""
    """Name of what was attached."""
    attached: str = ""
    """Text that went with it: a detection."""


class Talk(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation."""

    talk: str
    """Its id."""
    user: str
    agent: str
    title: str
    created: float
    updated: float
    edge_only: bool = False
    """Nothing of it may leave the house; it never changes back."""
    said: tuple[Said, ...] = ()
    dropped: int = 0
    """Oldest messages that found no room any more."""


class TalkHead(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation in a list."""

    talk: str
    title: str
    agent: str
    created: float
    updated: float
    messages: int
    edge_only: bool = False
    found: str = ""
    """Where the words stand that were looked for."""


class History(msgspec.Struct, frozen=True):
    """Talks of a user, the newest first."""

    talks: tuple[TalkHead, ...]
    limit: int
    dropped: int
    """Oldest talks that found no room any more."""
    unreadable: int = 0
    """Talks that cannot be opened: they were altered, or the key is another one."""


class TurnStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An answer on its way."""

    turn: str
    talk: str
    stage: Stage
    text: str
    """What was written since the place that was asked for."""
    at: int
    """Characters written so far: ask from there on the next time."""
    asked: Asked | None = None
    doing: str = ""
    """The action that is carried out."""
    calls: tuple[Call, ...] = ()
    said: Said | None = None
    """The whole, once it has ended."""


class Fact(msgspec.Struct, frozen=True):
    """Something to remember about a user."""

    fact: str
    """Its id."""
    text: str
    time: float
    by: str
    """Front through which it came."""
    edge_only: bool = False
    """It goes along only where nothing leaves the house."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered for a user and an agent."""

    agent: str
    profile: str = ""
    facts: tuple[Fact, ...] = ()
