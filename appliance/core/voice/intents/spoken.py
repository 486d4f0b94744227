"""Names and numbers as they are spoken, and texts made fit to be spoken."""

from __future__ import annotations

import functools
import re

from appliance.core.voice.words import normal

PARTS = (
    "prime", "core", "control", "spark", "edge", "cloud", "node", "cam", "camera", "front", "back", "door", "server", "worker",
    "data", "base", "face", "center", "mobile", "net", "room", "yolo", "pi", "v", "x",
)  # fmt: skip
"""Words that names are put together from without a sign between them, such as "primecore3"."""
COMPOUND = re.compile(rf"({'|'.join(sorted(PARTS, key=len, reverse=True))})")
LONGEST = 400
"""Characters that are said of one answer."""
IDENTIFIER = re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{20,}\b|\b[0-9a-f]{24,}\b", re.IGNORECASE)
MARKS = re.compile(r"`|\*\*|__|^#+ |^[-*] ", re.MULTILINE)


@functools.lru_cache(maxsize=4096)
def forms(name: str) -> tuple[str, ...]:
    """How a name may be said, the likeliest first: "primecore3" is "prime core three" or "primecore three"."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])|[-_./:@]", " ", name)
    plain = normal(parted)
    apart = normal(" ".join(_apart(word) for word in plain.split()))
    found = [apart, plain]
    if "pc" in plain.split():
        found.append(plain.replace("pc", "computer"))
    return tuple(dict.fromkeys(each for each in found if each))


def _apart(word: str) -> str:
    parts = COMPOUND.findall(word)
    whole = len(parts) > 1 and "".join(parts) == word and any(len(part) > 2 for part in parts)
    return " ".join(parts) if whole else word


def said(name: str) -> str:
    """A name as it is to be read aloud."""
    return (forms(name) or (name,))[0]


def aloud(text: str, most: int = LONGEST) -> str:
    """A text as it can be read aloud: no marks of Markdown, no identifiers, of bounded length."""
    text = " ".join(IDENTIFIER.sub("", MARKS.sub("", text)).split())
    if len(text) <= most:
        return text
    cut = text[:most]
    ends = max(cut.rfind(mark) for mark in (". ", "? ", "! ", "; "))
    return cut[: ends + 1] if ends > most // 3 else f"{cut.rsplit(' ', 1)[0]} and so on."


def sentence(text: str) -> str:
    """A text as a sentence: a capital first, a full stop at the end."""
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if not text or text[-1] in ".!?" else f"{text}."


def series(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """Names in a row: "redis, kafka and two more"."""
    names = [said(each) for each in names]
    if len(names) > most:
        rest = len(names) - most
        return f"{', '.join(names[:most])} and {rest} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def span(seconds: float) -> str:
    """A length of time: "12 seconds", "5 minutes", "3 hours", "2 days"."""
    for unit, size, upto in (("second", 1, 90), ("minute", 60, 5400), ("hour", 3600, 172_800), ("day", 86_400, float("inf"))):
        if seconds < upto:
            count = round(seconds / size)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return "long"
