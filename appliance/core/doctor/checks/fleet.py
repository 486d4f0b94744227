"""The machines over SSH: the inventory file, our key, and host keys that nobody confirmed. Nothing is contacted."""

from __future__ import annotations

from pathlib import Path

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import NAME
from appliance.core.fleet.sshconfig import SshFiles
from appliance.core.model import CheckResult
from appliance.core.secrets import Secrets
from appliance.errors import StoreError

FILE = "inventory.toml"
SHOWN = 5
"""Names that a result lists."""


def look(context: DoctorContext) -> CheckResult:
    """As the appliance would take them at its next start."""
    path = context.home / FILE
    user = SshFiles(Path(context.environ.get("HOME", "~")).expanduser() / ".ssh")
    inventory = FleetInventory(context.machines, path, user)
    inventory.load()
    if inventory.fault is not None:
        return CHECK.failed(inventory.fault.message.rstrip("."), inventory.fault.next_step)
    nodes = inventory.all()
    if not nodes:
        return CHECK.absent("there is no machine in the inventory", "prime-spark fleet add NAME --host ADDRESS")
    try:
        keyed = Secrets(context.home / "secrets", dict(context.environ)).get(NAME) is not None
    except StoreError as error:
        return CHECK.failed(error.message.rstrip("."), error.next_step)
    missing = [node.name for node in nodes if node.enabled and not node.host_key and not user.known(node)]
    if missing:
        names = ", ".join(missing[:SHOWN]) + (" …" if len(missing) > SHOWN else "")
        return CHECK.warning(f"host keys that nobody confirmed: {names}", f"prime-spark fleet trust {missing[0]}")
    own = any(not node.key_file for node in nodes)
    if own and not keyed:
        return CHECK.warning("the appliance has no SSH key of its own yet", "prime-spark fleet key makes and shows it")
    return CHECK.ok(f"{len(nodes)} {'machine' if len(nodes) == 1 else 'machines'}, all host keys confirmed")


CHECK = Check("fleet", "Fleet over SSH", in_thread(look))
