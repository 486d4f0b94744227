"""`prime-spark agent`: one role as a process of its own, and how the agents of this machine are."""

from __future__ import annotations

from typing import Any

import click

from appliance.errors import InvalidArgumentsError, NotRunningError
from appliance.verbs.context import Context, json_option, pass_context
from appliance.verbs.forms import Group


class Agents(Group):
    """Roles here by options, and agents on other machines by the actions of the appliance that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those of the running appliance; else those that there would be."""
        from appliance.verbs import agents

        return agents.names(_context(ctx).client)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """One of them. Raises NotRunningError where no appliance runs."""
        from appliance.verbs import agents

        return agents.command(_context(ctx).client, name)


def _context(ctx: click.Context) -> Context:
    found: Context = ctx.find_root().obj
    return found


@click.group("agent", cls=Agents, invoke_without_command=True)
@click.option("--role", default="", metavar="ROLE", help="What to run; without it all roles are listed.")
@click.option("--status", "ask", is_flag=True, help="Say how the agents of this machine are; exit code 3 where none runs.")
@json_option
@pass_context
def agent(context: Context, role: str, ask: bool, as_json: bool) -> None:
    """Our own program on other machines, and roles that run here.

    With --role: run it as a process of its own, until SIGTERM or Ctrl-C.
    """
    from appliance.agent.roles import ROLES, role_of

    if click.get_current_context().invoked_subcommand is not None:
        return
    if role:
        role_of(role)
    if ask:
        _status(context, role, as_json)
    elif role:
        _run(context, role)
    elif as_json:
        context.json([{"role": each.name, "summary": each.summary} for each in ROLES.values()])
    else:
        for each in ROLES.values():
            context.say(f"{each.name:<10} {each.summary}")


def _run(context: Context, role: str) -> None:
    if context.client.local:
        raise InvalidArgumentsError("A role runs where it is started, not over a session.", "log in to that machine's shell.")
    from appliance import ending
    from appliance.agent import process

    raise SystemExit(ending.run(process.run(role, context.paths, context.environ)))


def _status(context: Context, role: str, as_json: bool) -> None:
    from appliance.agent.report import reports

    found = reports(context.paths.run, role or "*")
    if as_json:
        context.json(found)
    if not found:
        raise NotRunningError(f"No agent{f' of the role {role}' if role else ''} runs here.", "prime-spark agent --role ROLE")
    if not as_json:
        for each in found:
            context.say("\n".join(_lines(each)))


def _lines(report: dict[str, Any]) -> list[str]:
    """One agent as text."""
    service, old = report["service"], f", told {report['age_s']:g} s ago: it hangs" if report["hangs"] else ""
    lines = [f"{report['role']} (process {report['pid']}): {service['health']}: {service['reason']}{old}"]
    if service["next_step"]:
        lines.append(f"  next: {service['next_step']}")
    lines += [f"  {name}: {_text(value)}" for name, value in service["details"].items() if value not in ("", {})]
    return lines


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inside)}" for name, inside in value.items())
    return "–" if value is None else str(value)
