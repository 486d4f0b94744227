"""Which files of the Control PC may be read and written by whom: the appliance may run as root, and its callers do not."""

from __future__ import annotations

from pathlib import Path

from appliance.core.fleet.files.local import LocalSide
from appliance.core.model import Actor, Role
from appliance.errors import InvalidArgumentsError, NotAuthorizedError

KERNEL = ("/proc", "/sys", "/dev")


class Places:
    """Files on this machine. Methods block for the look at a path's links.

    An administrator names any file but the appliance's own data; everybody else those in the exchange folder. A path that
    is not absolute is one in the exchange folder.

    Args:
        data: The appliance's own data: keys, accounts, the audit.
        exchange: The folder that operators may use.
        readable: Folders in `data` that may be read besides.
    """

    def __init__(self, data: Path, exchange: Path, readable: tuple[Path, ...] = ()) -> None:
        self.exchange = exchange
        self._data = data
        self._readable = readable

    def side(self) -> LocalSide:
        """The files of this machine without the appliance's own."""
        return LocalSide(self._data.resolve(), tuple(each.resolve() for each in (self.exchange, *self._readable)))

    def to_read(self, path: str, actor: Actor) -> str:
        """A path that an actor may read. Raises NotAuthorizedError, InvalidArgumentsError."""
        return self._allowed(path, actor, (self.exchange, *self._readable))

    def to_write(self, path: str, actor: Actor) -> str:
        """A path that an actor may write. Raises NotAuthorizedError, InvalidArgumentsError."""
        return self._allowed(path, actor, (self.exchange,))

    def _allowed(self, path: str, actor: Actor, own: tuple[Path, ...]) -> str:
        if "\0" in path or not path:
            raise InvalidArgumentsError(f"{path!r} is no path.", "give the path of a file or folder.")
        self.exchange.mkdir(mode=0o700, parents=True, exist_ok=True)
        whole = self.exchange / path
        try:
            real = whole.resolve()
        except (OSError, RuntimeError) as error:
            raise InvalidArgumentsError(f"{path} leads nowhere: {error}.", "look at the links in it.") from error
        if not any(_in(real, folder) for folder in own):
            self._outside(path, real, actor)
        return str(real) + ("/" if path.endswith("/") and str(real) != "/" else "")

    def _outside(self, path: str, real: Path, actor: Actor) -> None:
        if actor.role < Role.admin:
            raise NotAuthorizedError(
                f"An {actor.role} may use {self.exchange} on this machine, and {path} is elsewhere.",
                "put the file there, or ask an administrator.",
            )
        if _in(real, self._data):
            raise NotAuthorizedError(
                f"{path} is in the appliance's own data, which nobody copies.", f"use {self.exchange}, or another folder."
            )
        if any(_in(real, Path(each)) for each in KERNEL):
            raise InvalidArgumentsError(f"{path} is no file of a disk.", "name a file of a disk.")


def _in(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder.resolve())
