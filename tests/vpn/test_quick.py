"""Files of wg-quick: what is written is read back the same; what is malformed is told by its line; keys are never repeated."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.vpn import keys, qr, quick
from appliance.core.vpn.quick import QuickFile, QuickPeer, parse, write
from appliance.core.vpn.rekey import NewKeys, rekeyed, secrets_in
from appliance.errors import InvalidArgumentsError
from appliance.screens.vpn_code import drawn
from tests.support import needs_program

PAIRS = [keys.make_pair() for _ in range(6)]
SHARED = [keys.make_preshared() for _ in range(3)]
GOOD = f"""# made by hand
[Interface]
PrivateKey = {PAIRS[0].private}
Address = 10.8.0.2/24, fd00:8::2/64
ListenPort = 51820   # the usual one
DNS = 10.8.0.2
PostUp = touch /tmp/never
SaveConfig = true

[Peer]
# Name = My Phone!
publickey={PAIRS[1].public}
PresharedKey = {SHARED[0]}
AllowedIPs = 10.8.0.5/32,fd00:8::5
PersistentKeepalive = off

# laptop
[Peer]
PublicKey = {PAIRS[2].public}
AllowedIPs = 10.8.0.6
AllowedIPs = 192.168.7.9/24
Endpoint = [2001:db8::7]:51820
PersistentKeepalive = 25
"""


def test_a_file_by_hand_is_read() -> None:
    file = parse(GOOD.replace("\n", "\r\n"))
    assert file.addresses == ("10.8.0.2/24", "fd00:8::2/64")
    assert (file.listen_port, file.dns) == (51820, ("10.8.0.2",))
    phone, laptop = file.peers
    assert (phone.name, phone.allowed, phone.keepalive) == ("my-phone", ("10.8.0.5/32", "fd00:8::5/128"), 0)
    assert (laptop.name, laptop.allowed) == ("laptop", ("10.8.0.6/32", "192.168.7.0/24"))
    assert laptop.endpoint == "[2001:db8::7]:51820"
    assert file.ignored == ("line 7: PostUp is ignored; no command of a file is ever run", "line 8: SaveConfig is ignored")
    assert not Path("/tmp/never").exists()


ONE, TWO = (f"PublicKey = {pair.public}\n" for pair in PAIRS[1:3])
BAD = [
    ("[Interface]\nPrivateKey = short\n", "line 2: PrivateKey"),
    ("[Interface]\nColour = red\n", "line 2: 'Colour' is no key of [Interface]"),
    ("[Peer]\nPublicKey = x\n", "line 2: PublicKey"),
    (f"[Peer]\nPublicKey = {PAIRS[1].public}\n", "no [Interface]"),
    ("[Interface]\n[Peer]\nAllowedIPs = 10.0.0.0/8\n", "line 2: this [Peer] has no PublicKey"),
    ("[Interface]\n[Interface]\n", "line 2: a second [Interface]"),
    ("[Interface]\nListenPort = 1\nListenPort = 2\n", "line 3: ListenPort stands here a second time"),
    ("[Interface]\nListenPort = 65536\n", "line 2: ListenPort"),
    ("[Interface]\nListenPort = -1\n", "line 2: ListenPort"),
    ("[Interface]\nAddress = 10.0.0.300\n", "line 2: Address"),
    ("[Interface]\nAddress = 10.0.0.3,,10.0.0.4\n", "line 2: Address"),
    ("[Interface]\nAddress\n", "line 2: 'Address' has no value"),
    ("Address = 10.0.0.1\n", "line 1: a value stands before the first section"),
    ("[Colours]\n", "line 1: '[Colours]' is no section"),
    ("[Interface]\nMTU = 1e3\n", "line 2: MTU"),
    ("[Interface]\nDNS = a b\n", "line 2: DNS"),
    ("[Interface]\nTable = ../x\n", "line 2: Table"),
    ("[Interface]\nAddress = 10.0.0.1\x1b[2J\n", "line 2: there is a control character"),
    ("", "no [Interface]"),
    (f"[Interface]\n[Peer]\nPublicKey = {PAIRS[1].public}\nEndpoint = host\n", "line 4: Endpoint"),
    (f"[Interface]\n[Peer]\nPublicKey = {PAIRS[1].public}\nEndpoint = 10.0.0.300:1\n", "line 4: Endpoint"),
    (f"[Interface]\n[Peer]\nPublicKey = {PAIRS[1].public}\nEndpoint = ::1:51820\n", "line 4: Endpoint"),
    (f"[Interface]\n[Peer]\n{ONE}[Peer]\n{ONE}", "line 4: this peer has the same"),
    (f"[Interface]\n[Peer]\n{ONE}AllowedIPs = 10.0.0.1\n[Peer]\n{TWO}AllowedIPs = 10.0.0.1/32\n", "10.0.0.1/32 is allowed"),
    ("[Interface]\n" * 2 + "x" * (quick.LARGEST + 1), "characters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), BAD, ids=range(len(BAD)))
def test_what_is_malformed_is_told_by_its_line(text: str, told: str) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        parse(text)
    assert told in caught.value.message
    assert caught.value.next_step


def test_no_error_repeats_a_key() -> None:
    """Also where the key's own name is misspelt, missing or doubled."""
    secret = PAIRS[0].private
    for text in (
        f"[Interface]\nPrivateKey = {secret}x\n", f"[Interface]\nPrivateKye = {secret}\n", f"[Interface]\n{secret}\n",
        f"[Interface]\nPrivateKey = {secret}\nPrivateKey = {secret}\n", f"{secret}\n", f"[Interface]\nMTU = {secret}\n",
        f"[Interface]\nPresharedKey = {secret}\n", f"[Interface]\nListenPort {secret}\n",
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentsError) as caught:
            parse(text)
        assert secret[:24] not in str(caught.value), text
    file = parse(GOOD)
    assert secret not in repr(file)
    assert SHARED[0] not in repr(file)
    assert SHARED[0] not in repr(file.peers[0])


networks = st.builds(
    lambda a, b, length: f"10.{a}.{b}.0/{length}", st.integers(0, 255), st.integers(0, 255), st.integers(24, 32)
)
hosts = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z][a-z0-9]{0,8}){0,2}", fullmatch=True)


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True).map(tuple)


@st.composite
def files(draw: st.DrawFn) -> QuickFile:
    taken = draw(st.lists(networks, unique=True, max_size=8))
    count = draw(st.integers(0, 4))
    peers = tuple(
        QuickPeer(
            PAIRS[number + 1].public, tuple(taken[number::4]) if number < 4 else (),
            draw(st.one_of(st.just(""), st.builds(lambda host, port: f"{host}:{port}", hosts, st.integers(1, 65535)))),
            draw(st.integers(0, 65535)), draw(st.sampled_from(["", *SHARED])),
            draw(st.from_regex(r"([a-z0-9][a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)),
        )
        for number in range(count)
    )  # fmt: skip
    return QuickFile(
        draw(st.sampled_from(["", PAIRS[0].private])), draw(some("10.8.0.2/24", "fd00::2/64")),
        draw(st.integers(0, 65535)), draw(st.sampled_from([0, 1280, 1420])),
        draw(some("1.2.3.4", "::1", "vpn.lan")), draw(st.sampled_from(["", "off", "51820"])),
        draw(st.integers(0, 0xFFFFFFFF)), peers,
    )  # fmt: skip


@given(files())
@settings(max_examples=80, deadline=None)
def test_what_is_written_is_read_back_the_same(file: QuickFile) -> None:
    assert parse(write(file)) == file


def refused(text: str) -> str | None:
    """What is wrong with a text; None where it is a file. Anything but our own error breaks the test."""
    try:
        parse(text)
    except InvalidArgumentsError as error:
        return str(error)
    return None


@given(st.text(max_size=400))
@settings(max_examples=80, deadline=None)
def test_no_text_breaks_the_parser(text: str) -> None:
    told = refused(text)
    assert told is None or told.startswith("This wg-quick file cannot be read")


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_damage_to_a_file_breaks_the_parser(data: st.DataObject) -> None:
    """Bytes of a good file are replaced, removed and doubled."""
    text = GOOD
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text) - 1))
        what = data.draw(
            st.sampled_from(["", "\n", "=", "[", "]", "#", ",", "\0", "é", "AllowedIPs = 0.0.0.0/0\n", text[at] * 2])
        )
        text = text[:at] + what + text[at + 1 :]
    assert not any(pair.private[4:30] in (refused(text) or "") for pair in PAIRS)


def test_a_file_is_what_wg_quick_itself_takes(tmp_path: Path) -> None:
    needs_program("wg-quick")
    path = tmp_path / "wgtest.conf"
    path.touch(0o600)
    path.write_text(write(parse(GOOD)))
    done = subprocess.run(["wg-quick", "strip", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert PAIRS[2].public in done.stdout
    assert "Address" not in done.stdout


NODE = f"""# somebody's own
[Interface]
Address = 10.8.0.5/24
PrivateKey = {PAIRS[0].private}
PostUp = echo hello

[Peer]
PublicKey = {PAIRS[3].public}
PresharedKey = {SHARED[1]}

[Peer]
PublicKey = {PAIRS[1].public}
AllowedIPs = 10.8.0.0/24
"""


def test_a_nodes_file_gets_other_keys_and_nothing_else() -> None:
    new = NewKeys(PAIRS[5].private, SHARED[2], PAIRS[1].public)
    text = rekeyed(NODE, new)
    assert secrets_in(text, new.hub) == (new.private, new.preshared)
    assert secrets_in(text, PAIRS[3].public) == (new.private, SHARED[1])
    assert secrets_in(NODE, new.hub) == (PAIRS[0].private, "")
    changed = set(text.splitlines()) ^ set(NODE.splitlines())
    assert changed == {f"PrivateKey = {PAIRS[0].private}", f"PrivateKey = {new.private}", f"PresharedKey = {new.preshared}"}
    again = rekeyed(text, NewKeys(PAIRS[4].private, SHARED[0], PAIRS[1].public))
    assert again.count("PresharedKey") == 2
    for bad in (NODE.replace(PAIRS[1].public, PAIRS[2].public), re.sub("PrivateKey.*", "", NODE)):
        with pytest.raises(InvalidArgumentsError, match="configuration"):
            rekeyed(bad, new)


def test_keys_are_clamped_and_fit_wg() -> None:
    needs_program("wg")
    for pair in PAIRS[:3]:
        done = subprocess.run(["wg", "pubkey"], input=pair.private, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == pair.public
    raw = keys.clamp(b"\xff" * 32)
    assert raw[0] & 7 == 0
    assert raw[31] & 0x80 == 0
    assert raw[31] & 0x40
    for bad in ("", "x" * 44, "A" * 43 + "=", PAIRS[0].public[:-2] + "=", PAIRS[0].public[:-2] + "/="):
        if bad != PAIRS[0].public:
            with pytest.raises(InvalidArgumentsError):
                keys.checked(bad)


def test_a_code_is_drawn_with_what_a_console_has() -> None:
    rows = qr.matrix(qr.small(write(parse(GOOD))))
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == len(rows[0])
    assert set("".join(drawn(rows, full=False))) == {" ", "█"}
    shown = drawn(rows, full=True)
    assert len(shown) == (len(rows) + 1) // 2
    upper = "".join("0" if sign in "█▀" else "1" for sign in shown[0])
    lower = "".join("0" if sign in "█▄" else "1" for sign in shown[0])
    assert (upper, lower) == (rows[0], rows[1])
    with pytest.raises(InvalidArgumentsError, match="too many"):
        qr.matrix("x" * 2000)


def test_a_camera_reads_the_code() -> None:
    """OpenCV's reader, from the picture that a terminal shows; it fails at some codes in a hundred, and never misreads."""
    found = [_seen(text) for text in (qr.small(write(parse(_other_keys(GOOD)))) for _ in range(6))]
    right = [read for read, text in found if read]
    assert all(read == text for read, text in found if read)
    assert len(right) >= 3
    assert parse(right[0]).peers[1].endpoint == "[2001:db8::7]:51820"


def _other_keys(text: str) -> str:
    return text.replace(PAIRS[0].private, keys.make_pair().private).replace(SHARED[0], keys.make_preshared())


def _seen(text: str) -> tuple[str, str]:
    import cv2
    import numpy as np

    modules = np.array([[255 if module == "0" else 0 for module in row] for row in qr.matrix(text)], dtype=np.uint8)
    picture = np.pad(np.kron(modules, np.ones((8, 8), dtype=np.uint8)), 32, constant_values=255)
    read, _, _ = cv2.QRCodeDetector().detectAndDecode(picture)
    return read, text
