"""Fixtures of the VPN's tests."""

from __future__ import annotations

from tests.vpn.netns import net

__all__ = ["net"]
