"""The Users page: accounts of a real appliance, by its keys."""

from __future__ import annotations

import re
import time
from typing import Any

import pyotp
import pytest

from appliance.core.access.accounts import Account, LastLogin
from appliance.core.model import Role
from appliance.errors import ApplianceError, NotFoundError
from appliance.screens import users_view as view
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.users import Users
from appliance.screens.users_acts import told_of
from appliance.screens.widgets.grid import Row
from tests.screens.conftest import Bench, Seen

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
PASSWORD = "staple battery"


def cells(row: Row) -> str:
    return " | ".join(cell if isinstance(cell, str) else cell[0] for cell in row.cells)


def account(**more: Any) -> Account:
    values: dict[str, Any] = {
        "name": "bob", "role": Role.viewer, "created": 0.0, "has_password": True, "keys": 0, "second_factor": False,
    }  # fmt: skip
    return Account(**{**values, **more})


def test_what_is_not_known_of_an_account_is_a_dash() -> None:
    (row,) = view.account_rows([account()], 0.0, CONSOLE)
    assert cells(row) == "bob | viewer | – off | – | – | – | 0 | 0 | yes | 0 | –"


def test_a_lock_runs_out_between_two_looks() -> None:
    each = account(locked_s=20.0, last_login=LastLogin(time.time(), "ssh", "192.0.2.7"))
    assert "✗ 15 s" in cells(view.account_rows([each], 4.5, CONSOLE)[0])
    assert "192.0.2.7 ssh" in cells(view.account_rows([each], 4.5, CONSOLE)[0])
    assert view.locked(each, 21.0) is None


def test_what_ended_is_told_in_words() -> None:
    assert told_of({"consoles": 1, "logins": 2, "tokens": 0}) == "1 console, 2 logins"
    assert told_of({"consoles": 0}) == "nothing was open"


async def desk_login(bench: Bench, name: str, password: str, code: str = "") -> Any:
    access = bench.appliance.domains.access  # type: ignore[union-attr]
    return await access.desk.login(name, password, code, "192.0.2.9", "a test")


async def locked_out(bench: Bench, name: str) -> None:
    """Fail until the account is locked for long, from many addresses."""
    desk = bench.appliance.domains.access.desk  # type: ignore[union-attr]
    while desk.locked(name) < 120:
        desk.limiter.failed(f"user {name}")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page looks at every tick."""
    monkeypatch.setattr("appliance.screens.lookups.EVERY", 0.1)


@pytest.mark.usefixtures("often")
async def test_the_life_of_an_account_by_its_keys(bench: Bench) -> None:
    """Added, promoted, locked and unlocked, given a second factor, logged out, another password, removed after a question."""
    seen = bench.open(PLAIN)
    await seen.press("gx", "▶ada")
    await seen.press("d", "Remove the user ada")
    await seen.press("y", "ada is the only admin")
    await seen.press("n", "Add a user")
    for field, text in (("name", "bob"), ("role", "viewer"), ("password", PASSWORD), ("again", PASSWORD)):
        await seen.fill(field, text)
    await seen.shows("▶bob")
    await seen.press("r", "Role of bob")
    await seen.press("o", "bob is operator now")
    with pytest.raises(ApplianceError, match="ada is the only admin"):
        await bench.invoke("user.set-role", name="ada", role="viewer")
    await locked_out(bench, "bob")
    await seen.shows("✗ 2 min")
    with pytest.raises(ApplianceError, match="Too many failed logins"):
        await desk_login(bench, "bob", PASSWORD)
    await seen.press("u", "bob may log in again")
    await desk_login(bench, "bob", PASSWORD)
    await bench.invoke("api.token-create", name="panel", user="bob")
    await seen.shows("192.0.2.9 api")
    await seen.press("l", "Log bob out")
    await seen.press("t", "1 login, 1 token")
    assert await bench.invoke("api.token-list") == []
    await a_second_factor(bench, seen)
    await seen.press("p", "New password of bob")
    await seen.fill("password", "another password")
    await seen.fill("again", "another password")
    await seen.shows("bob has another password")
    await seen.press("/", "Enter keeps the filter")
    await seen.press("admin", "/admin")
    await seen.press("\x1b", "bob")
    await seen.press("\x1b[F\r", "no public key")
    await seen.press("\x1b", "Account")
    await seen.press("d", "Remove the user bob")
    await seen.press("y", "bob is removed")
    assert [user.name for user in await bench.appliance.accounts.users()] == ["ada"]
    data = bytes(seen.channel.written).decode()
    assert unsafe("".join(sign for sign in data if sign.isprintable())) == set()
    assert PASSWORD not in data
    await seen.end()


async def a_second_factor(bench: Bench, seen: Seen) -> None:
    """As text where the code has no room; it counts once a code of it was given; recovery codes are shown once."""
    await seen.press("t", "use a larger terminal for it")
    found = re.search(r"secret +((?:[A-Z2-7]{4} ?){8})", seen.display)
    assert found is not None
    factor = pyotp.TOTP(found[1].replace(" ", ""))
    await seen.press("\x1b", "First code of bob")
    await seen.fill("code", "000000" if factor.now() != "000000" else "111111")
    await seen.shows("This code is not the present one")
    await seen.fill("code", factor.now())
    await seen.shows("never again.")
    code = re.search(r"([a-z2-9]{5}-[a-z2-9]{5})", seen.display)
    assert code is not None
    await seen.press("\x1b", "● on")
    await seen.shows("10 recovery codes left")
    with pytest.raises(ApplianceError, match="second factor"):
        await desk_login(bench, "bob", PASSWORD)
    await desk_login(bench, "bob", PASSWORD, code[1])
    await seen.shows("9 recovery codes left")
    await seen.press("t", "the password alone lets bob in")
    await seen.press("y", "bob has no second factor now")


async def test_the_code_stands_there_where_it_fits(bench: Bench) -> None:
    seen = bench.open(size=(160, 48))
    await seen.press("gx", "▶ada")
    await seen.press("t", "▀")
    await seen.press("\x1b", "First code of ada")
    await seen.press("\x1b", "does not count")
    await seen.end()


@pytest.mark.parametrize("role", [Role.viewer, Role.operator])
async def test_who_is_no_admin_is_told_why(bench: Bench, role: Role) -> None:
    """In words, with nothing of anybody's account, and without a row in the audit for each look."""
    seen = bench.open(PLAIN, role=role)
    await seen.press("gx", f"Only an admin sees this; ada is {role.value}.")
    await seen.press("d", "Only an admin sees this")
    page = seen.app.page
    assert isinstance(page, Users)
    assert not page.accounts
    assert {key for key, _ in page.offered()} == {"t"}
    await seen.press("gw", f"Only an admin sees this; ada is {role.value}.")
    assert "this machine" not in seen.display
    rows = await bench.appliance.audit.entries(50)
    assert not [row for row in rows if row.action in {"user.accounts", "api.session-list"}]
    await seen.end()


async def test_last_logins_are_of_the_account_that_is_there_now(bench: Bench) -> None:
    """They outlive the sessions, and not the account; an unknown name is refused."""
    await bench.invoke("user.add", name="eve", password=PASSWORD)
    await desk_login(bench, "eve", PASSWORD)
    before = {each.name: each for each in await bench.invoke("user.accounts")}  # type: ignore[attr-defined]
    assert before["eve"].last_login.origin == "192.0.2.9"
    assert (before["eve"].logins, before["ada"].last_login) == (1, None)
    await bench.invoke("user.log-out", name="eve")
    again = {each.name: each for each in await bench.invoke("user.accounts")}  # type: ignore[attr-defined]
    assert again["eve"].last_login == before["eve"].last_login
    assert again["eve"].logins == 0
    await bench.invoke("user.remove", name="eve")
    await bench.invoke("user.add", name="eve", password=PASSWORD)
    (eve,) = [each for each in await bench.invoke("user.accounts") if each.name == "eve"]  # type: ignore[attr-defined]
    assert eve.last_login is None
    for name in ("user.unlock", "user.log-out"):
        with pytest.raises(NotFoundError):
            await bench.invoke(name, name="nobody")
