"""What may be asked for is bounded: every text that an action of the spine takes has a longest length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.core.actions import Params
from appliance.core.catalog import data, doctor, inference, memory, models, people, services, settings, sync, work
from appliance.core.catalog.inference import Pictures
from appliance.core.catalog.settings import Setting

BOUNDED = {"maxLength", "enum", "const", "pattern"}


def kinds() -> list[type[Params]]:
    """The parameters of these actions."""
    modules = (data, doctor, inference, memory, models, people, services, settings, sync, work)
    names = [each for module in modules for each in vars(module).values()]
    found = {each for each in names if isinstance(each, type) and issubclass(each, Params)}
    return sorted(found, key=lambda kind: kind.__name__)


def unbounded(schema: Any, where: str) -> Iterator[str]:
    """Texts in a JSON schema without a bound."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and not BOUNDED & schema.keys():
            yield where
        for name, inner in schema.items():
            yield from unbounded(inner, f"{where}.{name}")
    elif isinstance(schema, list):
        for inner in schema:
            yield from unbounded(inner, where)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_text_has_a_longest_length(kind: type[Params]) -> None:
    assert list(unbounded(kind.model_json_schema(), kind.__name__)) == []


def test_too_long_a_text_is_refused() -> None:
    Pictures(paths=["/" + "x" * 4095])
    for call in (lambda: Pictures(paths=["x" * 4097]), lambda: Setting(key="x" * 257, value="1")):
        with pytest.raises(ValidationError, match="at most"):
            call()
