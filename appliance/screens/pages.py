"""Every page by its name; one is loaded when it is first shown."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from appliance.screens.page import Page

PAGES: Mapping[str, str] = MappingProxyType({
    "overview": "Overview", "services": "Services", "inference": "Inference", "jobs": "Jobs", "logs": "Logs",
    "alerts": "Alerts", "audit": "Audit", "settings": "Settings", "memory": "Memory", "conflicts": "Conflicts",
    "streams": "Streams", "analytics": "Analytics", "models": "Models", "sources": "Sources", "power": "Power", "vpn": "Vpn",
    "tasks": "Tasks", "fleet": "Fleet", "deploy": "Deployments", "assistant": "Assistant",
    "routing": "Routing", "users": "Users", "sessions": "Sessions", "voice": "Voice", "lifecycle": "Lifecycle",
})  # fmt: skip
"""Page → its class, in the module of the page's name."""


def page_class(name: str) -> type[Page]:
    """The class of a page. Raises KeyError where there is none of that name."""
    return cast("type[Page]", getattr(import_module(f"appliance.screens.{name}"), PAGES[name]))
