"""Runs the checks side by side; none waits for another, and none hides another."""

from __future__ import annotations

import asyncio
import importlib
import logging
import pkgutil
from collections.abc import Iterable

from appliance.core.doctor import checks
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

log = logging.getLogger(__name__)


def load_checks() -> tuple[Check, ...]:
    """Every check there is, by name. One whose file cannot be loaded becomes a check that fails, saying why."""
    names = sorted(module.name for module in pkgutil.iter_modules(checks.__path__))
    return tuple(_load(name) for name in names)


def _load(name: str) -> Check:
    try:
        found = importlib.import_module(f"{checks.__name__}.{name}").CHECK
        if not isinstance(found, Check):
            raise TypeError(f"its CHECK is a {type(found).__name__}")
        return found
    except Exception as error:
        log.exception("the check %s cannot be loaded", name)
        return _broken(name, error)


def _broken(name: str, error: Exception) -> Check:
    async def fail(context: DoctorContext) -> CheckResult:
        raise error

    return Check(name, name, fail)


async def run_checks(context: DoctorContext, chosen: Iterable[Check] | None = None) -> tuple[CheckResult, ...]:
    """Look at the machine.

    Args:
        context: The machine.
        chosen: Checks to run; all where None.

    Returns:
        One result per check, in the order of the checks.
    """
    wanted = load_checks() if chosen is None else tuple(chosen)
    return tuple(await asyncio.gather(*(run_one(check, context) for check in wanted)))


async def run_one(check: Check, context: DoctorContext) -> CheckResult:
    """One check within its time; what goes wrong in it is its result."""
    try:
        return await asyncio.wait_for(check.run(context), check.timeout)
    except TimeoutError:
        return check.failed(f"no answer within {check.timeout:g} s", "something below it hangs; see: sudo dmesg | tail -30")
    except Exception as error:
        log.exception("the check %s failed", check.id)
        return check.failed(
            f"the check itself failed: {type(error).__name__}: {error}",
            "run again with LOG_LEVEL=DEBUG and report what it says",
        )
