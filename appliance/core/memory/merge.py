"""Three-way merge of values: JSON by fields, text by lines, records with their tags and expiry. Nothing is guessed.

What counts as equal in JSON: true is not 1; 1, 1.0 and 1e0 are one number (JSON knows no other kind), compared exactly; the
order of fields and the spacing mean nothing. Numbers of records keep all their digits through a merge.
"""

from __future__ import annotations

import decimal
import difflib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import merge3
import msgspec

from appliance.core.memory.model import JsonValue, Kind, Record

MOST_LINES = 50_000
"""A text with more of them is not merged."""
MOST_PAIRS = 2_000_000
"""Pairs of equal lines that a comparison may look through; beyond, it would take seconds (many lines that repeat)."""
NUMBERS = (int, float, decimal.Decimal)

_decoder = msgspec.json.Decoder(float_hook=decimal.Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


class Merge(msgspec.Struct, frozen=True):
    """What became of two sides.

    Attributes:
        value: The merged value; where sides clash it has mine (theirs where mine is deleted), as a proposal and no more.
        clashes: Where both sides changed the same thing differently: JSON pointers ("" is the whole value), or lines of
            the base. Empty where the merge is clean.
    """

    value: Any
    clashes: tuple[str, ...] = ()


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """Two records made one.

    Attributes:
        value: Uncompressed; None where the merge is not clean. Empty for a tombstone.
        kind: Of the value.
        expires: Wall clock, seconds since the epoch; None for never.
        tags: Sorted.
        deleted: True where the outcome is a tombstone.
        clashes: See Merge; never empty where the value is None.
        why: Why there is no clean merge, as half a sentence for people; empty where there is one.
    """

    value: bytes | None
    kind: Kind
    expires: float | None
    tags: tuple[str, ...]
    deleted: bool = False
    clashes: tuple[str, ...] = ()
    why: str = ""

    @property
    def clean(self) -> bool:
        """Whether there is a merged value."""
        return self.value is not None


class _Outcome(msgspec.Struct, frozen=True):
    """The value's part of a Merged."""

    value: bytes | None
    source: Record
    """Whose kind and whose deletion it has."""
    clashes: tuple[str, ...] = ()
    why: str = ""


def same(one: JsonValue, other: JsonValue) -> bool:
    """Whether two JSON values say the same; see the module. NaN, which JSON cannot carry, equals itself."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, NUMBERS) and isinstance(other, NUMBERS):
        return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - only NaN differs from itself
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def same_value(one: Record, other: Record) -> bool:
    """Whether two versions have the same value, byte for byte: by checksum, or by the value where a checksum is not known."""
    if one.meta.deleted or other.meta.deleted:
        return one.meta.deleted == other.meta.deleted
    if one.meta.checksum and other.meta.checksum:
        return one.meta.checksum == other.meta.checksum
    return one.meta.kind == other.meta.kind and one.value == other.value


def same_record(one: Record, other: Record) -> bool:
    """Whether two versions say the same: value, expiry, tags."""
    return (
        same_value(one, other)
        and _same_time(one.meta.expires, other.meta.expires)
        and frozenset(one.meta.tags) == frozenset(other.meta.tags)
    )


def _same_time(one: float | None, other: float | None) -> bool:
    """To the microsecond: finer, tiers do not keep it."""
    if one is None or other is None:
        return one is other
    return round(one * 1_000_000) == round(other * 1_000_000)


def merge_json(base: JsonValue, mine: JsonValue, theirs: JsonValue) -> Merge:
    """Merge two descendants of a JSON value, field by field.

    A field deleted by one side and left alone by the other is deleted; deleted and changed clashes. An array is one value,
    but where both sides only appended, and no item is in both tails, it gets mine and then theirs. Objects that both
    sides added under one name are merged by their fields.

    Args:
        base: The last common version; msgspec.UNSET where it is known that there was none.
        mine: One side. Its order of fields is kept; theirs' new ones come last.
        theirs: The other side.

    Raises:
        RecursionError: The values are nested some hundreds of levels deep.
    """
    clashes: list[str] = []
    value = _merge(base, mine, theirs, "", clashes)
    return Merge(value, tuple(clashes))


def _merge(base: JsonValue, mine: JsonValue, theirs: JsonValue, path: str, clashes: list[str]) -> JsonValue:
    if isinstance(mine, dict) and isinstance(theirs, dict) and (base is msgspec.UNSET or isinstance(base, dict)):
        return _merge_fields({} if base is msgspec.UNSET else base, mine, theirs, path, clashes)
    if same(mine, theirs) or same(theirs, base):
        return mine
    if same(mine, base):
        return theirs
    if isinstance(base, list) and isinstance(mine, list) and isinstance(theirs, list) and _both_appended(base, mine, theirs):
        return mine + theirs[len(base) :]
    clashes.append(path)
    return theirs if mine is msgspec.UNSET else mine


def _merge_fields(
    base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any], path: str, clashes: list[str]
) -> dict[str, Any]:
    merged = {}
    for name in (*mine, *(name for name in theirs if name not in mine)):
        old, left, right = (side.get(name, msgspec.UNSET) for side in (base, mine, theirs))
        value = _merge(old, left, right, f"{path}/{name.replace('~', '~0').replace('/', '~1')}", clashes)
        if value is not msgspec.UNSET:
            merged[name] = value
    return merged


def _both_appended(base: list[Any], mine: list[Any], theirs: list[Any]) -> bool:
    start = len(base)
    if not (same(mine[:start], base) and same(theirs[:start], base)):
        return False
    return {_hashable(item) for item in mine[start:]}.isdisjoint(_hashable(item) for item in theirs[start:])


def _hashable(value: JsonValue) -> object:
    """Something that is equal exactly where `same` is true."""
    if isinstance(value, dict):
        return "object", frozenset((name, _hashable(item)) for name, item in value.items())
    if isinstance(value, list):
        return "array", tuple(_hashable(item) for item in value)
    if isinstance(value, bool):
        return "bool", value
    return ("nan",) if value != value else value  # noqa: PLR0124 - only NaN differs from itself


def lines_of(text: str) -> list[str]:
    """The lines with their endings: CR LF, LF or CR. No other character ends a line; the last may have no ending."""
    return list(io.StringIO(text, newline=""))


def too_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether comparing the lines would take seconds: there are too many, or too many that repeat."""
    if max(len(one), len(other)) > MOST_LINES:
        return True
    positions = difflib.SequenceMatcher(None, one, other).b2j  # type: ignore[attr-defined] # documented, not in typeshed
    return sum(count * len(positions.get(line, ())) for line, count in Counter(one).items()) > MOST_PAIRS


def merge_text(base: str, mine: str, theirs: str) -> Merge:
    """Merge two descendants of a text by lines, as diff3 does: changes that touch or overlap clash, unless they are equal.

    Line endings and a missing final newline are kept as each line has them. A text of more than MOST_LINES lines, or with
    too many lines that repeat, clashes as a whole.
    """
    if theirs in (mine, base):
        return Merge(mine)
    if mine == base:
        return Merge(theirs)
    old, left, right = lines_of(base), lines_of(mine), lines_of(theirs)
    if too_alike(old, left) or too_alike(old, right):
        return Merge(mine, ("",))
    merged: list[str] = []
    clashes = []
    for region in merge3.Merge3(old, left, right).merge_regions():
        if region[0] == "conflict":
            clashes.append(_lines(region[1], region[2]))
            merged += left[region[3] : region[4]]
        else:
            source = {"unchanged": old, "b": right}.get(region[0], left)
            merged += source[region[1] : region[2]]
    return Merge("".join(merged), tuple(clashes))


def _lines(start: int, end: int) -> str:
    if start == end:
        return f"after line {start}" if start else "before line 1"
    return f"line {end}" if end - start == 1 else f"lines {start + 1}-{end}"


def merge_records(base: Record | None, mine: Record, theirs: Record) -> Merged:
    """Merge two versions of one key: value, tags, expiry.

    JSON is merged by fields; bytes as text where all three are UTF-8 without NUL. A value that only one side changed is
    taken whatever it is. A deletion goes with an untouched other side only, never with a changed one. Without a base
    only equal values merge. A merged JSON value that says what one side says is that side's, byte for byte.

    Args:
        base: The last common version; None where it is not kept. A tombstone says that there was no value.
        mine: One side.
        theirs: The other side.
    """
    outcome = _merge_values(base, mine, theirs)
    source = outcome.source.meta
    return Merged(
        value=outcome.value,
        kind=source.kind,
        expires=merge_expiry(base, mine, theirs),
        tags=merge_tags(base.meta.tags if base else (), mine.meta.tags, theirs.meta.tags),
        deleted=source.deleted,
        clashes=outcome.clashes,
        why=outcome.why,
    )


def merge_tags(base: Iterable[str], mine: Iterable[str], theirs: Iterable[str]) -> tuple[str, ...]:
    """The tags that both have and those that one of them added, sorted; what one of them took away is gone."""
    old, left, right = frozenset(base), frozenset(mine), frozenset(theirs)
    return tuple(sorted((left & right) | (left - old) | (right - old)))


def merge_expiry(base: Record | None, mine: Record, theirs: Record) -> float | None:
    """The changed side's; where both changed it or there is no base, the later one. Never is the latest."""
    left, right = mine.meta.expires, theirs.meta.expires
    if base is not None and base.meta.expires in (left, right):
        return right if left == base.meta.expires else left
    return None if left is None or right is None else max(left, right)


def _merge_values(base: Record | None, mine: Record, theirs: Record) -> _Outcome:
    if same_value(mine, theirs):
        return _Outcome(mine.value, mine)
    if mine.meta.deleted or theirs.meta.deleted:
        return _merge_deletion(base, mine, theirs)
    if base is None:
        return _Outcome(None, mine, ("",), "their last common version is not kept")
    if same_value(theirs, base):
        return _Outcome(mine.value, mine)
    if same_value(mine, base):
        return _Outcome(theirs.value, theirs)
    kinds = {record.meta.kind for record in (base, mine, theirs) if not record.meta.deleted}
    if len(kinds) > 1:
        return _Outcome(None, mine, ("",), "one is JSON and another is bytes")
    return (_merge_json_records if mine.meta.kind is Kind.json else _merge_text_records)(base, mine, theirs)


def _merge_deletion(base: Record | None, mine: Record, theirs: Record) -> _Outcome:
    gone, other = (mine, theirs) if mine.meta.deleted else (theirs, mine)
    if base is not None and same_record(other, base):
        return _Outcome(b"", gone)
    return _Outcome(None, other, ("",), "one side deleted it and the other changed it")


def _merge_json_records(base: Record, mine: Record, theirs: Record) -> _Outcome:
    try:
        old = msgspec.UNSET if base.meta.deleted else _decoder.decode(base.value)
        left, right = _decoder.decode(mine.value), _decoder.decode(theirs.value)
        merge = merge_json(old, left, right)
        if merge.clashes:
            return _Outcome(None, mine, merge.clashes, "both sides changed the same fields")
        for side, value in ((mine, left), (theirs, right)):
            if same(merge.value, value):
                return _Outcome(side.value, side)
        return _Outcome(_encoder.encode(merge.value), mine)
    except (msgspec.DecodeError, UnicodeDecodeError, decimal.InvalidOperation) as error:
        return _Outcome(None, mine, ("",), f"a version is no JSON that can be merged ({error})")
    except RecursionError:
        return _Outcome(None, mine, ("",), "the JSON is nested too deeply")


def _merge_text_records(base: Record, mine: Record, theirs: Record) -> _Outcome:
    texts = [as_text(record.value) for record in (base, mine, theirs)]
    old, left, right = texts
    if old is None or left is None or right is None:
        return _Outcome(None, mine, ("",), "both sides changed it and it is no text")
    merge = merge_text(old, left, right)
    if not merge.clashes:
        return _Outcome(merge.value.encode(), mine)
    why = "the text is too long or repeats too much" if merge.clashes == ("",) else "both sides changed the same lines"
    return _Outcome(None, mine, merge.clashes, why)


def as_text(value: bytes) -> str | None:
    """The value as text; None where it is not UTF-8 or has a NUL in it."""
    if b"\0" in value:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
