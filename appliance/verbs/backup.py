"""`prime-spark backup restore` and `export`: with an appliance that runs, and without one on a fresh machine."""

from __future__ import annotations

import asyncio
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from appliance import config
from appliance.errors import BackupError, ConfirmationRequiredError, NotFoundError
from appliance.verbs.context import Context, json_option, pass_context
from appliance.verbs.forms import Away, Command

if TYPE_CHECKING:
    from appliance.core.lifecycle.backup.keeper import Keeper


def nest(group: click.Group) -> None:
    """Put them into the noun `backup`; paths are those of whoever asks."""
    if isinstance(group, Away):
        group.add_command(restore)
        return
    for name, argument in (("restore", "source"), ("export", "file")):
        if (command := group.commands.get(name)) is not None:
            _absolute(command, argument)


def _absolute(command: click.Command, argument: str) -> None:
    inner = command.callback
    if inner is None:
        return

    def run(**given: Any) -> Any:
        found = given.get(argument)
        if found and (argument == "file" or Path(found).exists()):
            given[argument] = str(Path(found).expanduser().absolute())
        return inner(**given)

    command.callback = run


@click.command("restore", cls=Command)
@click.argument("source")
@click.option("--target", default="", help="Target of the configuration that has the snapshot; not needed for a file.")
@click.option("--repository", type=click.Path(exists=True, file_okay=False, resolve_path=True),
              help="Directory of a repository that no configuration names.")  # fmt: skip
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the recovery key.")
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File with the passphrase of an exported file.")  # fmt: skip
@click.option("--only", multiple=True, help="Only this part; may be given again.")
@click.option("--other-device", is_flag=True, help="It may be of another device, which this machine becomes.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@pass_context
def restore(context: Context, /, source: str, yes: bool, as_json: bool, **given: Any) -> None:
    """Restore a backup while no appliance runs: SOURCE is an exported file, a snapshot's id, or latest.

    What is here now is kept aside, as before-restore-TIME among the data.
    """
    from appliance.lock import Lock

    try:
        context.paths.make()
    except OSError as error:
        step = "run it as the appliance's user, or make it writable."
        raise BackupError(f"{error.filename}: {error.strerror}.", step) from error
    lock = Lock(context.paths.lock)
    if not lock.take():
        raise BackupError("An appliance runs here, and does not answer.", "stop it: prime-spark appliance stop")
    try:
        if context.paths.database.exists() and not yes:
            _ask(source, context)
        done = _restore(context, source, given)
    finally:
        lock.release()
    if as_json:
        context.json(msgspec.to_builtins(done))
    else:
        context.say(f"restored {', '.join(done.parts)} of {done.device_id} from {done.source}; start the appliance now")


def _ask(source: str, context: Context) -> None:
    told = f"{source} replaces what is in {context.paths.data}, which is kept aside. Go on?"
    if not sys.stdin.isatty():
        raise ConfirmationRequiredError(told, "say --yes.")
    if not click.confirm(told):
        raise click.Abort


def _word(path: Path | None) -> bytes:
    return path.read_bytes().strip() if path is not None else b""


def _restore(context: Context, source: str, given: dict[str, Any]) -> Any:
    from appliance import __version__
    from appliance.core.access.elsewhere import open_secrets
    from appliance.core.clock import SystemClock
    from appliance.core.lifecycle.backup import archive, restoring
    from appliance.core.lifecycle.backup.keeper import Ground, Keeper

    settings, clock = config.load(context.paths, context.environ), SystemClock()
    fresh = not context.paths.database.exists()
    secrets = open_secrets(context.paths.secrets, context.environ, settings, clock)
    ground = Ground(
        settings.backup, settings.nas.path, settings.node.device_id, __version__, context.paths, secrets, context.environ, clock
    )  # fmt: skip
    keeper, other = Keeper(ground), fresh or given["other_device"]
    keeper.prepare()
    key = archive.key_in(_word(given["key_file"])) or (secrets.get(archive.NAME) or b"").strip()
    by = f"{getpass.getuser()} (command line)"
    phrase, only = _word(given["passphrase_file"]).decode(), tuple(given["only"])
    if not key and not phrase:
        raise NotFoundError("There is no recovery key on this machine.", "give it: --key-file FILE, or --passphrase-file FILE.")
    if Path(source).is_file():
        asyncio.run(keeper.stage_file(Path(source).absolute(), key, phrase, only, other=other, by=by))
    else:
        asyncio.run(_from_repository(keeper, source, key, given, other=other, by=by))
    return restoring.apply(context.paths)


async def _from_repository(keeper: Keeper, source: str, key: bytes, given: dict[str, Any], *, other: bool, by: str) -> None:
    from appliance.core.lifecycle.backup import targets
    from appliance.core.lifecycle.backup.restic import Repository, Restic

    ground = keeper.ground
    if given["repository"]:
        found = Repository(given["repository"], key, {}, keeper.home)
    else:
        target = keeper.named(_target(list(ground.settings.targets), given["target"]))
        await targets.reach(target, ground.nas, ground.places.data)
        found = targets.repository(target, key, ground.secrets.text, keeper.home, 0)
    only = tuple(given["only"])
    await keeper.stage_repository(Restic(found, ground.environ), source, source, only, other=other, by=by)


def _target(names: list[str], wanted: str) -> str:
    if not wanted and len(names) != 1:
        step = "give a file, --repository DIRECTORY, or --target with its name."
        raise NotFoundError(f"Where the snapshot is, is not clear: {len(names)} targets are configured.", step)
    return wanted or names[0]
