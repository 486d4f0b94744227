"""Arguments that cannot be used are refused with what may be given instead, before anything is done."""

from __future__ import annotations

import pytest

from appliance.core.actions import permitted
from appliance.core.model import Role
from appliance.errors import InvalidArgumentsError
from appliance.screens.forms import FieldError, parse
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("inside", [None, Role.operator])
async def test_a_number_that_is_none_is_refused(bench: Bench, text: str, inside: Role | None) -> None:  # noqa: F811
    """It must not go on as "not given", which here means for ever."""
    code, _ = await line(bench, "memory", "set", "k", "v", "--ttl", text, inside=inside)
    assert code == 2
    assert (await line(bench, "memory", "stat", "k"))[0] == 1
    with pytest.raises(InvalidArgumentsError, match="ttl"):
        await bench.invoke("memory.set", key="k", value="v", ttl=float(text))
    with pytest.raises(FieldError, match="a number is needed"):
        parse("ttl", {"type": "number"}, text)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("memory", "list", "--limit", "0"), "1 to 1000"),
        (("memory", "set", "k", "v", "--ttl", "0"), "more than 0"),
        (("memory", "search", ""), "1 to 1000 characters"),
        (("memory", "set", "k", "v", "--tags", "x" * 65), "each 64 characters at most"),
    ],
)
async def test_the_next_step_names_the_range(bench: Bench, words: tuple[str, ...], told: str) -> None:  # noqa: F811
    code, text = await line(bench, *words)
    assert code == 2
    assert told in text.partition("next:")[2]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "1 to 9"),
        ({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}, "more than 0"),
        ({"type": "number", "maximum": 1}, "at most 1"),
        ({"enum": ["a", "b"], "type": "string"}, "one of a, b"),
        (
            {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 64}},
            "3 at most, each 64 characters at most",
        ),
        ({"type": "string", "minLength": 4, "maxLength": 64}, "4 to 64 characters"),
        ({"type": "string"}, ""),
    ],
)
def test_a_schema_in_words(schema: dict[str, object], told: str) -> None:
    assert permitted(schema) == told


@pytest.mark.parametrize(
    "words",
    [
        ("memory", "set", "bad\udcff", "x"), ("memory", "set", "k", "\udcff"), ("memory", "list", "--tag", "\udcff"),
        ("memory\udcff",), ("config", "set", "node.device_id", "\udcff"), ("infer", "/tmp/\udcff"),
    ],
)  # fmt: skip
async def test_what_is_no_text_is_refused_in_a_sentence(bench: Bench, words: tuple[str, ...]) -> None:  # noqa: F811
    code, text = await line(bench, *words)
    assert code == 2
    assert f"Argument {next(number for number, word in enumerate(words, 1) if not word.isascii())} is not UTF-8 text" in text
    assert "Traceback" not in text
    text.encode()
