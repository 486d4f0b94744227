"""The table of phrases (phrases.toml), read once."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

import msgspec

FILE = Path(__file__).with_name("phrases.toml")


class Saying(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sentences that mean one thing."""

    do: str
    templates: tuple[str, ...] = msgspec.field(name="as")
    args: dict[str, Any] = {}
    wants: str = ""


class Answers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words of a talk, in the form of voice.words.normal."""

    yes: frozenset[str]
    no: frozenset[str]
    polite: tuple[str, ...]
    """Before a command; they mean nothing."""
    after: tuple[str, ...]


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    rules: dict[str, str]
    slots: dict[str, str]
    denied: dict[str, tuple[str, ...]]
    """Why → actions that are never done by voice."""
    say: tuple[Saying, ...]
    answers: Answers

    def reason(self, action: str) -> str:
        """Why an action is not done by voice; empty where it is."""
        return next((why for why, actions in self.denied.items() if action in actions), "")


@functools.cache
def book() -> Book:
    """It; reading it takes some milliseconds."""
    return msgspec.convert(tomllib.loads(FILE.read_text("utf-8")), Book)
