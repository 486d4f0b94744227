"""Three-way merge of JSON, text and records."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.memory import codec
from appliance.core.memory.merge import MOST_LINES, Merge, merge_json, merge_records, merge_text, same, too_alike
from appliance.core.memory.model import Kind, Meta, Record

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from((0.5, 1.0, math.nan)) | st.text("ab/~", max_size=3)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from("abcdef"), documents, max_size=6)
texts = st.lists(st.sampled_from(("a\n", "b\n", "c\r\n", "d\n", "\u2028e\n", "\n")), max_size=8).flatmap(
    lambda lines: st.sampled_from(("", "end", "\r")).map(lambda last: "".join(lines) + last)
)


def record(
    value: Any = b"", kind: Kind = Kind.json, *, expires: float | None = None, tags: str = "", deleted: bool = False
) -> Record:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    meta = Meta(
        namespace="n",
        key="k",
        kind=kind,
        version="v",
        checksum=codec.checksum(kind, data, deleted=deleted),
        size=len(data),
        expires=expires,
        tags=tuple(tags.split()),
        deleted=deleted,
    )
    return Record(meta, data)


def text(value: str) -> Record:
    return record(value.encode(), Kind.bytes)


GONE = record(deleted=True)


@given(documents, documents)
def test_one_changed_side_is_taken(base: Any, changed: Any) -> None:
    for mine, theirs in ((changed, base), (base, changed), (changed, changed)):
        merge = merge_json(base, mine, theirs)
        assert merge.clashes == ()
        assert same(merge.value, changed)


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every place of a document with what is there; objects are places of their own."""
    if not isinstance(value, dict):
        return {path: value}
    found: dict[tuple[str, ...], Any] = {path: {}}
    for name, item in value.items():
        found |= leaves(item, (*path, name))
    return found


def same_items(one: list[Any], other: list[Any]) -> bool:
    """Whether two arrays hold the same items in any order."""
    left = list(other)
    for item in one:
        place = next((place for place, candidate in enumerate(left) if same(item, candidate)), None)
        if place is None:
            return False
        del left[place]
    return not left


@given(objects, objects, objects)
def test_both_directions_agree_on_what_clashes_and_on_the_fields(base: Any, mine: Any, theirs: Any) -> None:
    one, other = merge_json(base, mine, theirs), merge_json(base, theirs, mine)
    assert set(one.clashes) == set(other.clashes)
    if not one.clashes:
        left, right = leaves(one.value), leaves(other.value)
        assert left.keys() == right.keys()
        for path, value in left.items():
            assert same(value, right[path]) or same_items(value, right[path])


@given(objects, objects, objects)
def test_no_field_that_one_side_alone_changed_is_lost(base: Any, mine: Any, theirs: Any) -> None:
    merge = merge_json(base, mine, theirs)
    clashing = {clash.split("/")[1] for clash in merge.clashes}
    absent = msgspec.UNSET
    for name in {*base, *mine, *theirs}:
        old, left, right, merged = (side.get(name, absent) for side in (base, mine, theirs, merge.value))
        if same(left, old):
            assert name not in clashing
            assert same(merged, right)
        elif same(right, old):
            assert name not in clashing
            assert same(merged, left)


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "value", "clashes"),
    [
        ({"a": 1, "b": 2}, {"a": 3, "b": 2}, {"a": 1, "b": 4}, {"a": 3, "b": 4}, ()),
        ({"a": 1}, {"a": 2}, {"a": 3}, {"a": 2}, ("/a",)),
        ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}, ()),
        ({"a": 1, "b": 2}, {"b": 2}, {"a": 1, "b": 3}, {"b": 3}, ()),
        ({"a": 1}, {}, {}, {}, ()),
        ({"a": 1}, {}, {"a": 2}, {"a": 2}, ("/a",)),
        ({"a": 1}, {"a": 2}, {}, {"a": 2}, ("/a",)),
        ({"a": {"x": 1, "y": 1}}, {"a": {"x": 2, "y": 1}}, {"a": {"x": 1, "y": 2}}, {"a": {"x": 2, "y": 2}}, ()),
        ({"a": {"x": 1}}, {}, {"a": {"x": 2}}, {"a": {"x": 2}}, ("/a",)),
        ({}, {"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}, ()),
        ({}, {"a": {"x": 1}}, {"a": {"x": 2}}, {"a": {"x": 1}}, ("/a/x",)),
        ({"a": None}, {"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1}}, ("/a",)),
        ({"a/b": {"~": 0}}, {"a/b": {"~": 1}}, {"a/b": {"~": 2}}, {"a/b": {"~": 1}}, ("/a~1b/~0",)),
        ([1], [1, 2], [1, 3], [1, 2, 3], ()),
        ([1], [1, 2], [1, 3, 2], [1, 2], ("",)),
        ([1], [1, True], [1, 1], [1, True, 1], ()),
        ([1], [1, {"a": 1}], [1, {"a": 1.0}, 5], [1, {"a": 1}], ("",)),
        ([], ["x"], ["y"], ["x", "y"], ()),
        ([1, 2], [1], [1, 2, 3], [1], ("",)),
        ([1, 2], [1, 2], [2], [2], ()),
        ([1, 2], [1, 9], [8, 2], [1, 9], ("",)),
        ({}, {"a": [1]}, {"a": [2]}, {"a": [1]}, ("/a",)),
        (1, True, 1, True, ()),
        (True, 1, True, 1, ()),
        (0, False, 1, False, ("",)),
        (1, 1.0, 2, 2, ()),
        ("a", "b", "c", "b", ("",)),
        (None, {"a": 1}, [1], {"a": 1}, ("",)),
    ],
)
def test_json_by_example(base: Any, mine: Any, theirs: Any, value: Any, clashes: tuple[str, ...]) -> None:
    merge = merge_json(base, mine, theirs)
    assert merge.clashes == clashes
    assert json.dumps(merge.value) == json.dumps(value)


def test_fields_come_in_mines_order_and_theirs_new_ones_last() -> None:
    merge = merge_json({"a": 1, "b": 1}, {"n": 1, "b": 1, "a": 2}, {"z": 1, "a": 1, "y": 1, "b": 1})
    assert list(merge.value) == ["n", "b", "a", "z", "y"]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (True, 1, False),
        (False, 0, False),
        (1, 1.0, True),
        (2**53 + 1, float(2**53), False),
        (math.nan, math.nan, True),
        (math.nan, 0.0, False),
        ("1", 1, False),
        (None, 0, False),
        ([True], [1], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": None}, {}, False),
        ({}, [], False),
    ],
)
def test_what_is_the_same(one: Any, other: Any, equal: bool) -> None:
    assert same(one, other) is equal
    assert same(other, one) is equal


@given(texts, texts)
def test_a_text_that_one_side_changed_is_taken(base: str, changed: str) -> None:
    for mine, theirs in ((changed, base), (base, changed), (changed, changed)):
        assert merge_text(base, mine, theirs) == Merge(changed)


@given(texts, texts, texts)
def test_text_clashes_and_values_do_not_depend_on_the_side(base: str, mine: str, theirs: str) -> None:
    one, other = merge_text(base, mine, theirs), merge_text(base, theirs, mine)
    assert one.clashes == other.clashes
    if not one.clashes:
        assert one.value == other.value


TEN = "".join(f"line {number}\n" for number in range(1, 11))
TEXTS = [
    (TEN, TEN.replace("line 2", "LINE 2"), TEN.replace("line 9", "LINE 9")),
    (TEN, TEN.replace("line 2", "LINE 2"), TEN.replace("line 2", "zwei")),
    (TEN, TEN.replace("line 4", "LINE 4"), TEN.replace("line 5", "LINE 5")),
    (TEN, TEN.replace("line 3\n", ""), TEN.replace("line 8", "LINE 8")),
    (TEN, TEN.replace("line 3\n", ""), TEN.replace("line 3", "LINE 3")),
    (TEN, "first\n" + TEN, TEN + "last\n"),
    (TEN, TEN + "mine\n", TEN + "theirs\n"),
    (TEN, TEN.replace("line 5\n", "line 5\nnew\n"), TEN.replace("line 1\n", "")),
    (TEN, TEN.removesuffix("\n"), TEN.replace("line 1\n", "LINE 1\n")),
    (TEN, TEN.removesuffix("\n"), TEN + "more\n"),
    ("", "mine\n", "theirs\n"),
    (TEN, "", TEN.replace("line 1\n", "LINE 1\n")),
]


@pytest.mark.parametrize(("base", "mine", "theirs"), TEXTS)
def test_text_merges_as_diff3_does(base: str, mine: str, theirs: str, tmp_path: Path) -> None:
    for name, value in (("mine", mine), ("base", base), ("theirs", theirs)):
        (tmp_path / name).write_text(value)
    reference = subprocess.run(
        ["diff3", "-m", "mine", "base", "theirs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert reference.returncode in (0, 1), reference.stderr
    merge = merge_text(base, mine, theirs)
    assert bool(merge.clashes) == bool(reference.returncode)
    if not merge.clashes:
        assert merge.value == reference.stdout


def test_text_clashes_name_the_lines_of_the_base() -> None:
    base = "a\nb\nc\nd\ne\n"
    assert merge_text(base, base.replace("b\nc", "B\nC"), base.replace("b\nc", "x")).clashes == ("lines 2-3",)
    assert merge_text(base, base.replace("c", "C"), base.replace("c", "x")).clashes == ("line 3",)
    assert merge_text(base, base + "f\n", base + "g\n").clashes == ("after line 5",)
    assert merge_text(base, "f\n" + base, "g\n" + base).clashes == ("before line 1",)


def test_line_endings_stay_as_each_line_has_them() -> None:
    base = "a\r\nb\rc\x0bc\u2028c\nd\r\ne"
    merge = merge_text(base, base.replace("a", "A"), base.replace("e", "E"))
    assert merge == Merge("A\r\nb\rc\x0bc\u2028c\nd\r\nE")


def test_texts_that_would_take_long_to_compare_clash_as_a_whole() -> None:
    many = "\n" * (MOST_LINES + 1)
    assert merge_text(many, "a" + many, many + "b").clashes == ("",)
    repeating = "".join(f"{number % 150}\n" for number in range(30_000))
    assert too_alike(repeating.split("\n"), repeating.split("\n"))
    assert merge_text(repeating, "a" + repeating, repeating + "b").clashes == ("",)
    plain = "".join(f"{number}\n" for number in range(30_000))
    assert merge_text(plain, "a" + plain, plain + "b") == Merge("a" + plain + "b")


def test_records_merge_value_tags_and_expiry_each_by_itself() -> None:
    base = record({"a": 1, "b": 1}, tags="old keep", expires=100.0)
    mine = record({"b": 1, "a": 2}, tags="keep mine old", expires=100.0)
    theirs = record({"a": 1, "b": 2, "c": 3}, tags="keep theirs", expires=50.0)
    merged = merge_records(base, mine, theirs)
    assert (merged.value, merged.kind, merged.clashes) == (b'{"b":2,"a":2,"c":3}', Kind.json, ())
    assert (merged.tags, merged.expires, merged.deleted) == (("keep", "mine", "theirs"), 50.0, False)


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "expires"),
    [
        (9.0, 9.0, 5.0, 5.0),
        (9.0, 5.0, 9.0, 5.0),
        (9.0, 5.0, 7.0, 7.0),
        (9.0, None, 7.0, None),
        (None, 5.0, 7.0, 7.0),
        (9.0, 9.0, None, None),
    ],
)
def test_expiry(base: float | None, mine: float | None, theirs: float | None, expires: float | None) -> None:
    sides = (record({"a": 1}, expires=base), record({"a": 2}, expires=mine), record({"a": 1}, expires=theirs))
    assert merge_records(*sides).expires == expires


def test_expiry_without_a_base_is_the_later_one() -> None:
    assert merge_records(None, record(1, expires=5.0), record(1, expires=7.0)).expires == 7.0
    assert merge_records(None, record(1, expires=5.0), record(1)).expires is None


def test_text_records_merge_by_lines() -> None:
    merged = merge_records(text("a\nb\nc"), text("A\nb\nc"), text("a\nb\nC"))
    assert (merged.value, merged.kind) == (b"A\nb\nC", Kind.bytes)


def test_a_value_that_one_side_changed_is_taken_whatever_it_is() -> None:
    binary, other = record(b"\0\xff", Kind.bytes), record(b"\0\xfe", Kind.bytes)
    assert merge_records(binary, other, binary).value == b"\0\xfe"
    assert merge_records(binary, binary, other).value == b"\0\xfe"
    changed_kind = merge_records(record(1), record(1), record(b"1", Kind.bytes))
    assert (changed_kind.value, changed_kind.kind) == (b"1", Kind.bytes)


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "why"),
    [
        (None, record({"a": 1}), record({"b": 1}), "common version"),
        (record(b"\0", Kind.bytes), record(b"\0a", Kind.bytes), record(b"\0b", Kind.bytes), "no text"),
        (text("a"), text("b"), record(b"\xff", Kind.bytes), "no text"),
        (record(b"\xff", Kind.bytes), text("b"), text("c"), "no text"),
        (text("a"), text("b"), text("c"), "same lines"),
        (record({"a": 1}), record({"a": 2}), record({"a": 3}), "same fields"),
        (record(1), record(2), record(b"2", Kind.bytes), "JSON and another is bytes"),
        (text("1"), record(2), record(3), "JSON and another is bytes"),
        (record(1), record(b"{", Kind.json), record(2), "no JSON"),
        (record(1), record(b'"\xff"', Kind.json), record(2), "no JSON"),
        (record(1), record(b"1e99999999999999999999", Kind.json), record(2), "no JSON"),
        (record(1), record(b"[" * 100_000 + b"]" * 100_000, Kind.json), record(2), "nested too deeply"),
        (record(1), GONE, record(2), "deleted"),
        (record(1), record(2), GONE, "deleted"),
        (record(1), GONE, record(1, tags="new"), "deleted"),
        (None, GONE, record(2), "deleted"),
    ],
)
def test_what_does_not_merge(base: Record | None, mine: Record, theirs: Record, why: str) -> None:
    merged = merge_records(base, mine, theirs)
    assert merged.value is None
    assert not merged.clean
    assert merged.clashes
    assert why in merged.why


def test_deletions() -> None:
    for sides in ((GONE, record(1)), (record(1), GONE), (GONE, GONE)):
        merged = merge_records(record(1), *sides)
        assert (merged.deleted, merged.value) == (True, b"")


def test_two_that_were_made_anew_after_a_deletion_merge_as_additions() -> None:
    assert merge_records(GONE, record({"a": 1}), record({"b": 2})).value == b'{"a":1,"b":2}'
    assert merge_records(GONE, record({"a": 1}), record({"a": 2})).clashes == ("/a",)
    assert not merge_records(GONE, text("a"), text("b")).clean
    assert merge_records(GONE, record({}), record([1])).clashes == ("",)


def test_numbers_keep_their_digits() -> None:
    base, theirs = record(b'{"a":0,"b":1}', Kind.json), record(b'{"a":0,"b":0.1000000000000000000000001,"c":1e400}', Kind.json)
    mine = record(b'{"a":123456789012345678901234567890,"b":1}', Kind.json)
    value = merge_records(base, mine, theirs).value
    assert value == b'{"a":123456789012345678901234567890,"b":0.1000000000000000000000001,"c":1E+400}'


def test_spacing_and_order_are_no_change_and_a_side_that_has_all_is_kept_byte_for_byte() -> None:
    base, mine, theirs = (record(data, Kind.json) for data in (b'{"a":1,"b":2}', b'{"b": 2, "a": 1.0}', b'{"a":1, "b":3}'))
    assert merge_records(base, mine, theirs).value == b'{"a":1, "b":3}'
    assert merge_records(base, theirs, mine).value == b'{"a":1, "b":3}'
