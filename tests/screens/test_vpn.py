"""The VPN page: what it shows of peers, and its keys, on a console and on a wide terminal."""

from __future__ import annotations

import time
from typing import Any

import pytest

from appliance.core.model import Actor, Role
from appliance.core.state import Section
from appliance.core.vpn.status import Attempt, PeerState, PeerStatus, ProviderStatus, VpnStatus
from appliance.screens import vpn_view as view
from appliance.screens.glyphs import CONSOLE, FULL, Caps, Colours, unsafe
from appliance.screens.vpn_code import drawn, room
from appliance.screens.widgets.lines import Line
from tests.screens.conftest import Bench
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def peer(**more: Any) -> PeerStatus:
    values: dict[str, Any] = {
        "name": "phone", "state": PeerState.connected, "public_key": "k" * 44, "addresses": ("10.8.0.5/32",), "networks": (),
        "since": time.time() - 65,
    }  # fmt: skip
    return PeerStatus(**{**values, **more})


def vpn(*peers: PeerStatus, **more: Any) -> VpnStatus:
    up = sum(each.state is PeerState.connected for each in peers)
    values = {"interface": "wg0", "is_active": True, "total_peers": len(peers), "connected_peers": up, "peers": peers}
    return VpnStatus(**{**values, **more})


def row_of(told: PeerStatus, put_s: float | None = 0.0) -> str:
    (row,) = view.peer_rows([told], put_s, CONSOLE)
    return " | ".join(cell if isinstance(cell, str) else cell[0] for cell in row.cells)


def test_what_is_not_known_of_a_peer_is_a_dash() -> None:
    assert row_of(peer()) == "phone | ● connected | 10.8.0.5 | – | – | – | – | – |  | – | –"


def test_the_age_of_a_handshake_grows_between_two_looks() -> None:
    assert "| 12 s |" in row_of(peer(handshake_age_s=10.2), 2.0)
    assert "| 10 s |" in row_of(peer(handshake_age_s=10.2, state=PeerState.disabled), 2.0)


def test_those_that_are_down_come_first() -> None:
    peers = [peer(name="a"), peer(name="b", state=PeerState.disabled), peer(name="c", state=PeerState.down)]
    assert [row.key for row in view.peer_rows(peers, 0.0, FULL)] == ["c", "a", "b"]


@pytest.mark.parametrize("state", PeerState)
def test_every_state_has_a_sign_of_the_console(state: PeerState) -> None:
    sign, _ = view.badge(state, CONSOLE)
    assert state.value in sign
    assert unsafe(sign) == set()


def test_traffic_is_a_line_of_the_consoles_characters() -> None:
    shown = view.spark(peer(history=(0.0, 10.0, 100.0)), CONSOLE)
    assert len(shown) == view.WIDTH
    assert shown.endswith("█")
    assert unsafe(shown) == set()
    assert view.spark(peer(), CONSOLE) == ""


def test_what_was_tried_is_told_newest_first() -> None:
    tried = (Attempt(time.time() - 5, "resolve", "as before"), Attempt(time.time(), "rebind", "done"))
    told = text_of(view.attempt_lines(peer(attempts=tried)))
    assert told.index("rebind") < told.index("resolve")


def test_other_products_are_told_with_the_tunnel() -> None:
    told = text_of(view.head_lines(vpn(peer(), providers=(ProviderStatus("NetBird", "running", "100.1.2.3", "", 5, 3),))))
    assert "wg0 up   1 of 1 connected" in told
    assert "NetBird running 100.1.2.3, 3 of 5 connected" in told


def test_a_code_is_light_on_dark_whatever_the_theme() -> None:
    rows = ["00", "01"]
    assert drawn(rows, full=False) == ["████", "██  "]
    assert drawn(rows, full=True) == ["█▀"]
    assert drawn(rows, full=True, dark_on_light=True) == [" ▄"]
    assert room(rows, full=True) == (2, 1)
    assert room(rows, full=False) == (4, 2)


async def test_the_life_of_a_peer_by_its_keys(bench: Bench) -> None:
    """Added, switched off and on, its file shown once, its keys changed and that given up, removed after a question."""
    seen = bench.open(PLAIN)
    await seen.press("gv", "no peer yet")
    await seen.shows("wg0 off")
    await seen.shows("peer add NAME`")  # all of the next step, at 80 columns too
    await seen.press("n", "Add a peer")
    for field, text in (
        ("name", "phone"),
        ("public_key", ""),
        ("endpoint", ""),
        ("networks", ""),
        ("node", ""),
        ("expires", ""),
    ):
        await seen.fill(field, text)
    await seen.shows("phone is added")
    await seen.press("s", "Cut the peer phone off")
    await seen.press("y", "phone is cut off")
    await seen.shows("disabled")
    await seen.press("s", "may come in again")
    await seen.press("e", "Show the file of phone")
    await seen.press("y", "Nobody has said where this hub is reached")
    await seen.press("x", "switched off")
    await seen.press("\x1b", "Peers")
    await seen.press("d", "Remove the peer phone")
    await seen.press("\x1b", "not confirmed")
    await seen.press("d", "Remove the peer phone")
    await seen.press("y", "phone is removed")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.end()


async def add(bench: Bench, name: str) -> None:
    args = {"name": name, "endpoint": "192.0.2.7:51820"}
    await bench.appliance.dispatcher.invoke("vpn.peer-add", args, Actor("ada", Role.admin, "console"))


async def test_a_file_and_its_code_stand_on_a_large_terminal(bench: Bench) -> None:
    """The code where it fits, and else the text with what it would take."""
    await add(bench, "phone")
    seen = bench.open(size=(160, 48))
    await seen.press("gv", "10.8.0.1")
    await seen.press("e", "Show the file of phone")
    await seen.press("y", "▀")
    await seen.press("\x1b[6~\x1b[6~\x1b[6~\x1b[6~", "PrivateKey")
    await seen.press("\x1b", "Brought back")
    await add(bench, "small")
    await seen.end()
    seen = bench.open(PLAIN)
    await seen.press("gv", "small")
    await seen.press("\x1b[B", "small")
    await seen.press("e", "Show the file of small")
    await seen.press("y", "PrivateKey")
    await seen.press("\x1b[6~", "use a larger terminal")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.end()


async def test_the_page_follows_the_live_state(bench: Bench) -> None:
    """A peer that goes is seen without a key pressed, with the reason and what to do."""
    seen = bench.open(PLAIN)
    await seen.press("gv", "no peer yet")
    state = bench.appliance.state
    state.put(Section.vpn, vpn(peer(handshake_age_s=3.0, rx_rate=2048.0, tx_rate=10.0, history=(1.0, 5.0))))
    await seen.shows("● connected")
    await seen.shows("2.0 KiB/s")
    lost = peer(state=PeerState.down, handshake_age_s=200.0, reason="no handshake for three minutes", next_step="explain it")
    state.put(Section.vpn, vpn(lost, problems=("the port is taken",)))
    await seen.shows("✗ down")
    await seen.shows("Next: explain it")
    await seen.shows("the port is taken")
    await seen.end()


async def test_the_cursor_goes_to_a_peer_that_was_added(bench: Bench) -> None:
    """ "e shows its file" is meant for it, and not for the one that happened to be under the cursor."""
    await add(bench, "alice")
    seen = bench.open(PLAIN)
    await seen.press("gv", "▶alice")
    await seen.press("n", "Add a peer")
    for field, text in (("name", "zoe"), ("public_key", ""), ("endpoint", ""), ("networks", ""), ("node", ""), ("expires", "")):
        await seen.fill(field, text)
    await seen.shows("▶zoe")
    await seen.press("e", "Show the file of zoe")
    await seen.end()


async def test_a_console_shows_whole_columns(bench: Bench) -> None:
    seen = bench.open(PLAIN)
    await seen.press("gv", "no peer yet")
    bench.appliance.state.put(Section.vpn, vpn(peer(state=PeerState.down, handshake_age_s=200.0, reason="no handshake")))
    await seen.shows("▶phone")
    (head,) = [row for row in seen.display.splitlines() if "address" in row and "state" in row]
    assert head.strip("│ ").split() == ["peer", "state", "address", "handshake", "in", "out"]
    await seen.end()


async def test_a_viewer_is_offered_what_a_viewer_may(bench: Bench) -> None:
    seen = bench.open(PLAIN, role=Role.viewer)
    await seen.press("gv", "no peer yet")
    await wait_for(lambda: "Explain" in seen.display)
    assert "Add" not in seen.display.splitlines()[-1]
    await seen.press("n", "needs the role admin")
    await seen.end()
