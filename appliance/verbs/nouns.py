"""The nouns of the actions, and what each is about, for the help."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

FILE = Path(__file__).with_name("commands.toml")
"""What each noun's commands do, for the help where no appliance runs; scripts/commands.py writes it from the registry."""

NOUNS: Mapping[str, str] = MappingProxyType({
    "agent": "Our own program on other machines, and roles that run here",
    "alert": "What is wrong, and the rules that say so",
    "analytics": "What was measured: questions about the past",
    "api": "The API: where it listens, tokens of programs, logins",
    "appliance": "The appliance as a whole",
    "assistant": "Talk with a language model about the appliance, and what it remembers",
    "audit": "Who did what",
    "backup": "Backups of the appliance: make, prove, export, restore",
    "config": "Settings",
    "deploy": "Services in versions and replicas over the nodes",
    "device": "The hardware",
    "doctor": "Checks of this machine",
    "fleet": "Other machines, over SSH",
    "host": "This machine: processor, memory, disks, network",
    "inference": "Models at work: pictures, recordings, results",
    "job": "What runs in the background",
    "llm": "Language models: ask them, see where requests go and what left the house",
    "log": "The appliance's own log",
    "memory": "Values in every tier: keep, read, list, move, delete",
    "model": "Versions of models: add, prove, activate, compare, go back",
    "metric": "Readings, and how they were",
    "power": "Mains, battery, and what is given up when the power goes",
    "rules": "Rules of the windows over the streams",
    "schedule": "Tasks that are submitted again and again",
    "secret": "Secrets that lie elsewhere: in files, with systemd, in Vault",
    "service": "The parts that the appliance is made of",
    "session": "Consoles that are open",
    "setup": "The first start",
    "source": "Where frames come from: files, folders, streams, cameras",
    "streams": "Messages to and from Kafka, and what waits",
    "sync": "Edge and cloud: synchronise, and decide conflicts",
    "task": "Work for the workers: submit, look, cancel, retry",
    "tls": "Certificates of the API: show, export, renew",
    "totp": "Second factors",
    "update": "Updates of the image: look, install, go back, verify",
    "user": "Accounts",
    "voice": "What is heard and said: commands, engines, privacy, recordings",
    "vpn": "The WireGuard tunnel: peers, keys, files, and why one is down",
})  # fmt: skip
"""Of the actions of an appliance that runs, also for the help where none does."""


def about(noun: str) -> str:
    """What the actions of a noun are about, as a sentence."""
    return f"{NOUNS.get(noun, f'Actions on {noun}')}."


def commands(noun: str) -> Mapping[str, str]:
    """The commands that a noun of a running appliance has, and what each does."""
    return _all_commands().get(noun, {})


@functools.cache
def _all_commands() -> dict[str, dict[str, str]]:
    import tomllib

    return tomllib.loads(FILE.read_text(encoding="utf-8"))
