"""docs/voice.md tells every setting with its default, every key of the page, and no verb that is not there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from appliance.core.catalog.voice import voice_actions
from appliance.screens.voice import Voice
from appliance.settings import Settings
from appliance.settingvoice import VoiceService, VoiceSettings, WyomingSettings
from appliance.verbs.voice import OWN

PAGE = (Path(__file__).parents[2] / "docs" / "voice.md").read_text()


def as_toml(value: Any) -> str:
    """A default as the file of settings has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(as_toml(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, int | float) else "none"


@pytest.mark.parametrize("group", [VoiceSettings, WyomingSettings, VoiceService], ids=lambda group: group.__name__)
def test_every_setting_is_told_with_its_default(group: type[BaseModel]) -> None:
    for name, field in group.model_fields.items():
        if name == "wyoming":
            continue
        default = "must be given" if field.is_required() else as_toml(field.default)
        assert f"| {name} | {default} |" in PAGE


def test_no_setting_is_told_that_is_not_there() -> None:
    known = {name for group in (VoiceSettings, WyomingSettings, VoiceService) for name in group.model_fields}
    told = set(re.findall(r"^\| ([a-z_]+) \| (?:true|false|none|must be given|[\d.]+|\"[^|]*|\[[^|]*) \|", PAGE, re.MULTILINE))
    assert told
    assert told <= known


def test_examples_are_settings_that_are_accepted() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) >= 2
    for each in examples:
        Settings.model_validate(tomllib.loads(each))


def test_every_key_of_the_page_is_told() -> None:
    cells = {cell.strip() for line in PAGE.splitlines() if line.startswith("|") for cell in line.split("|")}
    assert {key for key, _ in Voice.keys} <= cells


def test_recipes_are_verbs_that_are_there() -> None:
    actions = {action.name.partition(".")[2] for action in voice_actions(None)}  # type: ignore[arg-type]
    verbs = actions | {str(command.name) for commands in OWN.values() for command in commands}
    told = set(re.findall(r"prime-spark voice ([a-z]+)", PAGE))
    assert len(told) > 15
    assert told <= verbs
    assert verbs - told <= {"status", "cancel"}, "a verb that the page does not tell of"
