"""Any command, as the operator wrote it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.model import Role


class Command(Params):
    """A line for the shell."""

    command: str = Field(min_length=1, max_length=16_000, description="A line for the shell of the nodes")
    sudo: bool = Field(False, description="As root")


class Run(Kind):
    """Nothing is known of what it changes, so nothing is looked at before, and nothing is taken back."""

    name = "run"
    summary = "Run a command"
    params = Command
    role = Role.admin
    looks = False
    dangerous = False
    cannot_undo = "what a command changes is not known here"

    def words(self, args: Any) -> str:
        """See Kind."""
        line = " ".join(args.command.split())
        return f"run `{line[:80]}{'…' if len(line) > 80 else ''}`{' as root' if args.sudo else ''}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind; nothing is looked at."""
        del host, args
        return Look()

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del look
        status = await host.live(args.command, sudo=args.sudo)
        if status:
            raise host.failed(f"exit status {status}", status)
        return ""


KINDS = (Run(),)
