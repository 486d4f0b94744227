"""The pages' names, keys and places in the line of tabs.

Ten pages have a digit, the next ones a function key, and for the others there is none left; every page has a letter behind
`g`. So the line may hold more pages than fit: what does not fit stands in further strips of it, and the arrows at its ends
say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from rich.cells import cell_len

TABS = (
    ("1", "overview", "Overview"),
    ("2", "services", "Services"),
    ("3", "inference", "Inference"),
    ("4", "jobs", "Jobs"),
    ("5", "logs", "Logs"),
    ("6", "alerts", "Alerts"),
    ("7", "audit", "Audit"),
    ("8", "settings", "Settings"),
    ("9", "memory", "Memory"),
    ("0", "conflicts", "Conflicts"),
    ("f3", "streams", "Streams"),
    ("f4", "analytics", "Analytics"),
    ("f5", "models", "Models"),
    ("f6", "sources", "Sources"),
    ("f7", "power", "Power"),
    ("f8", "vpn", "VPN"),
    ("f9", "fleet", "Fleet"),
    ("f10", "tasks", "Tasks"),
    ("f11", "deploy", "Deploy"),
    ("f12", "assistant", "Assistant"),
    ("", "routing", "Routing"),
    ("", "users", "Users"),
    ("", "sessions", "Sessions"),
    ("", "voice", "Voice"),
    ("", "lifecycle", "Lifecycle"),
)
"""(key, page, title), left to right; a page without a key of its own is reached by its letter."""
LETTERS = MappingProxyType({
    "overview": "o", "services": "s", "inference": "i", "jobs": "j", "logs": "l", "alerts": "a", "audit": "u",
    "settings": "e", "memory": "m", "conflicts": "c", "streams": "t", "analytics": "n",
    "models": "d", "sources": "r", "vpn": "v", "power": "p", "fleet": "f", "tasks": "k",
    "deploy": "y", "assistant": "h", "routing": "b", "users": "x", "sessions": "w",
    "voice": "q", "lifecycle": "z",
})  # fmt: skip
"""Page → its letter behind `g`; `g` itself is the top of a table."""
ABOUT = MappingProxyType({
    "overview": "the host, services, alerts, devices and queues at a glance",
    "services": "every service with its health, reason and next step",
    "inference": "drivers, results, latency, cache, fallbacks",
    "jobs": "what runs, what has run, and what came of it",
    "logs": "the appliance's own log, live",
    "alerts": "alerts and the rules that they come from",
    "audit": "who did what, and when",
    "settings": "every setting, its value, and where that comes from",
    "memory": "tiers, keys and values",
    "conflicts": "edge and cloud: what both sides changed",
    "streams": "Kafka, the outbox, dead letters, window rules",
    "analytics": "metrics over time: plot, compare, export",
    "models": "versions: activate, roll back, verify, measure, compare",
    "sources": "cameras, streams, videos, folders: live, with events",
    "power": "mains, battery, UPSes, the plan, and what comes next",
    "vpn": "the WireGuard tunnel: peers, traffic, files, why one is down",
    "tasks": "the queue, workers, history, schedules",
    "fleet": "every machine: health, numbers, work on many",
    "deploy": "services: versions, replicas, rollouts with their traffic",
    "assistant": "talk with a language model about all of this",
    "routing": "language models: endpoints, where requests go and why",
    "users": "accounts: roles, passwords, second factors, locks",
    "sessions": "who is logged in where, and the tokens of programs",
    "voice": "what it hears and does: microphone, wake words, engines",
    "lifecycle": "updates and backups: what runs, what is newer, what is proved",
})  # fmt: skip
"""Page → what it shows."""
SHORT = MappingProxyType({
    "overview": "Over", "services": "Serv", "inference": "Infer", "settings": "Sett", "memory": "Mem", "conflicts": "Confl",
    "streams": "Strm", "analytics": "Anly", "models": "Mod", "sources": "Src", "power": "Powr", "assistant": "Asst",
    "routing": "Rout", "sessions": "Sess", "lifecycle": "Life",
})  # fmt: skip
"""Titles where there is no room for whole ones."""
WHOLE: Mapping[str, str] = MappingProxyType({})
HINTS = (" g Pages  ? Help", " g Pages", "")
"""What stands at the right where there is room."""
BACK, ON = "◀ ", "▶"
"""Signs of strips to the left and to the right."""


class Tab(NamedTuple):
    """One piece of the line; `page` is empty for signs and hints."""

    page: str
    text: str


def key_name(key: str) -> str:
    """A page's key as people call it; empty for none."""
    return key.upper() if len(key) > 1 else key


def way_to(key: str, page: str) -> str:
    """What leads to a page: its own key, or else `g` and its letter."""
    return key_name(key) or f"g{LETTERS[page]}"


def tab_line(current: str, width: int) -> list[Tab]:
    """The line of tabs: all of them where they fit, else the strip that the current page is in.

    Args:
        current: The page that is shown; its title is always whole.
        width: Cells.
    """
    for titles in (WHOLE, SHORT):
        tabs = [_tab(each, titles, current) for each in TABS]
        if _cells(tabs) <= width:
            return [*tabs, *_hint(width - _cells(tabs))]
    strips = _strips(width)
    at = next((index for index, strip in enumerate(strips) if any(page == current for _, page, _ in strip)), 0)
    tabs = [_tab(each, SHORT, current) for each in strips[at]]
    if at:
        tabs.insert(0, Tab("", BACK))
    if at + 1 < len(strips):
        tabs.append(Tab("", ON))
    return [*tabs, *_hint(width - _cells(tabs))]


def _tab(each: tuple[str, str, str], titles: Mapping[str, str], current: str) -> Tab:
    key, page, title = each
    return Tab(page, f"{way_to(key, page)} {title if page == current else titles.get(page, title)} ")


def _cells(tabs: Sequence[Tab]) -> int:
    return sum(cell_len(tab.text) for tab in tabs)


def _hint(room: int) -> list[Tab]:
    return [Tab("", next(hint for hint in HINTS if len(hint) <= max(0, room)))]


def _strips(width: int) -> list[list[tuple[str, str, str]]]:
    """The tabs in parts that fit, the same ones whichever page is shown; the last begins as early as there is room."""
    strips: list[list[tuple[str, str, str]]] = [[]]
    for each in TABS:
        if strips[-1] and _needs([*strips[-1], each]) + len(ON) + (len(BACK) if len(strips) > 1 else 0) > width:
            strips.append([])
        strips[-1].append(each)
    at = len(TABS) - len(strips[-1])
    while at and _needs(TABS[at - 1 :]) + len(BACK) <= width:
        at -= 1
    strips[-1] = list(TABS[at:])
    return strips


def _needs(tabs: Sequence[tuple[str, str, str]]) -> int:
    """Cells for these tabs with short titles, whichever of them is whole."""
    longer = max(len(title) - len(SHORT.get(page, title)) for _, page, title in TABS)
    return _cells([_tab(each, SHORT, "") for each in tabs]) + longer
