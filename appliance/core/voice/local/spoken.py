"""What a screen writes, as it is said: units in words, markup gone, numbers as people say them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from appliance.core.voice.local.units import with_units

LONGEST = 2000
"""Characters of one text; beyond it the rest is left out."""
WORD = re.compile(r"[^\W_]")
MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]{0,200}>"), " "),
    (re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s[^()]*)?\)"), r"\1"),
    (re.compile(r"^ ?(?:#{1,6} |> ?|[-*+•] )+", re.MULTILINE), ""),
    (re.compile(r"^(?=.*---)[ |:-]+$", re.MULTILINE), ""),
    (re.compile(r"`+|\*{1,3}|~~|(?<!\w)_{1,3}|_{1,3}(?!\w)"), ""),
    (re.compile(r"(?<=\w)_+(?=\w)|[\[\]{}\"“”„]"), " "),
    (re.compile(r"\s*\|\s*"), ", "),
)
SYMBOLS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b([A-Za-z][\w-]{0,61}[A-Za-z0-9])\.(?=[a-z][\w-]{0,61}[a-z0-9])"), r"\1 dot "),
    (re.compile(r"(?<=\d)\s*[-–—]\s*(?=\d)"), " to "),
    (re.compile(r"(?<![\w.])[-−](?=\.?\d)"), "minus "),
    (re.compile(r"\s*(?:–|—|\s-{1,2}\s)\s*"), ", "),
    (re.compile(r"\s*(?:→|->|⇒|=>)\s*"), " to "),
    (re.compile(r"\s*(?:≥|>=)\s*"), " at least "),
    (re.compile(r"\s*(?:≤|<=)\s*"), " at most "),
    (re.compile(r"\s+>\s+"), " more than "),
    (re.compile(r"\s+<\s+"), " less than "),
    (re.compile(r"(?<=[\d\s])[×x](?=\s?\d)"), " times "),
    (re.compile(r"\s*±\s*"), " plus or minus "),
    (re.compile(r"(?<![\w/])[~≈]\s*(?=\d)"), "about "),
    (re.compile(r"\s*&\s*"), " and "),
    (re.compile(r"\s+=\s+"), " is "),
    (re.compile(r"\s*[·•;]\s*"), ", "),
    (re.compile(r"…"), "."),
    (re.compile(r"[\[\]{}<>\\^|#\"“”„*`~]"), " "),
)
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
SPELLED = re.compile(r"\b(UPS|VPN|TUI|CPU|GPU|NPU|SSD|HDD|USB|MQTT|API|SSH|LED|TTL|MAC|NFS|S3|DNS|LLM|STT|TTS|PDU)(s?)\b")


def speakable(text: str) -> str:
    """A text as a voice can say it, on one line; "" where there is no word in it. Saying it again changes nothing.

    Args:
        text: As a screen, a log or a language model writes it; what is beyond LONGEST is left out.
    """
    text = "".join(_plain(char) for char in unicodedata.normalize("NFC", text[:LONGEST]))
    text = re.sub(r" *\n[ \n]*", "\n", re.sub(r" +", " ", text))
    for pattern, by in MARKUP:
        text = pattern.sub(by, text)
    text = re.sub(r" +", " ", text)
    text = re.sub(r"([^\s.!?:,;]) ?\n\s*", r"\1. ", text)
    for pattern, said in SPOKEN:
        text = pattern.sub(said, text)
    text = with_units(text)
    for pattern, by in SYMBOLS:
        text = pattern.sub(by, text)
    text = SPELLED.sub(lambda found: " ".join(found[1]) + ("'s" if found[2] else ""), text)
    return _tidy(text)


def _plain(char: str) -> str:
    """A character, or what stands for it; pictures and controls are not said, and a private one could steer the program."""
    if char == "\n":
        return char
    kind = unicodedata.category(char)
    if kind in {"Zs", "Zl", "Zp", "Cc"}:
        return " "
    return "" if kind in {"Cf", "Cn", "Co", "Cs", "So", "Sk"} and char not in "°^`" else char


def _tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.!?:;])", r"\1", text)
    text = re.sub(r"[,:;]+(?=[,.!?:;])", "", text)
    text = re.sub(r"([.!?,])(?:\s*[.,])+", r"\1", text).strip(" ,:;")
    return text if WORD.search(text) else ""


def _address(found: re.Match[str]) -> str:
    """An IPv4 address, its prefix and its port."""
    said = " dot ".join(found[1].split("."))
    return said + (f" slash {found[2]}" if found[2] else "") + (f" port {found[3]}" if found[3] else "")


def _link(found: re.Match[str]) -> str:
    """Of a link, the host."""
    return found[1].rstrip(".")


def _identifier(found: re.Match[str]) -> str:
    """The end of an identifier, spelled: nobody can follow the whole."""
    token = found[0]
    if not (any(char.isdigit() for char in token) and any(char.isalpha() for char in token)):
        return token
    return "the one ending in " + ", ".join(token[-4:].lower())


def _date(found: re.Match[str]) -> str:
    month, day = int(found[2]), int(found[3])
    return f"{day} {MONTHS[month - 1]} {found[1]} " if 1 <= month <= 12 and 1 <= day <= 31 else found[0]


def _clock(found: re.Match[str]) -> str:
    hour, minute = int(found[1]), int(found[2])
    if hour > 23 or minute > 59:
        return found[0]
    if minute == 0:
        return f"{hour} o'clock"
    return f"{hour} {'oh ' if minute < 10 else ''}{minute}"


SPOKEN: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://(?:[^\s/@]*@)?([\w.-]+)(?:[^\s)\]]*[^\s)\].,;:!?])?", re.IGNORECASE), _link),
    (re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?:/(\d{1,2}))?(?::(\d{1,5}))?(?![\w.]*\d)"), _address),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), _identifier),
    (re.compile(r"\b(?:[0-9a-f]{12,}|[0-9A-Z]{20,})\b"), _identifier),
    (re.compile(r"\b(\d{4})-(\d{2})-(\d{2})(?:T|\b\s*)"), _date),
    (re.compile(r"(?<![\d:.])(\d{1,2}):(\d{2})(?::\d{2}(?:\.\d+)?)?(?:Z|\b)(?![:\d])"), _clock),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
)
"""What has a form of its own, and how that is said."""
