"""The action that begins anew where the data partition cannot be used."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from appliance.core.actions import Action, Invocation, NoParams
from appliance.core.lifecycle.firstboot.model import read_fault
from appliance.core.model import Role
from appliance.errors import InvalidArgumentsError, PreconditionError

UNIT = "prime-spark-data-reset.service"
"""Root's: formats the partition, and starts the machine again."""
HERE = frozenset({"console", "socket"})
"""Fronts of whoever is at this machine."""


def reset_actions(run: Path) -> list[Action]:
    """One; `run` is where it is told that the data partition cannot be used."""

    async def reset(invocation: Invocation, _: NoParams) -> dict[str, Any]:
        if invocation.actor.via not in HERE:
            raise InvalidArgumentsError("This is done only at this machine.", "go to its screen.")
        if await asyncio.to_thread(read_fault, run) is None:
            told = "The data partition is sound, or this machine was not started from our image."
            raise PreconditionError(told, "to begin anew all the same, as root: prime-spark data reset --erase-everything")
        child = await asyncio.create_subprocess_exec(
            "systemctl", "start", UNIT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        )  # fmt: skip
        said = (await child.communicate())[1]
        if child.returncode:
            told = f"{UNIT} was not started: {said.decode(errors='replace').strip()[:300] or 'systemctl did not say why'}."
            raise PreconditionError(told, "as root: prime-spark data reset --yes, then start the machine again.")
        return {"started": UNIT, "next": "the partition is emptied, and the machine starts again"}

    return [
        Action("setup.reset-data", "Empty a data partition that cannot be used, and start again", reset, role=Role.admin,
               timeout=310, dangerous=True, confirm_text="Everything that may still lie in the data partition is lost. Go on?"),
    ]  # fmt: skip
