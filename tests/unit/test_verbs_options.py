"""What actions' parameters are on the command line."""

from __future__ import annotations

from typing import Any

import click
import pytest

from appliance.verbs.dynamic import parameter
from appliance.verbs.forms import Command

SCHEMA = {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": None}


@pytest.mark.parametrize(
    ("words", "value", "file"),
    [
        ([], None, None),
        (["--repeat"], True, None),
        (["--repeat", "no"], False, None),
        (["film", "--repeat"], True, "film"),
        (["--repeat", "--rate", "2"], True, None),
        (["--repeat", "film"], True, "film"),
        (["--repeat", "--", "no"], True, "no"),
        (["--repeat=off", "film"], False, "film"),
    ],
)
def test_yes_need_not_be_said(words: list[str], value: bool | None, file: str | None) -> None:
    given: dict[str, Any] = {}
    options = [click.Argument(["file"], required=False), parameter("repeat", SCHEMA, required=False, positional=False)]
    made = Command("add", params=[*options, click.Option(["--rate"])], callback=lambda **args: given.update(args))
    made.main(words, standalone_mode=False)
    assert (given["repeat"], given["file"]) == (value, file)


def test_a_value_that_is_none_is_refused() -> None:
    made = Command("add", params=[parameter("repeat", SCHEMA, required=False, positional=False)])
    with pytest.raises(click.BadParameter, match="perhaps"):
        made.main(["--repeat=perhaps"], standalone_mode=False)
