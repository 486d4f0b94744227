"""The interpreter that runs the appliance."""

from __future__ import annotations

import struct
import sys

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

OLDEST, NEWEST = (3, 11), (3, 13)
FIX = "sudo apt-get install python3.11 python3-venv, remove .venv, then: make setup"


async def run(context: DoctorContext) -> CheckResult:
    """Version and word size of the interpreter that runs this."""
    return judge(sys.version_info[:3], struct.calcsize("P") * 8, in_venv=sys.prefix != sys.base_prefix)


def judge(version: tuple[int, ...], bits: int, *, in_venv: bool) -> CheckResult:
    """Whether the appliance supports such an interpreter."""
    name = ".".join(str(part) for part in version)
    if not OLDEST <= version[:2] <= NEWEST:
        return CHECK.failed(f"Python {name}; 3.11 to 3.13 are supported", FIX)
    if bits != 64:
        return CHECK.failed(f"Python {name} has {bits} bits; the models' libraries need 64", "install the 64-bit system")
    if not in_venv:
        return CHECK.warning(
            f"Python {name}, outside of a virtual environment: system updates can change its libraries", "make setup"
        )
    return CHECK.ok(f"Python {name}, {bits} bits, in a virtual environment")


CHECK = Check("python", "Python", run)
