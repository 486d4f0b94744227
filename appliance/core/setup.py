"""Whether this appliance was set up: has an administrator and a name."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.core.auth import Accounts
from appliance.core.figures import counted
from appliance.core.lifecycle.firstboot.model import Fault, Outcome, read_fault, read_outcome
from appliance.core.model import Health, HealthReport, Role
from appliance.core.state import LiveState, Section


class SetupService:
    """Tells consoles whether to open the first-run wizard (implements ports.Service)."""

    name = "accounts"
    summary = "Users, roles and keys"
    depends: tuple[str, ...] = ("store",)

    def __init__(self, accounts: Accounts, state: LiveState, device_id: str, run: Path | None = None) -> None:
        """Store what it needs.

        Args:
            accounts: The accounts.
            state: Where consoles look.
            device_id: Name of this appliance.
            run: Where it is told what came of the first-boot file; None where there is none.
        """
        self._accounts = accounts
        self._state = state
        self._device_id = device_id
        self._run = run
        self._outcome: Outcome | None = None
        self._fault: Fault | None = None

    async def start(self) -> None:
        """Look for an administrator."""
        await self.refresh()

    async def run(self) -> None:
        """Accounts change by actions only; wait until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Nothing is held."""

    async def refresh(self) -> None:
        """Look again, after a change."""
        admins = [user for user in await self._accounts.users() if user.role is Role.admin]
        if self._run is not None:
            self._outcome, self._fault = await asyncio.to_thread(lambda run: (read_outcome(run), read_fault(run)), self._run)
        problem, step = self._problem()
        self._state.put(Section.setup, {
            "admin": bool(admins), "host_name": self._device_id, "done": bool(admins), "problem": problem, "next_step": step,
        })  # fmt: skip

    def _problem(self) -> tuple[str, str]:
        """What was the matter with the data partition or the first-boot file at this start, and the next step."""
        if self._fault is not None:
            told = f"The data partition is not used: {self._fault.reason}. What is set now is kept in memory only."
            return (
                told,
                "`:` setup: reset-data empties it; then the machine begins anew, or with the backup of prime-spark.toml.",
            )
        found = self._outcome
        if found is None or not found.wrong:
            return "", ""
        more = f" {len(found.others)} more: prime-spark first-boot status." if found.others else ""
        return f"{found.file}{f':{found.line}' if found.line else ''}: {found.message}{more}", found.next_step

    async def health(self) -> HealthReport:
        """Degraded before there is an administrator: the SSH server listens, and has nobody to let in who could change much."""
        users = await self._accounts.users()
        problem, step = self._problem()
        if problem:
            return HealthReport(Health.unhealthy if self._fault is not None else Health.degraded, problem, step)
        if not any(user.role is Role.admin for user in users):
            who = f"only {counted(len(users), 'user')} without that role" if users else "nobody"
            reason = f"no administrator yet: {who} can log in over SSH"
            return HealthReport(Health.degraded, reason, "finish the first-run set-up on the console.")
        return HealthReport(Health.healthy, counted(len(users), "user"))
