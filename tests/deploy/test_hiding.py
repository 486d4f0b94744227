"""Values of an environment are shown to nobody who may not deploy."""

from __future__ import annotations

import tomllib
from base64 import b64encode
from typing import Any, cast

import msgspec
import pytest

from appliance.core.actions import Invocation
from appliance.core.catalog.deploy import File, Past, deploy_actions
from appliance.core.deploy.desk import Desk, History, difference
from appliance.core.deploy.hiding import HIDDEN, WHOLE, hidden, turned
from appliance.core.deploy.model import Version
from appliance.core.model import Actor, Role

SECRET = "hunter2"
WAYS = [
    '[environment]\nTOKEN = "hunter2"  # hunter2\n# OLD = "hunter2"\nPLAIN = "x"\n\n[rollout]\nsoak = 3\n',
    'environment = { TOKEN = "hunter2", PLAIN = "x" }\n[rollout]\nsoak = 3\n',
    'environment.TOKEN = "hunter2"\nenvironment.PLAIN = "x"\n[rollout]\nsoak = 3\n',
    'environment.TOKEN = "hunter2"\nversion = "1"\nenvironment.PLAIN = "x"\n[rollout]\nsoak = 3\n',
    '["environment"]\n"TOKEN" = """\\\nhunter2"""\nPLAIN = "x"\n[rollout]\nsoak = 3\n',
]


@pytest.mark.parametrize("way", WAYS)
def test_values_go_and_names_stay_however_it_is_written(way: str) -> None:
    told = hidden(f'name = "web"\n{way}')
    assert SECRET not in told
    if told != WHOLE:
        found = tomllib.loads(told)
        assert found["environment"] == {"TOKEN": HIDDEN, "PLAIN": HIDDEN}
        assert found["rollout"] == {"soak": 3}


def test_what_is_usual_is_shown_but_for_its_values() -> None:
    assert all(hidden(f'name = "web"\n{way}') != WHOLE for way in WAYS[:2])
    assert hidden('name = "web"\n# mine\n') == 'name = "web"\n# mine\n'
    assert hidden("name = ") == WHOLE


def test_a_difference_has_no_values_and_says_whose_change() -> None:
    old, new = WAYS[0], WAYS[0].replace(SECRET, "hunter3").replace("soak = 3", "soak = 4")
    told = difference(old, new, "1", "2")
    assert "+soak = 4" in told
    assert "hunter" not in told
    assert turned({"A": "1", "B": "1", "C": "1"}, {"A": "2", "B": "1", "D": "1"}) == ["A"]


@pytest.mark.parametrize(("role", "seen"), [(Role.viewer, False), (Role.operator, False), (Role.admin, True)])
async def test_the_past_is_told_with_values_to_admins_alone(role: Role, seen: bool) -> None:
    class Kept:
        service = None

        async def history(self, name: str, limit: int) -> History:
            return History((Version(name, 1, "1", 0.0, "ada", WAYS[0]),), (), ())

    action = next(each for each in deploy_actions(cast("Desk", Kept())) if each.name == "deploy.history")
    answer: Any = await action.handler(Invocation(Actor("eve", role, "test"), action.name, "x"), Past(name="web"))
    assert (SECRET in msgspec.json.encode(answer).decode()) is seen
    assert "TOKEN" in answer.versions[0].document


def test_the_audit_has_no_word_of_a_specification() -> None:
    given = File.model_validate({"file": b64encode(WAYS[0].encode()).decode()})
    assert given.text == WAYS[0]
    assert given.model_dump(mode="json") == {"file": "**********"}
