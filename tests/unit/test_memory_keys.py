"""Which names values may have: two checks, one for a key and one for many, that say the same."""

from __future__ import annotations

import pytest

from appliance.core.memory.keys import check_key
from appliance.core.memory.memory import check_keys
from appliance.errors import InvalidArgumentsError

GOOD = [
    "a",
    "../x",
    "a b",
    "\N{FAMILY}",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
]
BAD = ["", "a\0b", "a\nb", "\u200d", "\u200c\u200d", "\ud800", "a\u202eb", "\u200b", "x" * 1025, "\u200d" * 400]


@pytest.mark.parametrize("key", GOOD)
def test_words_of_any_script_and_joined_emoji_are_keys(key: str) -> None:
    assert check_key(key) == key
    check_keys({key: 1, "other": 2})


@pytest.mark.parametrize("key", BAD)
def test_what_cannot_be_read_or_is_too_long_is_none(key: str) -> None:
    with pytest.raises(InvalidArgumentsError):
        check_key(key)
    with pytest.raises(InvalidArgumentsError):
        check_keys({"other": 1, key: 2})
