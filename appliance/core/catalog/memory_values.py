"""Values of the memory as actions take and give them: text, JSON, bytes; and rows of a listing."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any, Literal

import msgspec

from appliance.core.memory import diff, merge
from appliance.core.memory.model import EntryStat, Kind, Record
from appliance.errors import InvalidArgumentsError

SHOWN_LINES = 2000
"""Lines of a value that are shown."""
LAID_OUT = 4 * 1024 * 1024
"""Bytes; a larger JSON value is shown as it is."""
SURROGATE = re.compile(r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
"""Half of a pair of JSON's escapes, with the other half missing."""
TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""Strings, in which brackets are none, and brackets."""
DEEPEST = 500
"""Levels of JSON; Python 3.11's own parser takes less than 1000."""
Form = Literal["value", "text", "raw"]


def shown(record: Record, form: Form = "value") -> dict[str, Any]:
    """A value with what is known of it.

    Args:
        record: The value.
        form: "value": JSON as itself, text as text, anything else in Base64 (RFC 4648). "text": JSON indented with all its
            digits, text as text, None for anything else. "raw": the bytes in Base64, as they went in.
    """
    meta, text = record.meta, merge.as_text(record.value)
    shape = "json" if meta.kind is Kind.json else "text" if text is not None else "binary"
    value: Any
    if form == "raw" or (form == "value" and shape == "binary"):
        encoding, value = "base64", base64.b64encode(record.value).decode()
    elif form == "text":
        encoding, value = "text", _whole(record) if shape == "json" else text
    elif shape == "json":
        encoding, value = "json", msgspec.json.decode(record.value)
    else:
        encoding, value = "text", text
    return {
        "key": f"{meta.namespace}:{meta.key}", "kind": meta.kind.value, "shape": shape, "encoding": encoding, "value": value,
        "size": meta.size, "modified": meta.modified, "expires": meta.expires, "tags": list(meta.tags),
        "checksum": meta.checksum,
    }  # fmt: skip


def _whole(record: Record) -> str:
    """JSON laid out, digits and order as they were written; as it is where it is large."""
    laid = msgspec.json.format(record.value, indent=2) if len(record.value) <= LAID_OUT else record.value
    return laid.decode()


def lines_of(record: Record) -> list[str]:
    """A value as lines that any terminal can show."""
    kind = record.meta.kind if len(record.value) <= LAID_OUT else Kind.bytes
    return list(diff.as_lines(kind, record.value, SHOWN_LINES))


def entry_row(entry: EntryStat, now: float) -> dict[str, Any]:
    """One row of a listing."""
    meta = entry.meta
    return {
        "key": f"{meta.namespace}:{meta.key}", "kind": meta.kind.value, "size": meta.size,
        "tiers": [copy.tier for copy in entry.copies if copy.state == "held"],
        "owed": [copy.tier for copy in entry.copies if copy.state == "owed"],
        "unknown": [copy.tier for copy in entry.copies if copy.state == "unknown"],
        "age_s": max(0.0, now - meta.modified), "ttl_s": None if meta.expires is None else max(0.0, meta.expires - now),
        "pinned": entry.pinned, "hits": entry.hits, "tags": list(meta.tags), "checksum": meta.checksum[:12],
        "device": meta.device,
    }  # fmt: skip


async def given(value: str | None, json_text: str | None, file: str | None) -> Any:
    """The one value that was given, as text, JSON or Base64. Raises InvalidArgumentsError."""
    if sum(each is not None for each in (value, json_text, file)) != 1:
        raise InvalidArgumentsError("Give the value once: as text, as --json-text, or as --file.", "see --help.")
    if value is not None:
        return value.encode()
    if json_text is not None:
        return await asyncio.to_thread(as_json, json_text)
    return await asyncio.to_thread(_decoded, str(file))


def as_json(text: str) -> msgspec.Raw:
    """JSON as it was written, with no name twice in an object. Raises InvalidArgumentsError."""
    try:
        _check_depth(text)
        msgspec.json.decode(text)
        json.loads(text, object_pairs_hook=_once, parse_int=len, parse_float=len)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidArgumentsError(f"That is no JSON that can be kept: {error}.", _mending(text, str(error))) from error
    return msgspec.Raw(text.strip().encode())


def _check_depth(text: str) -> None:
    """Where a parser gives up differs from one Python to the next, and a value must be readable by them all."""
    depth = 0
    for token in TOKENS.finditer(text):
        first = token[0][0]
        depth += (first in "[{") - (first in "]}")
        if depth > DEEPEST:
            raise InvalidArgumentsError("That JSON is nested too deeply.", f"nest it at most {DEEPEST} levels deep.")


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that has a name twice: each reader takes another one of the values (RFC 8259, section 4)."""
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise InvalidArgumentsError(f"That JSON has the name {name[:60]!r} twice in one object.", "give each name once.")
        names.add(name)


def _mending(text: str, fault: str) -> str:
    if "out of range" in fault:
        return "give numbers up to 1.7e308, and greater ones as texts in double quotes."
    if SURROGATE.search(text) or "surrogate" in fault:
        return "give characters beyond U+FFFF by themselves, or as a pair of \\u escapes; half a pair is no character."
    return "mend it there: texts and names stand in double quotes, and nothing follows the last item."


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidArgumentsError(f"The file's bytes are no Base64: {error}.", "encode them as RFC 4648 has it.") from error


def check_tags(*tags: str | None) -> None:
    """Refuse several tags in one. Raises InvalidArgumentsError."""
    for tag in tags:
        if tag and "," in tag:
            raise InvalidArgumentsError(f"A tag has no comma in it: {tag!r}.", "give each tag by itself: --tags a --tags b.")
