"""What an endpoint means by a status other than success."""

from __future__ import annotations

import email.utils
import time
from datetime import UTC, datetime

import msgspec

from appliance.core.llm.faults import Fault

TOLD = 400
"""Characters of an endpoint's own words that are repeated."""
LONGEST_PAUSE = 3600.0
"""Seconds; a longer Retry-After is not believed."""
TOO_LONG = ("context length", "context size", "context_length", "exceed_context", "context window", "maximum context")
LACKING = ("does not support", "not supported", "unsupported")


def words(content: bytes) -> str:
    """What an error's body says: Ollama's {"error": TEXT}, OpenAI's {"error": {"message": TEXT}}, or the text itself."""
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        found = None
    told = found.get("error") if isinstance(found, dict) else None
    if isinstance(told, dict):
        told = " ".join(str(told[name]) for name in ("message", "code", "type") if told.get(name))
    return plain(told if isinstance(told, str) and told else content.decode(errors="replace")) or "nothing"


def plain(text: str) -> str:
    """An endpoint's words on one line, bounded, without what steers a terminal or ends a header."""
    return " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * TOLD]).split())[:TOLD]


def fault_of(status: int, told: str, named_time: bool) -> tuple[Fault, str]:
    """The kind of a refusal, and the next step."""
    low = told.lower()
    too_long = status == 413 or (status in {400, 422, 500} and any(each in low for each in TOO_LONG))
    rows = (
        (status == 429 or (status == 503 and named_time), Fault.busy, "wait; or add another endpoint."),
        (
            status in {401, 403},
            Fault.refused,
            "put its key into the secret that the endpoint names (llm.endpoints.NAME.secret).",
        ),
        (status == 402, Fault.refused, "see to its account: it wants to be paid."),
        (too_long, Fault.too_long, "shorten the prompt, or take a model with a larger context."),
        (status == 404 and "model" in low, Fault.no_model, "see `prime-spark llm models`."),
        (status in {404, 405} or status < 400, Fault.garbled, "see the endpoint's url and kind."),
        (status >= 500 or status == 408, Fault.broken, "see its log."),
        (any(each in low for each in LACKING), Fault.unable, "take a model that can do it, or leave out what it cannot."),
    )
    return next(((fault, step) for holds, fault, step in rows if holds), (Fault.bad, "mend the request."))


def pause(text: str | None, date: str | None = None) -> float | None:
    """Retry-After (RFC 9110, 10.2.3): seconds or a date; None where there is none that can be believed.

    Args:
        text: The header.
        date: The answer's own Date: the difference of the two is right also where our clock is not.
    """
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), LONGEST_PAUSE)
    when = _instant(text)
    if when is None:
        return None
    now = _instant(date) if date else None
    return min(max(0.0, when - (time.time() if now is None else now)), LONGEST_PAUSE)


def _instant(text: str) -> float | None:
    try:
        when: datetime = email.utils.parsedate_to_datetime(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
