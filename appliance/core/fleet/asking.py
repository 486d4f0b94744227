"""Asks one node one question over its link, and reads the answer. Nothing here keeps anything."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from appliance.core.fleet.facts.compound import COMMAND, Answers, Question
from appliance.core.fleet.facts.look import Moment
from appliance.core.fleet.model import FleetShell, Reach
from appliance.core.ports import Clock

LIMITS = {"metrics": 8.0, "host": 45.0, "slow": 180.0}
"""Seconds that a node may take to answer, by what it is asked; of a look less than a round, so that none meets the next."""


@dataclass(frozen=True)
class Said:
    """What a node said, and when."""

    answers: Answers
    moment: Moment


LONG = 1 << 15
"""Bytes of an answer that takes so long to read that it is done beside the loop."""
CONNECTING = 25.0
"""Seconds more where it is not connected yet: others may be before it, and it may have two addresses."""


async def ask(shell: FleetShell, clock: Clock, node: str, kind: str) -> Said:
    """Ask a node for all facts of a kind.

    Raises:
        ShellError: It did not answer, or not so that it could be read (UnreachableError: it could not be asked).
    """
    question = Question.of(kind)
    began = clock.monotonic()
    limit = LIMITS[kind] if shell.link(node).reach is Reach.up else LIMITS[kind] + CONNECTING
    ran = await shell.run(node, COMMAND, stdin=question.script, limit=limit)
    ended, wall = clock.monotonic(), clock.wall()
    read = partial(question.read, ran.stdout, ran.stderr)
    return Said(await asyncio.to_thread(read) if len(ran.stdout) > LONG else read(), Moment(wall, ended, ended - began))
