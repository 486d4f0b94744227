"""WireGuard: in the kernel, or in user space."""

from __future__ import annotations

import os
import shutil

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult

PROGRAMS = ("wireguard-go", "boringtun-cli")
"""What carries a tunnel in user space, as the driver (hw/wireguard/userspace.py) tries them."""


def look(context: DoctorContext) -> CheckResult:
    """The kernel's module is preferred; wireguard-go and boringtun need the TUN device."""
    if (context.root / "sys/module/wireguard").exists():
        return CHECK.ok("WireGuard is in the running kernel")
    release = context.text("proc/sys/kernel/osrelease") or os.uname().release
    modules = [context.text(f"lib/modules/{release}/{name}") for name in ("modules.dep", "modules.builtin")]
    if any("/wireguard.ko" in text for text in modules):
        return CHECK.ok(f"the kernel {release} can load WireGuard")
    tunnel = (context.root / "dev/net/tun").exists()
    program = next((name for name in PROGRAMS if shutil.which(name, path=context.environ.get("PATH"))), "")
    if program and tunnel:
        return CHECK.ok(f"no WireGuard in this kernel; {program} does it in user space")
    if program:
        return CHECK.failed(f"{program} is installed, but there is no /dev/net/tun", "sudo modprobe tun")
    with_tunnel = "" if tunnel else "sudo modprobe tun && "
    return CHECK.absent(
        f"the kernel {release} has no WireGuard, and wireguard-go is not installed",
        f"{with_tunnel}sudo apt-get install wireguard-go",
    )


CHECK = Check("vpn", "VPN support", in_thread(look))
