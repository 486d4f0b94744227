"""The dispatcher under load, at the end of the appliance, and against secrets; accounts and what the audit says of them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from appliance.core.actions import Action, ActionRegistry, NoParams, Params
from appliance.core.audit import AuditLog
from appliance.core.auth import Accounts
from appliance.core.catalog import people
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Role
from appliance.core.refusals import Refusals
from appliance.core.store import Store
from appliance.errors import (
    ActionError,
    ActionTimeoutError,
    ConfirmationRequiredError,
    ConflictError,
    InvalidArgumentsError,
    NotAuthorizedError,
    NotFoundError,
    StoreError,
    UnknownActionError,
)
from tests.support import ManualClock, wait_for

ADMIN = Actor("ada", Role.admin, "socket")
VIEWER = Actor("vic", Role.viewer, "ssh", "10.0.0.7")
SECRET = "correct horse 7"


class Bench:
    """A dispatcher with the real actions on users, over a real store."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.store.open()
        self.audit = AuditLog(self.store, b"k" * 32, ManualClock())
        self.accounts = Accounts(self.store, ManualClock())
        self.registry = ActionRegistry()
        self.registry.add(*people.user_actions(self.accounts, self._changed))
        self.dispatcher = Dispatcher(self.registry, self.audit)
        self.changes = 0

    async def _changed(self) -> None:
        self.changes += 1

    async def do(self, action: str, actor: Actor = ADMIN, /, confirm: bool = False, **args: Any) -> Any:
        return await self.dispatcher.invoke(action, args, actor, confirm=confirm)

    async def outcomes(self) -> list[tuple[str, str]]:
        return [(entry.action, entry.outcome) for entry in reversed(await self.audit.entries())]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "state.sqlite")
    yield bench
    await asyncio.to_thread(bench.store.close)


async def test_no_secret_reaches_the_disk(bench: Bench) -> None:
    await bench.do("user.add", name="bob", role="admin", password=SECRET)
    await bench.do("user.set-password", name="bob", password=SECRET + "!")
    with pytest.raises(InvalidArgumentsError) as caught:
        await bench.do("user.set-password", name="bob", password=SECRET, extra=SECRET)
    assert SECRET not in str(caught.value)
    with pytest.raises(NotFoundError):
        await bench.do("user.set-password", name="nobody", password=SECRET)
    with pytest.raises(NotAuthorizedError):
        await bench.do("user.set-password", VIEWER, name="bob", password=SECRET)
    await asyncio.to_thread(bench.store.close)
    on_disk = b"".join(path.read_bytes() for path in bench.store.path.parent.iterdir())
    assert b"user.set-password" in on_disk
    assert SECRET.encode() not in on_disk


async def test_what_is_missing_is_asked_for_by_its_meaning(bench: Bench) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        await bench.do("user.set-role", role="boss")
    assert caught.value.message.startswith("user.set-role: name is missing; role: Input should be 'viewer'")
    assert caught.value.next_step == "give name: Name of the user."
    with pytest.raises(InvalidArgumentsError) as caught:
        await bench.do("user.remove", name="bob", nme="bob")
    assert caught.value.next_step == "its parameters are: name."


async def test_the_origin_of_a_refusal_is_audited(bench: Bench) -> None:
    with pytest.raises(NotAuthorizedError, match="vic is viewer"):
        await bench.do("user.add", VIEWER, name="eve")
    row = (await bench.audit.entries(1))[0]
    assert (row.actor, row.role, row.via, row.origin, row.outcome) == ("vic", "viewer", "ssh", "10.0.0.7", "refused")
    assert await bench.accounts.users() == []


async def test_the_last_admin_stays(bench: Bench) -> None:
    await bench.do("user.add", name="ada", role="admin", password=SECRET)
    for name, args in (("user.remove", {}), ("user.set-role", {"role": "operator"})):
        with pytest.raises(ConflictError, match="only admin"):
            await bench.do(name, confirm=True, name="ada", **args)
    await bench.do("user.add", name="bob", role="admin")
    done = await asyncio.gather(
        *(bench.do("user.remove", confirm=True, name=name) for name in ("ada", "bob")), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in done) == ["ConflictError", "NoneType"]
    assert [user.role for user in await bench.accounts.users()] == [Role.admin]


async def test_danger_is_described_and_not_audited_until_it_is_confirmed(bench: Bench) -> None:
    await bench.do("user.add", name="bob")
    before = await bench.outcomes()
    with pytest.raises(ConfirmationRequiredError, match="Remove the user bob"):
        await bench.do("user.remove", name="bob")
    assert await bench.outcomes() == before
    assert bench.changes == 1


@pytest.mark.usefixtures("real_passwords")
async def test_passwords_open_and_nothing_else_does(bench: Bench) -> None:
    await bench.accounts.add("ada", Role.admin, SECRET)
    await bench.accounts.add("key", Role.viewer)
    assert (await bench.accounts.check_password("ada", SECRET)) is not None
    for name, password in (("ada", SECRET + " "), ("ada", ""), ("key", ""), ("key", SECRET), ("nobody", SECRET), ("", "")):
        assert await bench.accounts.check_password(name, password) is None, (name, password)
    stored = await bench.store.read(lambda c: c.execute("SELECT password_hash FROM users ORDER BY name").fetchall())
    assert stored[0][0].startswith("$argon2id$v=19$m=65536,t=3,p=4$"), "RFC 9106, section 4: the second recommended option"
    assert stored[1][0] == ""


@pytest.mark.parametrize("name", ["", "Ada", "1a", "a" * 33, "a b", "a\n", "../x", "ä", "a;b"])
async def test_names_that_are_none_are_refused(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidArgumentsError, match="not a user name"):
        await bench.do("user.add", name=name)
    assert await bench.accounts.users() == []


async def test_a_short_password_and_a_taken_name_change_nothing(bench: Bench) -> None:
    await bench.do("user.add", name="bob", password=SECRET)
    with pytest.raises(ConflictError, match="exists"):
        await bench.do("user.add", name="bob", role="admin")
    with pytest.raises(InvalidArgumentsError, match="8 characters"):
        await bench.do("user.set-password", name="bob", password="short")
    assert await bench.accounts.check_password("bob", SECRET) is not None
    assert (await bench.accounts.get("bob")).role is Role.viewer


class Gate(Params):
    """Nothing."""


async def test_what_runs_at_the_end_is_awaited_or_cancelled_and_audited(bench: Bench) -> None:
    gate, begun = asyncio.Event(), []

    async def waits(_: Any, __: Any) -> str:
        begun.append(1)
        await gate.wait()
        return "done"

    async def stuck(_: Any, __: Any) -> None:
        begun.append(1)
        await asyncio.Event().wait()

    bench.registry.add(Action("a.waits", "W", waits, params=Gate), Action("a.stuck", "S", stuck, params=Gate))
    good, bad = asyncio.create_task(bench.do("a.waits")), asyncio.create_task(bench.do("a.stuck"))
    await wait_for(lambda: len(begun) == 2)
    gate.set()
    await bench.dispatcher.drain(0.2)
    assert await good == "done"
    with pytest.raises(asyncio.CancelledError):
        await bad
    assert sorted(await bench.outcomes()) == [
        ("a.stuck", "failed"),
        ("a.stuck", "started"),
        ("a.waits", "ok"),
        ("a.waits", "started"),
    ]


async def test_a_caller_that_went_away_does_not_stop_what_it_asked_for(bench: Bench) -> None:
    gate, begun, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def waits(_: Any, __: Any) -> None:
        begun.set()
        await gate.wait()
        ended.set()

    bench.registry.add(Action("a.waits", "W", waits))
    task = asyncio.create_task(bench.do("a.waits"))
    await begun.wait()
    task.cancel()
    gate.set()
    await asyncio.wait_for(ended.wait(), 5)
    await bench.dispatcher.drain(5)
    assert await bench.outcomes() == [("a.waits", "started"), ("a.waits", "ok")]


async def test_nothing_is_done_that_cannot_be_audited(bench: Bench) -> None:
    done: list[int] = []

    async def act(_: Any, __: Any) -> None:
        done.append(1)

    bench.registry.add(Action("a.act", "A", act), Action("a.look", "L", act, query=True))
    await asyncio.to_thread(bench.store.close)
    with pytest.raises(StoreError):
        await bench.do("a.act")
    assert done == []
    await bench.do("a.look")
    assert done == [1]


async def test_a_timeout_of_the_handlers_own_is_no_timeout_of_the_action(bench: Bench) -> None:
    async def own(_: Any, __: Any) -> None:
        raise TimeoutError("the device did not answer")

    async def slow(_: Any, __: Any) -> None:
        await asyncio.Event().wait()

    bench.registry.add(Action("a.own", "O", own), Action("a.slow", "S", slow, timeout=0.01, query=True))
    with pytest.raises(Exception, match="the device did not answer") as caught:
        await bench.do("a.own")
    assert not isinstance(caught.value, ActionTimeoutError)
    with pytest.raises(ActionTimeoutError, match="was cancelled"):
        await bench.do("a.slow")
    assert await bench.outcomes() == [("a.own", "started"), ("a.own", "failed")]


async def test_an_action_that_ran_out_of_time_does_nothing_later_and_does_not_claim_to_have_done_nothing(bench: Bench) -> None:
    gate, inside = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        inside.set()
        assert gate.wait(30)

    async def act(_: Any, __: Any) -> None:
        held.append(asyncio.create_task(bench.store.write(hold)))
        await wait_for(inside.is_set)
        await bench.store.write(lambda c: c.execute("INSERT INTO facts VALUES ('late', '1')"))

    held: list[asyncio.Task[None]] = []
    bench.registry.add(Action("a.act", "A", act, timeout=0.3))
    doing = asyncio.create_task(bench.do("a.act"))
    await wait_for(lambda: held and inside.is_set())
    loop = asyncio.get_running_loop()
    loop.call_later(0.6, gate.set)  # after the time of the action, before that of the test
    with pytest.raises(ActionTimeoutError, match="whether it took effect is not known"):
        await doing
    await held[0]
    assert await bench.store.read(lambda c: c.execute("SELECT count(*) FROM facts").fetchone()[0]) == 0
    assert await bench.outcomes() == [("a.act", "started"), ("a.act", "timeout")]


async def test_what_was_done_is_not_called_failed_where_only_its_audit_failed(bench: Bench) -> None:
    async def act(_: Any, __: Any) -> str:
        await asyncio.to_thread(bench.store.close)
        return "done"

    async def fails(_: Any, __: Any) -> None:
        await asyncio.to_thread(bench.store.close)
        raise ConflictError("no", "yes")

    bench.registry.add(Action("a.act", "A", act), Action("a.fails", "F", fails))
    with pytest.raises(ActionError, match=r"a\.act was done, but its end is not in the audit") as caught:
        await bench.do("a.act")
    assert "do not repeat" in caught.value.next_step
    bench.store.open()
    with pytest.raises(ConflictError, match="no"):
        await bench.do("a.fails")
    bench.store.open()
    assert await bench.outcomes() == [("a.act", "started"), ("a.fails", "started")]


async def test_refusals_cannot_flush_the_history(bench: Bench) -> None:
    """The first few have rows of their own, the rest are counted; another actor's are not mixed with them."""
    for index in range(40):
        with pytest.raises(NotAuthorizedError):
            await bench.do("user.add" if index % 2 else "user.remove", VIEWER, name="eve")
    with pytest.raises(NotAuthorizedError):
        await bench.do("user.add", Actor("bob", Role.operator, "socket"), name="eve")
    rows = await bench.audit.entries()
    assert [row.actor for row in reversed(rows)] == ["vic"] * 5 + ["bob"]
    await bench.dispatcher.drain(5)
    rows = await bench.audit.entries()
    assert len(rows) == 7
    assert (rows[0].actor, rows[0].origin, rows[0].outcome) == ("vic", VIEWER.origin, "refused")
    assert rows[0].detail.startswith("35 more refusals within 600 s; the last one: user.add needs the role admin")


async def test_counted_refusals_are_written_when_their_time_is_over() -> None:
    rows: list[str] = []

    async def write(_: Actor, action: str, detail: str) -> None:
        rows.append(f"{action}: {detail}")

    refusals = Refusals(write, 0.05)
    for index in range(7):
        await refusals.note(VIEWER, "a.b", f"no {index}")
    await wait_for(lambda: len(rows) == 6)
    assert rows[5] == "a.b: 2 more refusals within 0.05 s; the last one: no 6"
    await refusals.note(VIEWER, "a.b", "again")
    await refusals.close(5)
    assert rows[6:] == ["a.b: again"]


async def test_a_refused_query_leaves_no_row(bench: Bench) -> None:
    async def look(_: Any, __: Any) -> None:
        return None

    bench.registry.add(Action("a.look", "L", look, query=True, role=Role.admin))
    with pytest.raises(NotAuthorizedError):
        await bench.do("a.look", VIEWER)
    assert await bench.outcomes() == []


async def test_an_unknown_action_names_the_nearest(bench: Bench) -> None:
    with pytest.raises(UnknownActionError) as caught:
        await bench.do("user.ad")
    assert caught.value.next_step == "did you mean user.add?"


def test_a_registry_refuses_what_is_taken_or_malformed() -> None:
    async def act(_: Any, __: Any) -> None:
        return None

    registry = ActionRegistry()
    registry.add(Action("a.b", "B", act, shortcut="x"))
    for bad in (Action("a.b", "B", act), Action("ab", "B", act), Action(".b", "B", act), Action("a.c", "C", act, shortcut="x")):
        with pytest.raises(ValueError, match="taken"):
            registry.add(bad)
    assert [action.name for action in registry] == ["a.b"]


def test_secrets_are_not_in_what_fronts_are_told() -> None:
    class Login(Params):
        """A name and a secret."""

        password: SecretStr

    shown = Login(password=SecretStr(SECRET))
    assert SECRET not in repr(shown) + str(shown.model_dump(mode="json"))
    assert NoParams().model_dump() == {}
