"""How often an address may try to log in (core.lockout), and how much of that is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable

from appliance.core.lockout import (
    BUSY,
    BUSY_WINDOW,
    FORGET,
    FREE,
    LOCK,
    LONGEST,
    REMEMBERED,
    LoginLimiter,
    source_of,
)

__all__ = ["BUSY", "BUSY_WINDOW", "FORGET", "FREE", "LOCK", "LONGEST", "REMEMBERED", "LoginLimiter", "SparingLog", "source_of"]


class SparingLog:
    """Logs the first warnings of each minute one by one, and counts the rest.

    Args:
        logger: Where they go.
        now: A clock that only goes forward, seconds.
        most: Warnings per window.
        window: Seconds.
    """

    def __init__(self, logger: logging.Logger, now: Callable[[], float], most: int = 10, window: float = 60.0) -> None:
        self._logger = logger
        self._now = now
        self._most, self._window = most, window
        self._began = now()
        self._written = 0
        self.left_out = 0
        """Warnings of this window that were only counted."""

    def warning(self, message: str, *args: object) -> None:
        """Log it, or count it."""
        if self._now() - self._began >= self._window:
            if self.left_out:
                self._logger.warning("%d more of these were not logged one by one", self.left_out)
            self._began, self._written, self.left_out = self._now(), 0, 0
        if self._written < self._most:
            self._written += 1
            self._logger.warning(message, *args)
        else:
            self.left_out += 1
