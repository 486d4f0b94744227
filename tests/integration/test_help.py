"""The help says what each noun is about."""

from __future__ import annotations

import re

from appliance.verbs.nouns import NOUNS
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401


async def test_every_noun_has_a_text_of_its_own(bench: Bench) -> None:  # noqa: F811
    nouns = {action.name.partition(".")[0] for action in bench.appliance.registry}
    assert nouns == set(NOUNS)
    code, text = await line(bench, "--help")
    assert code == 0
    assert not re.search(r"Actions on \w+s\b", text)
    for noun in sorted(nouns - {"config", "doctor"}):
        code, text = await line(bench, noun, "--help")
        assert code == 0
        assert NOUNS[noun][:40] in " ".join(text.split()), text
