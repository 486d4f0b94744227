"""The VPN on the command line, of a running appliance that has none configured: peers are kept all the same."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import msgspec
import pytest

from appliance.core.model import Actor, Role
from appliance.core.vpn import keys, quick
from appliance.core.vpn.qr import matrix, small
from appliance.errors import NotAuthorizedError
from appliance.screens.vpn_code import drawn
from appliance.verbs.vpn import code as code_for
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401


async def test_the_life_of_a_peer(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    code, text = await line(bench, "vpn", "status", "--json")
    status = msgspec.json.decode(text)
    assert code == 0
    assert {"interface", "is_active", "total_peers", "connected_peers", "peers"} <= set(status)
    code, text = await line(bench, "vpn", "peer", "add", "phone", "--networks", "192.168.7.0/24", "--expires", "30d")
    assert (code, "10.8.0.1/32" in text, "vpn peer export phone" in text) == (0, True, True)
    code, text = await line(bench, "vpn", "peer", "export", "phone")
    assert code == 5
    assert "This once" in text
    code, text = await line(bench, "vpn", "peer", "export", "phone", "--yes", "--endpoint", "vpn.example.org:4711")
    assert code == 0
    file = quick.parse(text)
    assert file.addresses == ("10.8.0.1/24",)
    assert file.peers[0].endpoint == "vpn.example.org:4711"
    assert file.peers[0].keepalive == 25
    code, text = await line(bench, "vpn", "peer", "export", "phone", "--yes")
    assert (code, "vpn peer rotate phone" in text) == (1, True)
    code, text = await line(bench, "vpn", "status")
    assert (code, "phone" in text, "wg0 off   0 of 1 peers connected" in text) == (0, True, True)
    code, text = await line(bench, "vpn", "explain", "phone")
    assert (code, "switched off" in text) == (0, True)
    code, text = await line(bench, "vpn", "reconcile")
    assert (code, "vpn.enabled" in text) == (1, True)
    code, text = await line(bench, "vpn", "peer", "remove", "phne", "--yes")
    assert (code, "did you mean phone" in text) == (1, True)
    code, text = await line(bench, "vpn", "peer", "remove", "phone", "--yes")
    assert code == 0
    code, text = await line(bench, "vpn", "peer", "show", "phone")
    assert (code, "There is no peer" in text) == (1, True)


async def test_a_code_is_what_the_file_says(bench: Bench) -> None:  # noqa: F811
    await line(bench, "vpn", "peer", "add", "phone")
    code, text = await line(bench, "vpn", "peer", "export", "phone", "--yes", "--qr", "--endpoint", "vpn.example.org:1")
    assert code == 0
    rows = text.rstrip("\n").split("\n")
    assert len(rows) > 20
    assert set("".join(rows)) <= set("█▀▄ ")
    some = small("[Interface]\nPrivateKey = x\n\n# a comment\nAddress = 1, 2\n")
    assert some == "[Interface]\nPrivateKey=x\nAddress=1,2"
    assert drawn(matrix(some), full=False)[0].strip("█") == ""


async def test_a_code_that_does_not_fit_costs_no_key(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The key is shown once: a code that runs off a console is told before it is asked for."""
    monkeypatch.setattr("appliance.verbs.vpn.room_of", lambda out: (80, 24))
    await line(bench, "vpn", "peer", "add", "phone")
    code, text = await line(bench, "vpn", "peer", "export", "phone", "--yes", "--qr", "--endpoint", "vpn.example.org:1")
    assert (code != 0, "80 x 24" in text, "--output" in text) == (True, True, True)
    code, text = await line(bench, "vpn", "peer", "export", "phone", "--yes", "--endpoint", "vpn.example.org:1")
    assert (code, "PrivateKey" in text) == (0, True)


def test_a_code_that_turns_out_too_large_is_given_as_text() -> None:
    rows = ["0" * 65] * 65
    told = code_for({"qr": rows, "text": "[Interface]\n"}, (70, 31), full=True)
    assert "65 x 34" in told
    assert told.endswith("[Interface]\n")
    assert "█" in code_for({"qr": rows, "text": ""}, (70, 34), full=True)
    assert "[Interface]" in code_for({"qr": [], "text": "[Interface]\n"}, None, full=True)


async def test_a_hubs_file_is_imported_and_not_audited(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    own, theirs = keys.make_pair(), keys.make_pair()
    text = (
        f"[Interface]\nPrivateKey = {own.private}\nListenPort = 4711\nPostUp = reboot\n"
        f"[Peer]\n# tablet\nPublicKey = {theirs.public}\nAllowedIPs = 10.8.0.7/32\n"
    )
    encoded = base64.b64encode(text.encode()).decode()
    path = tmp_path / "wg0.conf"
    path.write_text(text)
    code, said = await line(bench, "vpn", "import", "--file", str(path))
    assert code == 0, said
    for told in ("1 peers: tablet", "PostUp is ignored", "config set vpn.port 4711", "the key of the file"):
        assert told in said
    audit = await bench.appliance.dispatcher.invoke("audit.list", {}, Actor("ada", Role.admin, "console"))
    assert own.private not in repr(audit)
    assert encoded not in repr(audit)
    path.write_text("[Peer]\nPublicKey = x\n")
    code, said = await line(bench, "vpn", "import", "--file", str(path))
    assert (code, "line 2: PublicKey" in said) == (2, True)


async def test_roles_hold(bench: Bench) -> None:  # noqa: F811
    """A viewer looks, an operator reconciles, only an admin lets somebody in or sees a key."""
    invoke = bench.appliance.dispatcher.invoke
    await line(bench, "vpn", "peer", "add", "phone")
    for role in (Role.viewer, Role.operator):
        actor = Actor("bob", role, "console")
        await invoke("vpn.status", {}, actor)
        for name in ("add", "change", "remove", "disable", "enable", "export", "rotate", "provision"):
            with pytest.raises(NotAuthorizedError):
                await invoke(f"vpn.peer-{name}", {"name": "phone"}, actor, confirm=True)
        with pytest.raises(NotAuthorizedError):
            await invoke("vpn.import", {"file": "eA=="}, actor)


def test_every_verb_of_the_documents_is_there() -> None:
    """docs/vpn.md names no command that does not exist."""
    from appliance.core.catalog.vpn import vpn_actions

    text = (Path(__file__).resolve().parents[2] / "docs" / "vpn.md").read_text()
    named = set(re.findall(r"prime-spark vpn (peer [a-z]+|[a-z]+)", text))
    known = {action.name.removeprefix("vpn.").replace("-", " ", 1) for action in vpn_actions(*[None] * 4)}  # type: ignore[arg-type]
    assert named, "the document names commands"
    assert named <= known
    assert known <= named, "every command is documented"
