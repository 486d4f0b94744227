"""What can stop a build."""

from __future__ import annotations


class BuildError(Exception):
    """A build stopped. What was finished before stays in the cache: the same command goes on from there."""

    def __init__(self, message: str, next_step: str) -> None:
        """Say what happened (a sentence) and what to do now."""
        super().__init__(message)
        self.next_step = next_step
