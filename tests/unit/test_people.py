"""The first-run set-up: all of it or nothing, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.actions import ActionRegistry
from appliance.core.auth import Accounts
from appliance.core.catalog import people
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Role
from appliance.core.store import Store
from appliance.errors import ConfigError, ConflictError, InvalidArgumentsError
from tests.session.rig import NoAudit
from tests.support import ManualClock


class FirstRun:
    """The action over real accounts, and the names that were written."""

    def __init__(self, store: Store) -> None:
        self.accounts = Accounts(store, ManualClock())
        self.names: list[str] = []
        self.refusal: ConfigError | None = None
        registry = ActionRegistry()
        registry.add(people.setup_action(self.accounts, self.rename, self.changed))
        self.dispatcher = Dispatcher(registry, NoAudit())

    async def rename(self, name: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.names.append(name)

    async def changed(self) -> None:
        """Nobody looks."""

    async def complete(self, **args: object) -> Any:
        return await self.dispatcher.invoke("setup.complete", args, Actor("pi", Role.admin, "console"))


@pytest.fixture
async def first(tmp_path: Path) -> AsyncIterator[FirstRun]:
    store = Store(tmp_path / "state.db")
    store.open()
    yield FirstRun(store)
    await asyncio.to_thread(store.close)


@pytest.mark.parametrize("wrong", [{"password": "short"}, {"admin": "Not A Name"}, {"device_id": "no spaces"}])
async def test_what_is_refused_changes_nothing(first: FirstRun, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentsError):
        await first.complete(**{"admin": "ada", "password": "correct horse", "device_id": "other", **wrong})
    assert (first.names, await first.accounts.users()) == ([], [])


async def test_of_two_at_one_time_one_is_refused(first: FirstRun) -> None:
    done = await asyncio.gather(
        *(first.complete(admin=name, password="correct horse", device_id=name) for name in ("ada", "bob")),
        return_exceptions=True,
    )
    assert sorted(type(each) for each in done if isinstance(each, BaseException)) == [ConflictError]
    assert first.names == [user.name for user in await first.accounts.users()]
    with pytest.raises(ConflictError, match="administrator already"):
        await first.complete(admin="joe", password="correct horse")


async def test_a_name_that_cannot_be_written_is_told(first: FirstRun) -> None:
    first.refusal = ConfigError("The file cannot be written.", "make it writable.")
    done = await first.complete(admin="ada", password="correct horse", device_id="other")
    assert (done["renamed_at_next_start"], done["problem"]) == (False, "The file cannot be written. Next: make it writable.")
    assert [user.role for user in await first.accounts.users()] == [Role.admin]
