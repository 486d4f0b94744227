"""Logins, tokens and second factors: what proves who somebody is, and everything that only looks like it."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pyotp
import pytest

from appliance.core.access.book import PER_USER
from appliance.core.access.errors import SecondFactorError, TooManyError
from appliance.core.access.model import ApiSession, Pair
from appliance.core.access.signing import AUDIENCE, Claims, check_key
from appliance.core.model import Role
from appliance.errors import AuthError, ConfigError, ConflictError, InvalidArgumentsError, StoreError
from tests.access.rig import ACCESS, KEY, PASSWORD, SESSION, Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.add("ada", Role.admin)
    await rig.accounts.add("bob", Role.admin)
    yield rig
    rig.store.close()


def forged(token: str, **changed: Any) -> dict[str, Any]:
    return {**jwt.decode(token, options={"verify_signature": False}), **changed}


async def opened(rig: Rig) -> Pair:
    """A session without the time that a password takes."""
    return await rig.sessions.open(await rig.accounts.get("ada"), "192.0.2.7", "tests")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_forged_tokens_prove_nothing(rig: Rig) -> None:
    good = (await opened(rig)).access_token
    assert await rig.who(good) == "ada"
    claims = forged(good)
    head, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    other = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "bob"}).encode()).decode().rstrip("=")
    hs256 = functools.partial(jwt.encode, key=KEY, algorithm="HS256")
    for bad in (
        jwt.encode(claims, None, algorithm="none"), jwt.encode(claims, b"x" * 32, algorithm="HS256"),
        jwt.encode(claims, KEY, algorithm="HS384"), f"{none}.{body}.", f"{none}.{body}.{signature}",
        f"{head}.{other}.{signature}", hs256(forged(good, aud="other")), hs256(forged(good, iss="other")),
        hs256(forged(good, sid="0" * 24)), hs256(forged(good, sub="bob")), hs256(forged(good, typ="refresh")),
        hs256(forged(good, gen=1)), hs256(forged(good, gen="x")), hs256({k: v for k, v in claims.items() if k != "exp"}),
        good[:-4], f"{good}A" * 900, "", ".", "...", "psk_", "psk_a_b", "psk_' OR 1=1 --_x", "\x00", "ö.ö.ö",
    ):  # fmt: skip
        with pytest.raises(AuthError):
            await rig.who(bad)
    assert await rig.who(good) == "ada"


async def test_an_access_token_ends_and_a_session_is_renewed(rig: Rig) -> None:
    first = await opened(rig)
    rig.clock.move(ACCESS - 1)
    assert await rig.who(first.access_token) == "ada"
    rig.clock.move(1)
    with pytest.raises(AuthError, match="expired"):
        await rig.who(first.access_token)
    second = await rig.desk.renew(first.refresh_token)
    assert await rig.who(second.access_token) == "ada"
    with pytest.raises(AuthError, match="no access token"):
        await rig.who(second.refresh_token)
    with pytest.raises(AuthError, match="no refresh token"):
        await rig.desk.renew(second.access_token)
    rig.clock.move(SESSION)
    with pytest.raises(AuthError, match="ended"):
        await rig.desk.renew(second.refresh_token)


async def test_a_refresh_token_that_comes_twice_ends_the_session(rig: Rig) -> None:
    first = await opened(rig)
    second = await rig.desk.renew(first.refresh_token)
    with pytest.raises(AuthError, match="used before"):
        await rig.desk.renew(first.refresh_token)
    for dead in (second.access_token, first.access_token):
        with pytest.raises(AuthError, match="ended"):
            await rig.who(dead)
    with pytest.raises(AuthError, match="ended"):
        await rig.desk.renew(second.refresh_token)


async def test_of_two_renewals_at_once_at_most_one_counts(rig: Rig) -> None:
    pair = await opened(rig)
    found = await asyncio.gather(*(rig.desk.renew(pair.refresh_token) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(each, Pair) for each in found) <= 1
    assert all(isinstance(each, Pair | AuthError) for each in found)
    assert rig.desk.all_sessions() == []


@pytest.mark.parametrize("step", [-86400.0 * 365, -3600.0, 3600.0, 86400.0 * 20000])
async def test_a_clock_that_is_set_neither_ends_nor_lengthens_a_session(rig: Rig, step: float) -> None:
    pair = await opened(rig)
    rig.clock.wall_now += step
    assert await rig.who(pair.access_token) == "ada"
    rig.clock.move(ACCESS)
    with pytest.raises(AuthError, match="expired"):
        await rig.who(pair.access_token)
    assert await rig.who((await rig.desk.renew(pair.refresh_token)).access_token) == "ada"


async def test_tokens_survive_a_restart_and_go_by_the_wall_clock_then(rig: Rig) -> None:
    pair = await opened(rig)
    rig.fresh()
    with pytest.raises(AuthError):
        await rig.who(pair.access_token)
    await rig.desk.load()
    assert await rig.who(pair.access_token) == "ada"
    rig.clock.wall_now += -3600.0
    with pytest.raises(AuthError, match="expired"):  # it was made in a time to come
        await rig.who(pair.access_token)
    rig.clock.wall_now += 3600.0 + ACCESS
    with pytest.raises(AuthError, match="expired"):
        await rig.who(pair.access_token)
    assert await rig.who((await rig.desk.renew(pair.refresh_token)).access_token) == "ada"


@pytest.mark.parametrize("change", ["password", "role", "removal"])
async def test_what_a_login_stood_on_ends_it_also_on_disk(rig: Rig, change: str) -> None:
    pair = await opened(rig)
    if change == "password":
        await rig.accounts.set_password("ada", PASSWORD + "x")
    elif change == "role":
        await rig.accounts.set_role("ada", Role.viewer)
    else:
        await rig.accounts.remove("ada")
    for _ in range(2):
        with pytest.raises(AuthError, match="ended"):
            await rig.who(pair.access_token)
        rig.fresh()
        await rig.desk.load()


async def test_sessions_are_bounded_and_end_one_by_one(rig: Rig) -> None:
    pairs = []
    for _ in range(PER_USER + 2):
        rig.clock.move(1)
        pairs.append(await opened(rig))
    assert len(rig.desk.all_sessions()) == PER_USER
    with pytest.raises(AuthError):
        await rig.who(pairs[0].access_token)
    assert await rig.desk.end_session(pairs[-1].session_id)
    assert not await rig.desk.end_session(pairs[-1].session_id)
    with pytest.raises(AuthError):
        await rig.who(pairs[-1].access_token)
    assert await rig.who(pairs[-2].access_token) == "ada"


async def test_failed_logins_lock_address_and_account(rig: Rig) -> None:
    for _ in range(6):
        with pytest.raises(AuthError, match="wrong"):
            await rig.login("wrong password")
    with pytest.raises(TooManyError) as told:
        await rig.login()
    assert 0 < told.value.retry_after <= 10
    with pytest.raises(TooManyError):
        await rig.login(address="198.51.100.9")  # the account is locked for all
    assert ("ada", "refused", "wrong password") in rig.notes
    rig.clock.move(11)
    assert (await rig.login()).user == "ada"
    assert rig.notes[-1][1] == "ok"


async def test_unknown_names_cannot_be_told_from_wrong_passwords(rig: Rig) -> None:
    told = []
    for name in ("ada", "nobody", "' OR 1=1 --", "<script>", "\x00", ""):
        with pytest.raises(AuthError) as error:
            await rig.desk.login(name, "wrong password", "", f"192.0.2.{len(told)}", "")
        told.append(str(error.value))
    assert len(set(told)) == 1


async def test_a_second_factor_is_asked_for_and_each_code_works_once(rig: Rig) -> None:
    made = await rig.factors.begin("ada")
    totp = pyotp.TOTP(made.secret)
    assert pyotp.parse_uri(made.uri).secret == made.secret  # type: ignore[union-attr]
    assert not await rig.factors.wanted("ada")
    with pytest.raises(InvalidArgumentsError):
        await rig.factors.confirm("ada", "000000" if totp.at(int(rig.clock.wall())) != "000000" else "111111")
    codes = await rig.factors.confirm("ada", totp.at(int(rig.clock.wall())))
    with pytest.raises(SecondFactorError):
        await rig.login()
    with pytest.raises(AuthError, match="wrong"):  # the code that confirmed it was used
        await rig.login(code=totp.at(int(rig.clock.wall())))
    rig.clock.move(30)
    code = totp.at(int(rig.clock.wall()))
    found = await asyncio.gather(*(rig.factors.check("ada", code) for _ in range(3)))
    assert sorted(found) == [False, False, True]
    assert (await rig.login(code=codes[0].upper())).user == "ada"
    assert not await rig.factors.check("ada", codes[0])
    assert await rig.factors.users() == {"ada": len(codes) - 1}
    with pytest.raises(ConflictError):
        await rig.factors.begin("ada")
    rows = await rig.store.read(lambda connection: connection.execute("SELECT * FROM access_totp").fetchall())
    assert made.secret not in str(rows)
    assert codes[1] not in str(rows)


async def test_a_sealed_secret_that_was_altered_is_told(rig: Rig) -> None:
    made = await rig.factors.begin("ada")

    def alter(connection: sqlite3.Connection) -> None:
        sealed = bytearray(connection.execute("SELECT secret FROM access_totp").fetchone()[0])
        sealed[-1] ^= 1
        connection.execute("UPDATE access_totp SET secret = ?", (bytes(sealed),))

    await rig.store.write(alter)
    with pytest.raises(StoreError, match="altered"):
        await rig.factors.confirm("ada", pyotp.TOTP(made.secret).now())


@pytest.mark.parametrize(
    "key", [b"", b"secret", b"short-but-random-9f3", b"a" * 64, b"your-secret-key-change-in-production",
            b"prime-spark-jwt-secret-key-change-me-please", b"0123456789abcdef0123456789abcdef"]
)  # fmt: skip
def test_keys_that_others_know_are_refused(key: bytes) -> None:
    with pytest.raises(ConfigError, match="JWT_SECRET"):
        check_key(key)
    assert check_key(KEY) == KEY


def test_a_token_says_its_audience_and_ends(rig: Rig) -> None:
    token = rig.signer.sign("access", Claims("ada", "s", 0, 1.0, 2.0))
    body = jwt.decode(token, KEY, algorithms=["HS256"], audience=AUDIENCE, options={"verify_exp": False})
    assert (body["aud"], body["exp"], jwt.get_unverified_header(token)["alg"]) == (AUDIENCE, 2.0, "HS256")


async def test_rows_of_the_book_fit_their_struct(rig: Rig) -> None:
    pair = await opened(rig)
    (row,) = await rig.book.sessions(rig.clock.wall())
    assert isinstance(row, ApiSession)
    assert (row.session_id, row.user, row.generation) == (pair.session_id, "ada", 0)
