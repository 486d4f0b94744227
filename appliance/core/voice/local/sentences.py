"""Sentences of a text that comes bit by bit, so that the first is heard while a language model writes the next."""

from __future__ import annotations

import re

from appliance.core.voice.local.spoken import speakable

LONGEST = 300
"""Characters after which a sentence without an end is cut, between words."""
END = re.compile(r"\n|[.!?…:]+[\"'”’)\]*_`]*(?=\s)")
NO_END = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|approx|ca|cf|no|nr|mr|mrs|ms|dr|st|fig|incl|resp|[a-z]|\d{1,3})\.$", re.IGNORECASE
)
"""What a full stop may end without ending a sentence: abbreviations, initials, the number of a list's item."""
FENCE = "```"
CODE = "I leave out the code."


class Sentences:
    """Cuts a stream of text into what can be said. How the text is divided into bits makes no difference."""

    def __init__(self) -> None:
        self._rest = ""
        self._code = False

    def feed(self, delta: str) -> list[str]:
        """Take a bit of text; returns the sentences that are whole with it, as they are said."""
        self._rest += delta
        done: list[str] = []
        while (end := _end(self._rest)) is not None:
            done += self._said(self._rest[:end])
            self._rest = self._rest[end:]
        return done

    def close(self) -> list[str]:
        """The text has ended: what was left of it."""
        rest, self._rest = self._rest, ""
        return self._said(rest)

    def _said(self, piece: str) -> list[str]:
        said: list[str] = []
        for number, part in enumerate(piece.split(FENCE)):
            if number:
                self._code = not self._code
                said += [CODE] if self._code else []
            if not self._code and (text := speakable(part)):
                said.append(text)
        return said


def split(text: str) -> list[str]:
    """The sentences of a whole text, as they are said."""
    sentences = Sentences()
    return sentences.feed(text) + sentences.close()


def _end(text: str) -> int | None:
    """Where the first sentence ends, as soon as that is sure."""
    head = text[: LONGEST + 1]
    for found in END.finditer(head):
        if found[0] == "\n" or not _goes_on(text[: found.end()]):
            return found.end()
    if len(text) <= LONGEST:
        return None
    cut = max(head.rfind(", ") + 1, 0) or head.rfind(" ") + 1
    return cut or LONGEST


def _goes_on(text: str) -> bool:
    line = text[text.rfind("\n") + 1 :]
    return bool(NO_END.search(line)) or (line.endswith(":") and len(line) < 40)
