"""Whether it waits for a reboot. Debian's packages leave a file; else a kernel whose modules are gone tells it."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told


def parse(told: Told) -> dict[str, Any]:
    """True, False; missing where nothing on it says."""
    said = told.line()
    if said not in {"yes", "no"}:
        raise NotToldError("nothing on it says so (Debian: apt-get install unattended-upgrades)")
    return {"reboot_required": said == "yes"}


FACT = Fact(
    "reboot_required", parse,
    script=(
        "if [ -e /run/reboot-required ] || [ -e /var/run/reboot-required ]; then echo yes\n"
        'elif read -r kernel </proc/sys/kernel/osrelease && set -- /lib/modules/*/modules.dep && [ -e "$1" ] '
        '&& ! [ -d "/lib/modules/$kernel" ]; then echo yes\n'
        "elif [ -e /etc/kernel/postinst.d/unattended-upgrades ] || [ -e /usr/share/update-notifier/notify-reboot-required ]; "
        "then echo no\nelse echo unknown; fi"
    ),
)  # fmt: skip
