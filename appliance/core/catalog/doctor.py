"""The doctor as an action, for whoever is not at the machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from appliance.core.actions import Action, Invocation, NoParams
from appliance.core.figures import counted
from appliance.core.model import CheckResult, Role


def actions(examine: Callable[[], Awaitable[Sequence[CheckResult]]]) -> list[Action]:
    """`examine` looks at the machine; it starts programs, so it is audited, and viewers may not."""

    async def run(_: Invocation, __: NoParams) -> list[CheckResult]:
        return list(await examine())

    def brief(found: list[CheckResult]) -> str:
        failed = [result.check for result in found if result.status == "failed"]
        return f"{counted(len(found), 'check')}, {len(failed)} failed" + (f": {', '.join(failed)}" if failed else "")

    summary = "Check this machine: what is there, what is missing, and the exact fix"
    return [Action("doctor.run", summary, run, role=Role.operator, timeout=90, brief=brief)]
