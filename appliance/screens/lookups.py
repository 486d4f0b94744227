"""Pages of what is not in the live state: they ask for it while they are seen, and say plainly to whom it is not told."""

from __future__ import annotations

from typing import Any, ClassVar

from appliance.core.console import Console
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.page import Page

EVERY = 5.0
"""Seconds between two looks while the page is seen."""


class Lookups(Page):
    """Base of those pages.

    Attributes:
        asked: Names of the queries, without arguments, whose answers the page shows.
    """

    asked: ClassVar[tuple[str, ...]] = ()

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.stamp = f.Stamp()
        self.answers: dict[str, Any] = {}
        """By the query's name, as they were last given."""
        self.problem = ""
        """Why there is nothing, or nothing newer."""
        self._asking = self._stale = False
        self._refused: str | None = None

    def found(self) -> None:
        """Show the answers, or the problem."""
        raise NotImplementedError

    @property
    def refused(self) -> str:
        """Why this reader is not told; empty where they are."""
        if self._refused is None:
            may = self.console.allowed()
            actor = self.console.actor
            told = f"Only an admin sees this; {actor.name} is {actor.role.value}. Next: log in as a user with the role admin."
            self._refused = "" if may.issuperset(self.asked) else told
        return self._refused

    def refresh_all(self) -> None:
        """Ask anew."""
        super().refresh_all()
        self.look()

    def show_ages(self) -> None:
        """Ask again now and then."""
        if not self.refused and (self.problem or (self.stamp.age or 0.0) >= EVERY):
            self.look()

    def look(self) -> None:
        """Ask now; nothing is asked, and nothing audited, for a reader who may not know."""
        if why := self.refused:
            self.problem = why
            self.found()
            return
        self._stale = True
        if not self._asking:
            self._asking = True
            self.run_worker(self._ask(), name=self.page, group=f"look {self.page}", exit_on_error=False)

    async def _ask(self) -> None:
        """Ask, and once more where that was wanted meanwhile: an answer may be older than what a key just did."""
        try:
            while self._stale:
                self._stale = False
                await self._ask_once()
        finally:
            self._asking = False

    async def _ask_once(self) -> None:
        try:
            answers = {name: await self.console.invoke(name) for name in self.asked}
        except ApplianceError as error:
            self.problem = str(error)
        else:
            self.answers, self.problem = answers, ""
            self.stamp.set()
        if self.is_attached:
            self.found()

    def note(self, filter_text: str = "") -> str:
        """How old it is, and why not newer."""
        words = (f"/{filter_text}" if filter_text else "", f.age(self.stamp.age), "not read" if self.problem else "")
        return ", ".join(word for word in words if word)
