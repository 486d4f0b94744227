"""The keys of one machine's page, and its panels."""

from __future__ import annotations

from types import MappingProxyType

from textual.binding import BindingType

from appliance.screens.panelled import own_keys

PANELS = MappingProxyType({"overview": "Overview", "services": "Services", "files": "Files", "history": "History"})
BOTH = (("r", "Run"), ("t", "Shell"), ("x", "Do…"), ("l", "Logs"), ("Esc", "Back"))
MORE = (
    ("u", "Upgrade"), ("R", "Reboot"), ("y", "Host key"), ("c", "Change"), ("m", "Set aside, take back"), ("f", "Read again"),
)  # fmt: skip
KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "overview": (("Tab", "Services"), *BOTH, *MORE),
    "services": (
        ("Tab", "Files"), ("Enter", "Logs"), ("v", "Restart"), ("s", "Start"), ("z", "Stop"), ("/", "Filter"), *BOTH, *MORE,
    ),
    "files": (("Tab", "History"), ("Enter", "Open"), ("h", "Folder above"), ("p", "Put"), ("e", "Get"), *BOTH, *MORE),
    "history": (("Tab", "Overview"), ("Enter", "All of it"), *BOTH, *MORE),
}  # fmt: skip
"""What the footer and the help offer while a panel is open."""
NEEDS = MappingProxyType({
    "r": "fleet.run", "t": "fleet.shell", "x": "fleet.plan", "l": "fleet.service-logs", "u": "fleet.upgrade",
    "R": "fleet.reboot", "y": "fleet.trust", "c": "fleet.change", "m": "fleet.maintenance", "f": "fleet.refresh",
    "v": "fleet.service-restart", "s": "fleet.service-start", "z": "fleet.service-stop", "p": "fleet.put", "e": "fleet.get",
})  # fmt: skip
BINDINGS: tuple[BindingType, ...] = tuple(own_keys((
    ("r", "run"), ("t", "shell"), ("x", "plan"), ("l", "logs"), ("u", "upgrade"), ("R", "reboot"), ("y", "trust"),
    ("c", "change"), ("m", "maintenance"), ("f", "refresh"), ("v", "restart"), ("s", "start"), ("z", "stop"), ("h", "above"),
    ("backspace", "above"), ("p", "put"), ("e", "get"),
)))  # fmt: skip
