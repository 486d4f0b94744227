"""Fixtures of the VPN's tests."""

from __future__ import annotations

from tests.servers.netns import net

__all__ = ["net"]
