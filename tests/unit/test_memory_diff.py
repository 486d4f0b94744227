"""Values as lines, and lines side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.memory.diff import WIDEST, DiffRow, as_lines, side_by_side
from appliance.core.memory.merge import merge_text
from appliance.core.memory.model import Kind

texts = st.lists(st.sampled_from("abcd"), max_size=10).map("\n".join)


def marks(mine: str, theirs: str, base: str | None = None) -> list[tuple[str | None, str | None, str, str]]:
    return [(row.left, row.right, row.mark, row.by) for row in side_by_side(mine, theirs, base)]


@given(texts, texts, st.none() | texts)
def test_each_side_is_whole_and_in_order(mine: str, theirs: str, base: str | None) -> None:
    rows = side_by_side(mine, theirs, base)
    assert "\n".join(row.left for row in rows if row.left is not None) == mine
    assert "\n".join(row.right for row in rows if row.right is not None) == theirs
    for lines, numbers in (
        (mine.split("\n"), [row.left_number for row in rows if row.left_number is not None]),
        (theirs.split("\n"), [row.right_number for row in rows if row.right_number is not None]),
    ):
        assert numbers == list(range(1, len(lines) + 1))
    for row in rows:
        assert (row.left is None) == (row.left_number is None) == (row.mark == "right")
        assert (row.right is None) == (row.right_number is None) == (row.mark == "left")
        assert (row.left == row.right) == (row.mark == "same")
        assert row.by == "" or (row.mark != "same" and base is not None)


@given(texts, texts)
def test_what_one_side_alone_changed_is_told_so(base: str, changed: str) -> None:
    assert {row.by for row in side_by_side(changed, base, base) if row.mark != "same"} <= {"mine"}
    assert {row.by for row in side_by_side(base, changed, base) if row.mark != "same"} <= {"theirs"}


def test_marks_and_numbers() -> None:
    assert side_by_side("a\nb\nc", "a\nB\nc\nd", None) == (
        DiffRow(left="a", right="a", mark="same", left_number=1, right_number=1),
        DiffRow(left="b", right="B", mark="changed", left_number=2, right_number=2),
        DiffRow(left="c", right="c", mark="same", left_number=3, right_number=3),
        DiffRow(left=None, right="d", mark="right", left_number=None, right_number=4),
    )


def test_who_changed_what() -> None:
    base = "one\n1\ntwo\n2\nthree\nfour\n4\nfive\nsix"
    mine = "ONE\n1\ntwo\n2\nTHREE\nfour\n4\nsix\nmine"
    theirs = "one\n1\nTWO\n2\nthree\nFOUR\n4\nfive\nsix"
    assert marks(mine, theirs, base) == [
        ("ONE", "one", "changed", "mine"),
        ("1", "1", "same", ""),
        ("two", "TWO", "changed", "theirs"),
        ("2", "2", "same", ""),
        ("THREE", "three", "changed", "both"),
        ("four", "FOUR", "changed", "both"),
        ("4", "4", "same", ""),
        (None, "five", "right", "mine"),
        ("six", "six", "same", ""),
        ("mine", None, "left", "mine"),
    ]


@given(texts, texts, texts)
def test_both_is_where_a_merge_clashes(base: str, mine: str, theirs: str) -> None:
    clashes = merge_text(base + "\n", mine + "\n", theirs + "\n").clashes
    both = [row for row in side_by_side(mine, theirs, base) if row.by == "both"]
    assert bool(both) == bool(clashes)


def test_a_missing_final_newline_is_seen() -> None:
    lines = ["\n".join(as_lines(Kind.bytes, value, 10)) for value in (b"a\n", b"a")]
    assert marks(*lines) == [("a", "a", "same", ""), ("", None, "left", "")]


def test_lines_that_repeat_too_much_are_compared_in_place() -> None:
    many = [str(number % 150) for number in range(30_000)]
    other = [*many[:100], "new", "newer", *many[101:]]
    rows = side_by_side("\n".join(many), "\n".join(other), "\n".join(many))
    assert [(row.left, row.right, row.mark, row.by) for row in rows if row.mark != "same"] == [
        ("100", "new", "changed", ""),
        (None, "newer", "right", ""),
    ]
    assert len(rows) == 30_001


def test_no_line_is_counted_to_the_common_start_and_end_at_once() -> None:
    many = [str(number % 150) for number in range(30_000)]
    rows = side_by_side("\n".join(many), "\n".join([*many, *many[:150]]), None)
    assert [row.left for row in rows if row.left is not None] == many
    assert [row.mark for row in rows] == ["same"] * 30_000 + ["right"] * 150


def test_json_is_indented_sorted_and_keeps_its_digits() -> None:
    value = b'{"b":1.10,"a":[123456789012345678901234567890,"\xc3\xa4\\u001b"]}'
    assert as_lines(Kind.json, value, 10) == (
        "{",
        '  "a": [',
        "    123456789012345678901234567890,",
        '    "ä\\u001b"',
        "  ],",
        '  "b": 1.10',
        "}",
    )


@pytest.mark.parametrize("value", [b"{no json", b"[" * 50_000, b"1e99999999999999999999"])
def test_json_that_cannot_be_read_is_shown_as_it_is(value: bytes) -> None:
    assert as_lines(Kind.json, value, 10)[0].startswith(value[:WIDEST].decode())


def test_binary_is_dumped() -> None:
    assert as_lines(Kind.bytes, b"\0ab\xff....12", 10) == (
        "binary, 10 bytes",
        "000000 00 61 62 ff 2e 2e 2e 2e .ab.....",
        "000008 31 32                   12",
    )
    assert as_lines(Kind.json, b"\xff", 10) == ("binary, 1 bytes", f"000000 ff{' ' * 22}.")


def test_what_a_terminal_would_obey_is_named() -> None:
    shown = as_lines(Kind.bytes, "a\tb\r\n\x1b[2J\u202e\u2028é漢".encode(), 10)
    assert shown == ("a<TAB>b<CR>", "<ESC>[2J<U+202E><U+2028>é漢")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(Kind), st.integers(1, 5))
def test_any_value_is_shown_within_the_limit(value: bytes, kind: Kind, limit: int) -> None:
    lines = as_lines(kind, value, limit)
    assert 1 <= len(lines) <= limit + 1
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("kind", "make", "what"),
    [
        (Kind.bytes, lambda end: b"line\n" * 20 + end, "16 more lines"),
        (Kind.bytes, lambda end: b"\0" * 100 + end, "69 more bytes"),
        (Kind.bytes, lambda end: b"x" * WIDEST + end, "1 more characters"),
        (Kind.json, lambda end: b"[0,1,2,3,4,5,6," + end + b"]", "5 more lines"),
    ],
)
def test_what_is_left_out_is_told_and_a_difference_there_is_seen(kind: Kind, make: object, what: str) -> None:
    assert callable(make)
    one, same, other = (as_lines(kind, make(end), 5) for end in (b"1", b"1", b"2"))
    assert what in one[-1]
    assert one == same
    assert one != other


def test_empty_values_and_limits() -> None:
    assert as_lines(Kind.bytes, b"", 1) == ("",)
    assert as_lines(Kind.bytes, b"\0", 1)[0] == "binary, 1 bytes"
    with pytest.raises(ValueError, match="at least one"):
        as_lines(Kind.bytes, b"a", 0)
