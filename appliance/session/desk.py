"""What all channels of the SSH server share. Nothing here needs the SSH library."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from appliance.session.answers import Answers, TextCommand
from appliance.session.manager import Sessions


class Desk:
    """What all channels share.

    Args:
        sessions: Opens consoles.
        max_sessions: SSH consoles at one time.
        text_command: Answers a command.
    """

    def __init__(self, sessions: Sessions, max_sessions: int, text_command: TextCommand) -> None:
        self.sessions = sessions
        self.max_sessions = max_sessions
        self.answers = Answers(text_command)
        self.tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a channel's work."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
