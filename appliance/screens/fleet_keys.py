"""The keys of the Fleet page."""

from __future__ import annotations

from types import MappingProxyType

from textual.binding import Binding, BindingType

from appliance.screens.panelled import own_keys

EMPTY = "No machine yet. a adds one: its name, its address and a user are enough."
KEYS = (
    ("Enter", "Open"), ("Space", "Mark"), ("/", "Filter"), ("r", "Run"), ("t", "Shell"), ("x", "Do…"), ("a", "Add"),
    ("o", "Operations"), ("s", "Sort"), ("S", "Sort the other way"), ("b", "By group"), ("*", "Mark all that are shown"),
    ("v", "Service"), ("u", "Upgrade"), ("R", "Reboot"), ("y", "Host key"), ("c", "Change"), ("m", "Set aside, take back"),
    ("d", "Remove"), ("f", "Read again"), ("Esc", "Clear the filter, then the marks"),
)  # fmt: skip
NEEDS = MappingProxyType({
    "r": "fleet.run", "x": "fleet.plan", "a": "fleet.add", "u": "fleet.upgrade", "R": "fleet.reboot", "y": "fleet.trust",
    "c": "fleet.change", "m": "fleet.maintenance", "d": "fleet.remove", "f": "fleet.refresh",
    "v": "fleet.service-restart", "t": "fleet.shell",
})  # fmt: skip
BINDINGS: tuple[BindingType, ...] = (
    *own_keys((
        ("r", "run"), ("t", "shell"), ("x", "plan"), ("a", "add"), ("o", "operations"), ("v", "service"), ("u", "upgrade"),
        ("R", "reboot"), ("y", "trust"), ("c", "change"), ("m", "maintenance"), ("d,delete", "remove"), ("f", "refresh"),
    )),
    Binding("space", "mark", show=False), Binding("asterisk", "mark_all", show=False),
    Binding("s", "order", show=False), Binding("S", "turn", show=False), Binding("b", "group", show=False),
)  # fmt: skip
FIELDS = (
    "host", "user", "port", "role", "groups", "services", "vpn_address", "jump", "key_file", "tags", "sudo", "mac",
)  # fmt: skip
"""What is asked for about a machine."""
