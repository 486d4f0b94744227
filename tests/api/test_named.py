"""The routes with names of their own: the contract's fields, arguments from path, query and body, and unknowns as null."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from appliance.api import projections as project
from appliance.core.catalog.access import access_actions, factor_actions, tls_actions
from appliance.core.power.model import Level, Phase, PowerStatus, Setting, Supply
from appliance.core.state import Section
from appliance.core.tasks.model import Task, TaskState, Urgency
from appliance.core.vpn.status import PeerState, PeerStatus, VpnStatus
from appliance.errors import AbsentError, ConfigError, InvalidArgumentsError
from tests.api.rig import Api, serving

POWER = PowerStatus(setting=Setting.auto, phase=Phase.unknown, since=0.0, reason="no UPS answers")


@pytest.mark.asyncio(loop_scope="module")
async def test_power_has_the_contracts_fields_and_no_guess(api: Api) -> None:
    state = api.appliance.state
    async with api.client(await api.token("vera")) as client:
        absent = await client.get("/api/power/status")
        assert (absent.status_code, absent.json()["error"]["code"]) == (503, "absent")
        state.put(Section.power, POWER)
        found = (await client.get("/api/power/status")).json()
        names = (
            "is_on_battery",
            "battery_percent",
            "time_remaining_minutes",
            "power_plugged",
            "edge_only_mode",
            "routing_mode",
            "battery_state",
        )
        assert {found[name] for name in names} == {None}
        assert found["mode"] == "auto"
    status = PowerStatus(
        setting=Setting.off_grid, phase=Phase.unknown, since=0.0, reason="", supply=Supply.battery, level=Level.low,
        percent=15.0, runtime=600.0, edge_only=True, routing="edge-only",
    )  # fmt: skip
    told = project.power(status)
    assert (told["is_on_battery"], told["power_plugged"], told["time_remaining_minutes"]) == (True, False, 10.0)
    assert (told["mode"], told["battery_state"], told["edge_only_mode"]) == ("off-grid", "low", True)


def test_vpn_and_tasks_have_the_contracts_fields() -> None:
    peer = PeerStatus("phone", PeerState.connected, "key", ("10.8.0.9/32",), ())
    told = project.vpn(VpnStatus("wg0", True, 1, 1, (peer,)))
    assert (told["interface"], told["is_active"], told["total_peers"], told["connected_peers"]) == ("wg0", True, 1, 1)
    assert (told["peers"][0]["name"], told["peers"][0]["connected"]) == ("phone", True)
    task = project.task(Task(task_id="t", type="vision", state=TaskState.pending, priority=Urgency.high))
    assert (task["task_id"], task["status"], task["priority"]) == ("t", "pending", 3)
    for shape, values in ((project.vpn, (None,)), (project.offline, (None,)), (project.agents, (None, None))):
        with pytest.raises(AbsentError):
            shape(*values)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"key": "a:b", "value": "text"}, {"key": "a:b", "value": "text"}),
        ({"key": "a:b", "value": {"x": [1, None]}}, {"key": "a:b", "json_text": '{"x":[1,null]}'}),
        ({"key": "a:b", "value": None, "ttl": 5}, {"key": "a:b", "ttl": 5, "json_text": "null"}),
    ],
)
def test_a_value_may_be_any_json(given: dict[str, Any], made: dict[str, Any]) -> None:
    assert project.memory_set(given) == made
    with pytest.raises(InvalidArgumentsError):
        project.memory_set({"key": "a:b"})


@pytest.mark.asyncio(loop_scope="module")
async def test_arguments_that_do_not_fit_are_refused(api: Api) -> None:
    async with api.client(await api.token("otto")) as client:
        for method, path, body, status in (
            ("POST", "/api/power/mode/sideways", None, 422), ("POST", "/api/power/mode/auto", {"mode": "on-grid"}, 422),
            ("GET", "/api/tasks?limit=0", None, 422), ("GET", "/api/tasks?limit=1&limit=2", None, 422),
            ("GET", "/api/tasks?nonsense=1", None, 422), ("POST", "/api/tasks/submit", [1], 422),
            ("POST", "/api/tasks/submit", {"type": "vision", "priority": 9}, 422),
            ("GET", "/api/v1/analytics/query?metric=" + "x" * 300, None, 422), ("GET", "/api/memory/get", None, 422),
        ):  # fmt: skip
            answer = await client.request(method, path, json=body)
            assert answer.status_code == status, (path, answer.text)


@pytest.mark.parametrize(
    ("secret", "settings", "told"),
    [
        ({"JWT_SECRET": "your-secret-key-change-in-production"}, "", "JWT_SECRET"),
        ({"ADMIN_PASSWORD": "changeme"}, 'admin_username = "boss"\n', "ADMIN_PASSWORD"),
    ],
)
async def test_what_everybody_knows_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: dict[str, str], settings: str, told: str
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name, value in secret.items():
        monkeypatch.setenv(name, value)
    async with serving(home, settings) as api:
        with pytest.raises(ConfigError, match=told):
            await api.access._prepare() if told == "JWT_SECRET" else await first_admin(api)
        assert api.access._http.urls == ()


async def first_admin(api: Api) -> None:
    """As at a start without an administrator."""
    await api.appliance.store.write(lambda connection: connection.execute("DELETE FROM users"))
    await api.access._prepare()


def test_every_verb_of_the_documents_is_there() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()
    named = set(re.findall(r"prime-spark ((?:api|tls|totp) (?:(?:token|session) [a-z]+|[a-z]+))", text))
    made = [*access_actions(*[None] * 3), *factor_actions(None), *tls_actions(None, None)]  # type: ignore[arg-type]
    known = {action.name.replace(".", " ").replace("-", " ") for action in made}
    assert known == named
