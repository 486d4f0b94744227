"""`scripts/lab`: the lab's command line (python -m tests.lab)."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from tests.lab import client
from tests.lab.client import Lab, LabError

DEFAULT = "lab"
"""Name of the lab where none is given."""


class Commands(click.Group):
    """Says what a LabError says, and exits with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            click.echo(f"lab: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Commands)
@click.option("--name", default=DEFAULT, show_default=True, help="Which lab: several may run side by side.")
@click.pass_context
def main(ctx: click.Context, name: str) -> None:
    """The owner's whole fleet on this machine, each node in namespaces of its own."""
    for stale in client.sweep_all() if os.geteuid() == 0 else []:
        click.echo(f"lab: removed what the lab {stale} had left", err=True)
    ctx.obj = Lab(name)


@main.command()
@click.option("--full", is_flag=True, help="With Redis, PostgreSQL, Kafka, S3 and NUT where the design has them.")
@click.option("--nodes", default="", help="Only these, separated by commas.")
@click.option("--containers", default="", help="Nodes that may run containers, separated by commas.")
@click.pass_obj
def up(lab: Lab, full: bool, nodes: str, containers: str) -> None:
    """Start it; nothing where it runs."""
    began = lab.up(full=full, nodes=nodes, containers=containers)
    click.echo(f"The lab {lab.name} {'is up' if began else 'runs already'}; its files: {lab.directory}")
    call = "scripts/lab" if lab.name == DEFAULT else f"scripts/lab --name {lab.name}"
    click.echo(f"next: {', '.join(f'{call} {each}' for each in ('console', 'status', 'shell NODE', 'down'))}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def status(lab: Lab, as_json: bool) -> None:
    """Show nodes, cuts and speed limits."""
    told = lab.status()
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"{'NODE':<14}{'STATE':<10}{'ADDRESS':<16}{'VPN':<16}{'BOOTS':<7}ROLE")
    for node in told["nodes"]:
        row = (node["name"], node["state"], node["address"], node["vpn_address"] or "-", node["boots"])
        click.echo("{:<14}{:<10}{:<16}{:<16}{:<7}".format(*row) + (node["role"] or "-"))
    for first, second in told["cuts"]:
        click.echo(f"cut: {first} - {second}")
    for first, second, how in told["slow"]:
        click.echo(f"slow: {first} - {second}: {how}")


@main.command()
@click.argument("first")
@click.argument("second")
@click.pass_obj
def cut(lab: Lab, first: str, second: str) -> None:
    """Let nothing pass between two nodes any more; nobody is told."""
    lab.cut(first, second)


@main.command()
@click.argument("first", default="")
@click.argument("second", default="")
@click.pass_obj
def heal(lab: Lab, first: str, second: str) -> None:
    """End a cut and a speed limit, or all of them."""
    if bool(first) != bool(second):
        raise LabError("A cut is between two nodes; next: name both, or none for all cuts.")
    lab.heal(first, second)


@main.command()
@click.argument("first")
@click.argument("second")
@click.option("--rate", type=click.IntRange(1), default=None, help="kbit/s, each way.")
@click.option("--delay", type=click.IntRange(1), default=None, help="Milliseconds, each way (where the kernel has netem).")
@click.pass_obj
def slow(lab: Lab, first: str, second: str, rate: int | None, delay: int | None) -> None:
    """Let only little pass between two nodes."""
    if not rate and not delay:
        raise LabError("How slow? next: --rate KBIT or --delay MS.")
    lab.slow(first, second, rate=rate or 0, delay=delay or 0)


@main.command()
@click.argument("node")
@click.pass_obj
def kill(lab: Lab, node: str) -> None:
    """Cut a node's power."""
    lab.kill(node)


@main.command(name="power-off")
@click.argument("node")
@click.pass_obj
def power_off(lab: Lab, node: str) -> None:
    """Have a node shut down."""
    lab.power_off(node)


@main.command()
@click.argument("node")
@click.pass_obj
def start(lab: Lab, node: str) -> None:
    """Switch a node on."""
    lab.start(node)


@main.command()
@click.argument("node")
@click.option("--trusted", is_flag=True, help="Let the appliance in too.")
@click.option("--containers", is_flag=True, help="It may run containers.")
@click.pass_obj
def add(lab: Lab, node: str, trusted: bool, containers: bool) -> None:
    """Add an empty node: an SSH server that lets the owner in."""
    made = lab.add(node, trusted=trusted, containers=containers)
    click.echo(f"{made['name']}: {made['address']}, host key {made['host_key']}")


@main.command()
@click.argument("node")
@click.pass_obj
def shell(lab: Lab, node: str) -> None:
    """Be root on a node."""
    _become(lab.inside(node, ["bash", "-l"]))


@main.command(
    name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, add_help_option=False
)
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(lab: Lab, node: str, command: tuple[str, ...]) -> None:
    """Run a command on a node."""
    _become(lab.inside(node, command))


@main.command()
@click.pass_obj
def console(lab: Lab) -> None:
    """Open the appliance's console in control-pc; it is started where it does not run."""
    lab.up()
    lab.appliance()
    program = str(client.CHECKOUT / client.APPLIANCE)
    _become(lab.inside("control-pc", [program]))


@main.command()
@click.pass_obj
def down(lab: Lab) -> None:
    """End it."""
    lab.down()


def _become(command: list[str]) -> None:
    sys.stdout.flush()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(prog_name="scripts/lab")
