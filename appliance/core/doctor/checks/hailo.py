"""The Hailo accelerator: card, driver, firmware, command-line tool and Python library, all of one version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from appliance.core.doctor import probe
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

VENDOR, HAILO8 = "0x1e60", "0x2864"
"""PCI vendor, and the product number of the Hailo-8 and 8L."""
INSTALL = "sudo apt-get install hailo-all && sudo reboot"
UPGRADE = "sudo apt-get update && sudo apt-get install --reinstall hailo-all && sudo reboot"
ASK = "import hailo_platform; print(hailo_platform.__version__)"


@dataclass(frozen=True)
class Versions:
    """What each part says of itself; empty where it does not tell."""

    driver: str = ""
    firmware: str = ""
    tool: str = ""
    library: str = ""

    def told(self) -> dict[str, str]:
        """The parts that told one."""
        return {name: version for name, version in vars(self).items() if version}


def missing(context: DoctorContext) -> CheckResult | None:
    """What lacks of the card and its driver, the first part upwards that is to be mended; None where both are there."""
    cards, nodes = _cards(context), context.paths("dev/hailo*")
    if nodes:
        return None
    if not cards:
        return CHECK.absent(
            "no Hailo card on the PCI bus and no /dev/hailo*; models run on the CPU", f"fit the card, then: {INSTALL}"
        )
    driver = _driver(context)
    what = f"its driver {driver} is loaded but made no /dev/hailo*" if driver else "its driver is not loaded"
    return CHECK.failed(
        f"the card is on the PCI bus; {what}",
        INSTALL if not driver else "sudo dmesg | grep -i hailo says why; then: " + UPGRADE,
    )


async def run(context: DoctorContext) -> CheckResult:
    """From the card upwards: the first part that lacks is the one to mend."""
    if (lacking := missing(context)) is not None:
        return lacking
    driver = _driver(context)
    library = await probe.run([context.system_python, "-c", ASK], context.environ, limit=10)
    tool = await probe.run(["hailortcli", "--version"], context.environ)
    identity = await probe.run(["hailortcli", "fw-control", "identify"], context.environ, limit=10)
    versions = Versions(
        driver,
        _find(r"Firmware Version: (\d+\.\d+\.\d+)", identity.out),
        _find(r"(\d+\.\d+\.\d+)", tool.out),
        library.out if library.good else "",
    )
    is_8 = any(_text(context, card / "device") == HAILO8 for card in _cards(context))
    return judge(versions, "" if library.good else library.problem, is_hailo8=is_8)


def _cards(context: DoctorContext) -> list[Path]:
    return [path.parent for path in context.paths("sys/bus/pci/devices/*/vendor") if _text(context, path) == VENDOR]


def _driver(context: DoctorContext) -> str:
    """The loaded driver's version; empty where none is."""
    modules = ("sys/module/hailo_pci/version", "sys/module/hailo1x_pci/version")
    return next((text for text in map(context.text, modules) if text), "")


def judge(versions: Versions, library_problem: str, *, is_hailo8: bool) -> CheckResult:
    """Whether the parts fit together.

    Args:
        versions: What each part told.
        library_problem: Why the Python library cannot be loaded; empty where it can.
        is_hailo8: Whether the card is a Hailo-8, which the 4.x line alone serves.
    """
    told = versions.told()
    listed = ", ".join(f"{name} {version}" for name, version in told.items())
    newer = [name for name, version in told.items() if version.split(".")[0].isdigit() and int(version.split(".")[0]) >= 5]
    if is_hailo8 and newer:
        fix = "install the 4.x line: sudo apt-get purge 'hailo-h10*' && " + INSTALL
        return CHECK.failed(f"a Hailo-8 needs HailoRT 4.x; {listed}", fix)
    if len(set(told.values())) > 1:
        return CHECK.failed(f"versions differ: {listed}; all must be equal", UPGRADE)
    if library_problem:
        return CHECK.failed(f"the system's Python cannot load hailo_platform: {library_problem}", UPGRADE)
    if "firmware" not in told:
        return CHECK.warning(
            f"{listed or 'no version told'}; the firmware does not answer",
            "stop what holds the device: sudo fuser -v /dev/hailo0",
        )
    return CHECK.ok(listed)


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _text(context: DoctorContext, path: object) -> str:
    return context.text(str(path).removeprefix(str(context.root)).lstrip("/"))


CHECK = Check("hailo", "Hailo accelerator", run, timeout=30)
