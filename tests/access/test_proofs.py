"""What an attacker would try at the door: many guesses at once, noise, copied tokens, strange headers, floods of the audit."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import argon2
import jwt
import pyotp
import pytest

from appliance.core.access.book import PREFIX
from appliance.core.access.cuts import KEPT, Cuts
from appliance.core.access.errors import TooManyError
from appliance.core.access.totp import ALPHABET
from appliance.core.access.turns import WAITING, Turns
from appliance.core.lockout import FREE, REMEMBERED, LoginLimiter
from appliance.core.model import Actor, Role
from appliance.errors import AuthError, StoreError
from appliance.settingaccess import ApiSettings
from tests.access.rig import ACCESS, KEY, Rig
from tests.support import ManualClock


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.add("ada", Role.admin)
    yield rig
    rig.store.close()


async def guesses(rig: Rig, monkeypatch: pytest.MonkeyPatch, many: int, *, addresses: int = 1) -> int:
    """Wrong passwords that were looked at, of so many that came at once."""
    looked = 0

    async def look(*_: object) -> None:
        nonlocal looked
        looked += 1
        await asyncio.sleep(0)

    monkeypatch.setattr(rig.accounts, "check_password", look)
    tries = (rig.login("wrong", address=f"192.0.2.{number % addresses}") for number in range(many))
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(each, AuthError | TooManyError) for each in found), found
    return looked


@pytest.mark.parametrize("addresses", [1, 12])
async def test_guesses_at_once_gain_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch, addresses: int) -> None:
    for _ in range(3):
        await guesses(rig, monkeypatch, 12, addresses=addresses)
    rig.clock.move(601)
    assert await guesses(rig, monkeypatch, 12, addresses=addresses) <= 1, "the first of them locks it anew"


async def test_codes_of_a_second_factor_at_once_gain_nothing(rig: Rig) -> None:
    made = await rig.factors.begin("ada")
    await rig.factors.confirm("ada", pyotp.TOTP(made.secret).at(int(rig.clock.wall())))
    for _ in range(FREE + 1):
        with pytest.raises(AuthError):
            await rig.desk.check_factor("ada", "000000")
    rig.clock.move(11)
    found = await asyncio.gather(*(rig.desk.check_factor("ada", "000000") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(each, AuthError) for each in found) == 1, "the others were not looked at"


async def test_turns_are_one_at_a_time_and_forgotten() -> None:
    turns, inside, most = Turns(), 0, 0

    async def work(*keys: str) -> None:
        nonlocal inside, most
        async with turns.of(*keys):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    both = [work("a", "b") if number % 2 else work("b", "a") for number in range(WAITING)]
    await asyncio.gather(*both)
    assert (most, len(turns)) == (1, 0)
    found = await asyncio.gather(*(work("a") for _ in range(WAITING + 5)), return_exceptions=True)
    assert sum(isinstance(each, TooManyError) for each in found) == 4
    assert len(turns) == 0


def test_noise_opens_no_lock() -> None:
    clock = ManualClock()
    limiter = LoginLimiter(clock.monotonic)
    for _ in range(FREE + 1):
        limiter.failed("user ada")
    for number in range(3 * REMEMBERED):
        limiter.failed(f"198.51.{number // 250}.{number % 250}")
    assert limiter.locked("user ada") > 0
    assert len(limiter) == REMEMBERED


@pytest.mark.parametrize("step", [-86400.0 * 365, 86400.0 * 365])
async def test_a_clock_that_is_set_opens_no_lock(rig: Rig, step: float) -> None:
    for _ in range(FREE + 1):
        with pytest.raises(AuthError):
            await rig.login("wrong password")
    rig.clock.wall_now += step
    with pytest.raises(TooManyError):
        await rig.login()
    rig.clock.monotonic_now += 11
    assert (await rig.login()).user == "ada"


def test_what_was_opened_before_a_cut_ends_and_what_came_after_goes_on() -> None:
    cuts = Cuts()
    before = cuts.count
    cuts.cut("user ada")
    after = cuts.count
    assert (cuts.holds(before, "token 1", "user ada"), cuts.holds(after, "token 1", "user ada")) == (False, True)
    assert cuts.holds(before, "user bob")
    for number in range(2 * KEPT):
        cuts.cut(str(number))
    assert not cuts.holds(before, "user bob"), "nobody knows any more: it ends"
    assert not cuts.holds(before, "user ada")
    assert cuts.holds(cuts.count, "user ada")


async def test_a_token_that_is_revoked_while_it_is_looked_up_does_not_count(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bearer = await rig.desk.create_token("one", "ada", Role.viewer, ("*",), 0)
    prove, held = rig.book.prove, asyncio.Event()

    async def slow(token_id: str, secret: str) -> Any:
        found = await prove(token_id, secret)
        if not held.is_set():
            held.set()
            await rig.desk.revoke_token("one")
        return found

    monkeypatch.setattr(rig.book, "prove", slow)
    for _ in range(2):
        with pytest.raises(AuthError, match="not known"):
            await rig.who(bearer)


async def test_a_program_whose_token_ends_is_told_so_on_its_stream(rig: Rig) -> None:
    _, bearer = await rig.desk.create_token("one", "ada", Role.viewer, ("events",), 1.0)
    identity = await rig.desk.identify(bearer, "192.0.2.7")
    assert rig.desk.holds(identity)
    rig.clock.move(86400)
    assert not rig.desk.holds(identity)
    _, bearer = await rig.desk.create_token("two", "ada", Role.viewer, ("events",), 0)
    identity = await rig.desk.identify(bearer, "192.0.2.7")
    await rig.accounts.set_role("ada", Role.admin)
    assert not rig.desk.holds(identity), "what its account may has changed"
    assert rig.desk.holds(await rig.desk.identify(bearer, "192.0.2.7"))


def crafted(header: dict[str, Any], body: dict[str, Any], key: bytes) -> str:
    """A token with any header, signed with any key."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, body)]
    signature = hmac.new(key, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


HEADERS: tuple[dict[str, Any], ...] = (
    {}, {"kid": "/dev/null"}, {"kid": "../../../dev/null"}, {"kid": "' UNION SELECT '' --"}, {"kid": ["x"]},
    {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/chain"}, {"jwk": {"kty": "oct", "k": ""}},
    {"alg": "none"}, {"alg": "None"}, {"alg": "NONE"}, {"alg": "RS256"}, {"alg": "ES256"}, {"alg": "HS512"}, {"alg": ""},
    {"alg": None}, {"b64": False, "crit": ["b64"]}, {"crit": ["exp"]}, {"zip": "DEF"}, {"typ": "JWE", "enc": "A128GCM"},
)  # fmt: skip


async def test_no_header_makes_another_key_count(rig: Rig) -> None:
    pair = await rig.sessions.open(await rig.accounts.get("ada"), "192.0.2.7", "tests")
    body = jwt.decode(pair.access_token, options={"verify_signature": False})
    for header in HEADERS:
        for key in (b"", b"\x00", b"secret", b"a" * 32):
            with pytest.raises(AuthError):
                await rig.who(crafted({"alg": "HS256", "typ": "JWT", **header}, body, key))
    with pytest.raises(AuthError):
        await rig.who(crafted({"alg": "none"}, body, KEY).rpartition(".")[0] + ".")
    assert await rig.who(crafted({"alg": "HS256"}, body, KEY)) == "ada", "the right key is what counts"


async def test_a_copied_refresh_token_is_told_in_the_audit(rig: Rig) -> None:
    first = await rig.sessions.open(await rig.accounts.get("ada"), "192.0.2.7", "tests")
    second = await rig.desk.renew(first.refresh_token, "192.0.2.7")
    with pytest.raises(AuthError, match="used before"):
        await rig.desk.renew(first.refresh_token, "198.51.100.66")
    with pytest.raises(AuthError, match="ended"):
        await rig.who(second.access_token)
    (told,) = rig.told
    assert told[:3] == ("api.refresh", "ada", "refused")
    assert first.session_id in told[3]


async def test_sessions_are_not_chosen_by_whoever_logs_in(rig: Rig) -> None:
    pairs = [await rig.login() for _ in range(2)]
    assert len({pair.session_id for pair in pairs}) == 2
    assert len({pair.access_token for pair in pairs} | {pair.refresh_token for pair in pairs}) == 4


async def test_nobody_logs_in_whom_the_audit_cannot_tell_of(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise StoreError("The disk is full.", "make room.")

    monkeypatch.setattr(rig.desk, "_note", full)
    with pytest.raises(StoreError):
        await rig.login()
    assert rig.desk.all_sessions() == []


async def test_names_that_nobody_has_are_one_line_in_the_audit(rig: Rig) -> None:
    """Each name would have rows of its own, and push everybody's history out of it."""
    for number, name in enumerate(("nobody", "mallory", "\x1b]52;c;cm0gLXJm\x07", "[red]x[/red]", "ada\nok ada", "?")):
        with pytest.raises(AuthError):
            await rig.desk.login(name, "wrong password", "", f"192.0.2.{number}", "")
    with pytest.raises(AuthError):
        await rig.login("wrong password", address="192.0.2.99")
    assert [name for name, _, _ in rig.notes] == ["?"] * 6 + ["ada"]
    assert all(text.isprintable() for _, _, text in rig.notes)


async def test_a_lock_is_told_in_the_audit_without_a_name(rig: Rig) -> None:
    for _ in range(FREE + 1):
        with pytest.raises(AuthError):
            await rig.login("wrong password")
    with pytest.raises(TooManyError):
        await rig.login()
    assert rig.notes[-1] == ("?", "refused", "locked out after failed logins, as 'ada'")


async def test_unknown_names_cost_as_much_as_wrong_passwords(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, digest: str, password: str) -> bool:
        checked.append(digest)
        return bool(verify(self, digest, password))

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    await rig.accounts.add("keys", Role.viewer)
    for number, name in enumerate(("ada", "nobody", "keys")):
        with pytest.raises(AuthError):
            await rig.desk.login(name, "wrong password", "", f"192.0.2.{number}", "")
    assert len(checked) == 3
    assert len({digest.rpartition("$")[0].rpartition("$")[0] for digest in checked}) == 1, "with the same parameters"


async def test_a_recovery_code_of_digits_alone_works(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = [each for each in ALPHABET if each.isdigit()]
    made = await rig.factors.begin("ada")
    monkeypatch.setattr("appliance.core.access.totp.ALPHABET", digits)
    codes = await rig.factors.confirm("ada", pyotp.TOTP(made.secret).at(int(rig.clock.wall())))
    assert codes[0].isdigit()
    assert await rig.factors.check("ada", codes[0])
    assert not await rig.factors.check("ada", codes[0])


@pytest.mark.parametrize("step", [-90.0, 90.0, 86400.0, -86400.0])
async def test_a_code_counts_once_whatever_the_clock_does(rig: Rig, step: float) -> None:
    made = await rig.factors.begin("ada")
    totp = pyotp.TOTP(made.secret)
    await rig.factors.confirm("ada", totp.at(int(rig.clock.wall())))
    rig.clock.move(60)
    code = totp.at(int(rig.clock.wall()))
    assert await rig.factors.check("ada", code)
    rig.clock.wall_now += step
    await rig.factors.check("ada", totp.at(int(rig.clock.wall())))
    rig.clock.wall_now -= step
    assert not await rig.factors.check("ada", code)


async def test_an_access_token_neither_lives_longer_nor_shorter_over_a_step_and_a_restart(rig: Rig) -> None:
    pair = await rig.sessions.open(await rig.accounts.get("ada"), "192.0.2.7", "tests")
    rig.clock.move(ACCESS - 10)
    rig.clock.wall_now -= 86400
    rig.fresh()
    await rig.desk.load()
    with pytest.raises(AuthError):  # it seems to be made tomorrow
        await rig.who(pair.access_token)
    assert (await rig.desk.renew(pair.refresh_token)).user == "ada"


@pytest.mark.parametrize("proxies", [["0.0.0.0/0"], ["::/0"], ["proxy.example.org"], ["10.8.0.14:80"], ["*"]], ids=str)
def test_not_everybody_is_a_proxy(proxies: list[str]) -> None:
    with pytest.raises(ValueError, match="proxies"):
        ApiSettings.model_validate({"proxies": proxies})
    assert ApiSettings.model_validate({"proxies": ["10.8.0.14", "10.8.0.0/24"]}).proxies == ("10.8.0.14", "10.8.0.0/24")


async def test_a_token_that_only_begins_like_one_is_none(rig: Rig) -> None:
    for bearer in (f"{PREFIX}_", f"{PREFIX}_{'a' * 5000}", f"{PREFIX}_x_\x00", f"{PREFIX}__"):
        with pytest.raises(AuthError):
            await rig.desk.identify(bearer, "192.0.2.7")
    nobody = Actor("?", Role.viewer, "api", "192.0.2.7")
    await rig.desk.turned_away(None, "192.0.2.7", "POST '/x'")
    assert (rig.told[-1], nobody.name) == (("api.request", "?", "refused", "POST '/x'"), "?")
