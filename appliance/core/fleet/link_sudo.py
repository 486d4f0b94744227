"""Becoming root on another machine, and why that did not work."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core.fleet.model import Node
from appliance.core.secrets import Secrets
from appliance.errors import NotAllowedError, ShellError


@dataclass(frozen=True)
class Refused:
    """A command that was not begun.

    Attributes:
        node: Name of the machine.
        sudo: Whether it went through sudo.
        said: What was printed instead.
        status: Exit status.
        asked: How often sudo asked for the password.
    """

    node: str
    sudo: bool
    said: str
    status: int
    asked: int


def way(node: Node, wanted: bool) -> str:
    """How a command becomes root's there: empty for not at all, "auto", "password". Raises NotAllowedError."""
    if not wanted or node.user == "root":
        return ""
    if node.sudo == "never":
        reason = f"{node.name} must not be asked to run something as root (its sudo is never)."
        raise NotAllowedError(reason, f"`prime-spark fleet change {node.name} --sudo auto`, or log in as root there.")
    return node.sudo


def secret_name(node: str) -> str:
    """Of the password that sudo wants there."""
    return f"fleet.{node}.sudo"


def password(node: Node, secrets: Secrets | None) -> bytes:
    """The password. Blocks. Raises NotAllowedError where there is none, StoreError."""
    text = secrets.text(secret_name(node.name)) if secrets is not None else ""
    if not text:
        step = f'`prime-spark fleet sudo-password {node.name} --password-stdin`, or sudo = "auto" and NOPASSWD there.'
        raise NotAllowedError(f"{node.name} wants a password for sudo, and none is stored.", step)
    return text.encode()


def not_begun(refused: Refused) -> ShellError:
    """Why nothing ran."""
    if refused.sudo:
        reason, step = _sudo_says(refused)
    else:
        reason = f"its login shell runs no command: {refused.said or f'it ended with {refused.status} and said nothing'}"
        step = "look at that user's login shell (`getent passwd`), and at authorized_keys for command=."
    return NotAllowedError(f"{refused.node}: {reason.rstrip('.')}; nothing was run.", step)


def _sudo_says(refused: Refused) -> tuple[str, str]:
    said, name = refused.said.lower(), refused.node
    if refused.asked > 1 or "incorrect password" in said:
        return "sudo does not take the password", f"`prime-spark fleet sudo-password {name} --password-stdin`."
    if "you must have a tty" in said or "requiretty" in said:
        return "sudo there wants a terminal (requiretty)", "`Defaults:USER !requiretty` in a file of /etc/sudoers.d there."
    if "password is required" in said or "a terminal is required" in said:
        step = f"NOPASSWD for that user there; or `prime-spark fleet change {name} --sudo password` and store the password."
        return "sudo wants a password", step
    if "not in the sudoers" in said or "not allowed to" in said or "may not run sudo" in said:
        return "that user may not use sudo", "let the user use it there (visudo), or log in as another one."
    if "not found" in said or "no such file" in said or refused.status == 127:
        return "there is no sudo", "install it there, or log in as root."
    return f"sudo does not run it: {refused.said or f'it ended with {refused.status}'}", "look at sudo on that machine."
