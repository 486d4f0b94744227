"""Operations as fronts ask for them: roles, confirmations that name the machines, output with offsets, lists."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.actions import ActionRegistry
from appliance.core.catalog import agents
from appliance.core.catalog.fleet_operations import IN_ONE, operation_actions
from appliance.core.catalog.fleet_services import listing_actions
from appliance.core.dispatch import Dispatcher
from appliance.core.fleet.operations import kinds
from appliance.core.fleet.operations.firewall import Firewall, parse
from appliance.core.fleet.operations.model import OperationStatus, Stage
from appliance.core.fleet.operations.outputs import HEAD, LEAST, TAIL, TOTAL, Output
from appliance.core.model import Actor, Role
from appliance.errors import ConfirmationRequiredError, ConflictError, InvalidArgumentsError, NotAuthorizedError
from tests.fleet.ops.local import Fleet
from tests.fleet.ops.rig import Rig, folders, known, states
from tests.support import wait_for

ADMIN, OPERATOR, VIEWER = (Actor(name, Role(name), "socket") for name in ("admin", "operator", "viewer"))
SYSTEMCTL = """#!/bin/sh
case $1 in
  show) printf 'LoadState=loaded\\nActiveState=%s\\nUnitFileState=enabled\\n' "$(cat "$NODE/web")" ;;
  list-units) printf 'web.service loaded active running The web\\nold.service not-found inactive dead old\\n' ;;
  start|restart) echo active >"$NODE/web"; echo "$1" >>"$NODE/calls" ;;
  stop) echo inactive >"$NODE/web" ;;
  *) exit 64 ;;
esac
"""


class NoAudit:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        self.rows.append(f"{actor.name} {action} {outcome}")


class Front(Rig):
    """Asks by actions."""

    def __init__(self, directory: Path, fleet: Fleet) -> None:
        super().__init__(directory, fleet, fleet)
        registry = ActionRegistry()
        registry.add(*operation_actions(self.service, fleet), *listing_actions(fleet, fleet))
        self.audit = NoAudit()
        self.dispatcher = Dispatcher(registry, self.audit)

    async def ask(self, name: str, actor: Actor = ADMIN, *, confirm: bool = False, **args: Any) -> Any:
        return await self.dispatcher.invoke(name, args, actor, confirm=confirm)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("systemctl", "reboot", "poweroff"):
        (tools / name).write_text(SYSTEMCTL if name == "systemctl" else "#!/bin/sh\nexit 64\n")
        (tools / name).chmod(0o755)
    made = Fleet(tmp_path / "nodes", folders(tmp_path / "nodes", "a", "b", "c").all(), str(tools))
    for name in made.nodes():
        (made.root / name / "web").write_text("inactive\n")
    return made


@pytest.fixture
async def front(tmp_path: Path, fleet: Fleet) -> AsyncIterator[Front]:
    made = Front(tmp_path, fleet)
    await made.start()
    yield made
    await made.stop()


async def test_a_command_on_all_nodes_streams_its_output_host_by_host(front: Front) -> None:
    begun = await front.ask("fleet.run", nodes=["all"], command='echo "on $(basename "$NODE")"')
    assert begun.stage in {Stage.canary, Stage.rest}

    async def parts() -> list[str]:
        asked = [await front.ask("fleet.operation-output", operation_id=begun.operation_id, node=name) for name in "abc"]
        return [part.text for part in asked if part.ended]

    assert await wait_for(lambda: _all(parts)) == ["on a\n", "on b\n", "on c\n"]
    await front.service.wait(begun.operation_id)
    ended = await front.ask("fleet.operation", VIEWER, operation_id=begun.operation_id[-8:])
    assert (ended.stage, ended.max_failures) == (Stage.completed, 1000)
    assert [each.operation_id for each in await front.ask("fleet.operations", VIEWER)] == [begun.operation_id]
    with pytest.raises(NotAuthorizedError):
        await front.ask("fleet.run", OPERATOR, nodes=["all"], command="true")
    with pytest.raises(NotAuthorizedError):
        await front.ask("fleet.operation-output", VIEWER, operation_id=begun.operation_id, node="a")
    with pytest.raises(NotAuthorizedError):  # what an administrator's command said
        await front.ask("fleet.operation-output", OPERATOR, operation_id=begun.operation_id, node="a")


async def _all(parts: Any) -> Any:
    found = await parts()
    return found if len(found) == 3 else None


async def test_two_steps_with_a_confirmation_that_names_the_machines(front: Front, fleet: Fleet) -> None:
    planned = await front.ask(
        "fleet.plan", OPERATOR, kind="service.restart", nodes=["a", "b"], arguments={"unit": "web"}, soak=0
    )
    assert (planned.stage, planned.owner) == (Stage.planned, "operator")
    with pytest.raises(ConfirmationRequiredError) as caught:
        await front.ask("fleet.apply", OPERATOR, operation_id=planned.operation_id)
    assert caught.value.message.startswith("Restart web on 2 nodes (a, b)?")
    assert "It cannot be taken back" in caught.value.message
    given = {"operation_id": planned.operation_id, "plan_hash": planned.plan_hash, "wait_seconds": 60}
    ended = await front.ask("fleet.apply", OPERATOR, confirm=True, **given)
    assert (ended.stage, states(ended)) == (Stage.completed, {"a": "ok", "b": "ok"})
    assert "operator fleet.apply ok" in front.audit.rows
    with pytest.raises(ConflictError, match="no plan any more"):
        await front.ask("fleet.apply", OPERATOR, confirm=True, **given)


async def test_both_steps_in_one(front: Front, fleet: Fleet) -> None:
    ended: OperationStatus = await front.ask(
        "fleet.service-start", OPERATOR, nodes=["all"], unit="web", soak=0, wait_seconds=60
    )
    assert (ended.stage, states(ended)) == (Stage.completed, dict.fromkeys("abc", "ok"))
    again = await front.ask("fleet.service-start", OPERATOR, nodes=["all"], unit="web", soak=0)
    assert (again.stage, again.reason) == (Stage.completed, "there is nothing to do: it is so already")
    with pytest.raises(ConfirmationRequiredError) as caught:
        await front.ask("fleet.service-restart", OPERATOR, nodes=["all", "b"], unit="web", soak=30)
    assert caught.value.message == (
        "Restart web on 3 nodes (a, b, c)? 1 of them first, the rest after 30 s. "
        "It cannot be taken back: a restart is not taken back."
    )
    await front.ask("fleet.operation-undo", OPERATOR, confirm=True, operation_id=ended.operation_id, wait_seconds=60)
    assert (fleet.root / "c/web").read_text() == "inactive\n"


async def test_the_role_of_the_kind_counts_in_two_steps_too(front: Front) -> None:
    with pytest.raises(NotAuthorizedError, match=r"users\.add needs the role admin"):
        await front.ask("fleet.plan", OPERATOR, kind="users.add", nodes=["a"], arguments={"user": "eve"})
    planned = await front.ask("fleet.plan", ADMIN, kind="run", nodes=["a"], arguments='{"command": "true"}')
    for name in ("fleet.apply", "fleet.operation-cancel"):
        with pytest.raises(NotAuthorizedError):
            await front.ask(name, OPERATOR, confirm=True, operation_id=planned.operation_id)
    gone = await front.ask("fleet.operation-cancel", ADMIN, operation_id=planned.operation_id)
    assert (gone.stage, gone.reason) == (Stage.cancelled, "admin gave it up")


async def test_lists_tell_of_each_node_by_itself(front: Front, fleet: Fleet) -> None:
    fleet.dead.add("b")
    told = await front.ask("fleet.service-list", OPERATOR, nodes=["all"])
    assert [unit.name for unit in told[0].rows] == ["old.service", "web.service"]
    assert (told[1].rows, told[1].error) == (None, "b does not answer.")
    users = await front.ask("fleet.user-list", OPERATOR, nodes=["a"])
    assert users[0].rows[0]["user"] == "root"
    assert msgspec.json.encode(told)


async def test_bad_input_names_what_is_wrong(front: Front) -> None:
    bad: list[tuple[str, dict[str, Any]]] = [
        ("fleet.run", {"nodes": [], "command": "true"}),
        ("fleet.run", {"nodes": ["a"], "command": ""}),
        ("fleet.service-start", {"nodes": ["a"], "unit": "-x; reboot"}),
        ("fleet.key-add", {"nodes": ["a"], "user": "root", "key": "ssh-rsa " + "A" * 30}),
        ("fleet.plan", {"nodes": ["a"], "kind": "service.begin"}),
        ("fleet.plan", {"nodes": ["a"], "kind": "os.system"}),
        ("fleet.plan", {"nodes": ["a"], "kind": "run", "arguments": "{command"}),
    ]
    for name, args in bad:
        with pytest.raises(InvalidArgumentsError):
            await front.ask(name, confirm=True, **args)


async def test_a_message_is_said_of_every_kind(front: Front) -> None:
    told = await front.ask("fleet.operation-kinds", VIEWER)
    assert {row["kind"] for row in told} >= set(IN_ONE.values())
    assert set(IN_ONE.values()) | {"run", *agents.IN_ONE} == set(kinds.all_kinds())


UFW = """ufw
Status: active
Default: deny (incoming), allow (outgoing), disabled (routed)

To   Action   From
22/tcp                     ALLOW IN    Anywhere
8000/tcp                   ALLOW IN    10.8.0.0/24
22/tcp (v6)                ALLOW IN    Anywhere (v6)
"""
NFT = """nftables
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		tcp dport 22 accept
		ip saddr 10.8.0.0/24 tcp dport { 80, 443 } accept
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
	}
}
"""
IPTABLES = """iptables
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -s 10.0.0.0/8 -p udp -m multiport --dports 53,67 -j ACCEPT
COMMIT
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("none\n", Firewall("none")),
        (UFW, Firewall("ufw", "drop", None, ("22/tcp", "8000/tcp from 10.8.0.0/24"), 3)),
        (NFT, Firewall("nftables", "drop", "accept", ("22/tcp", "80/tcp from 10.8.0.0/24", "443/tcp from 10.8.0.0/24"), 3)),
        (IPTABLES, Firewall("iptables", "drop", "accept", ("22/tcp", "53/udp from 10.0.0.0/8", "67/udp from 10.0.0.0/8"), 3)),
    ],
)
def test_a_firewall_is_told_in_short(text: str, wanted: Firewall) -> None:
    assert parse(text) == wanted


def test_output_keeps_its_head_and_its_tail_and_counts_the_rest() -> None:
    output = Output(nodes=1)
    output.add("stdout", b"x" * 10_000_000)  # one line without an end
    output.add("stderr", b"half a li")
    output.add("stderr", b"ne\nwhole\n")
    output.end()
    head, tail = output.parts()
    assert (len(head), len(tail)) == (HEAD, TAIL)
    assert output.dropped == output.size - HEAD - TAIL > 9_000_000
    assert tail.endswith(b"half a line\nwhole\n")
    many = Output(nodes=100_000)
    many.add("stdout", b"y" * 100_000)
    assert sum(map(len, many.parts())) <= LEAST
    assert TOTAL // 1000 < HEAD + TAIL


def test_every_part_of_output_follows_the_one_before() -> None:
    output = Output()
    for index in range(20_000):
        output.add("stdout", f"line {index}\n".encode())
    output.end()
    at, text, lost = 0, "", 0
    while not (part := output.read("a", at, 5000)).ended:
        assert part.after - part.dropped == at
        at, text, lost = part.next, text + part.text, lost + part.dropped
    text, lost = text + part.text, lost + part.dropped
    assert lost == output.dropped > 0
    assert text.startswith("line 0\n")
    assert text.endswith("line 19999\n")
    assert output.lines == 20_000


def test_the_kind_of_the_tests_is_none_of_the_appliance(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "rig.set" not in kinds.all_kinds()
    known(monkeypatch)
    assert kinds.find("rig.set").name == "rig.set"


async def test_what_can_be_done_nowhere_names_the_operation_that_says_why(front: Front, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "systemctl"
    tool.write_text("#!/bin/sh\nprintf 'LoadState=not-found\\nActiveState=inactive\\n'\n")
    with pytest.raises(ConflictError, match=r"^It cannot be done: a: ") as caught:
        await front.ask("fleet.service-start", confirm=True, nodes=["a"], unit="nowhere.service")
    assert ".." not in str(caught.value)
    asked = re.search(r"`prime-spark fleet operation (\S+)`", caught.value.next_step)
    assert asked is not None
    assert (await front.ask("fleet.operation", VIEWER, operation_id=asked[1])).stage is Stage.failed
