"""A desk on a store of its own, with a clock that the test moves."""

from __future__ import annotations

import functools
from pathlib import Path

from appliance.core.access.book import AccessBook
from appliance.core.access.desk import AccessDesk
from appliance.core.access.model import Pair
from appliance.core.access.sealing import Sealer
from appliance.core.access.sessions import Sessions
from appliance.core.access.signing import Signer
from appliance.core.access.totp import SecondFactors
from appliance.core.auth import Accounts, hash_password
from appliance.core.model import Actor, Role
from appliance.core.store import Store
from tests.support import ManualClock

KEY = bytes(range(1, 33))
PASSWORD = "correct horse battery"
ACCESS, SESSION = 900.0, 86400.0


@functools.cache
def hashed() -> str:
    """Of PASSWORD."""
    return hash_password(PASSWORD)


class Rig:
    """A desk on a store of its own, with a clock that the test moves."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.store = Store(path / "appliance.sqlite")
        self.store.open()
        self.signer = Signer(lambda: KEY, "pi")
        self.notes: list[tuple[str, str, str]] = []
        self.told: list[tuple[str, str, str, str]] = []
        """The same with the action before them."""
        self.fresh()

    def fresh(self) -> None:
        """As after a restart."""
        self.accounts = Accounts(self.store, self.clock)
        self.book = AccessBook(self.store)
        self.sessions = Sessions(self.book, self.signer, self.clock, ACCESS, SESSION)
        self.factors = SecondFactors(self.store, Sealer(KEY), self.clock, "Prime Spark pi")
        self.desk = AccessDesk(self.accounts, self.book, self.sessions, self.factors, self.clock, self._note)

    async def add(self, name: str, role: Role) -> None:
        """A user whose password is PASSWORD; its hash is computed once for all tests."""
        await self.accounts.add(name, role)
        sql = "UPDATE users SET password_hash = ? WHERE name = ?"
        await self.store.write(lambda connection: connection.execute(sql, (hashed(), name)))

    async def _note(self, actor: Actor, outcome: str, detail: str, action: str = "api.login") -> None:
        self.notes.append((actor.name, outcome, detail))
        self.told.append((action, actor.name, outcome, detail))

    async def login(self, password: str = PASSWORD, code: str = "", address: str = "192.0.2.7") -> Pair:
        """A login of ada."""
        return await self.desk.login("ada", password, code, address, "tests")

    async def who(self, token: str) -> str:
        """Whose token it is."""
        return (await self.desk.identify(token, "192.0.2.7")).actor.name
