"""How a verb reaches the appliance: over the control socket, or from inside its own process (SSH exec)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from appliance import errors
from appliance.away import none_runs
from appliance.core.actions import ActionInfo
from appliance.core.model import Role
from appliance.errors import ActionTimeoutError, ApplianceError, NotRunningError
from appliance.paths import socket_address

if TYPE_CHECKING:
    import httpx

    from appliance.core.dispatch import Dispatcher
    from appliance.core.model import Actor

QUICK = 20.0
"""Seconds in which the appliance must say what an action is; it then has the action's own time."""
AUDITED = 15.0
"""Seconds more, for the audit's rows and the way there and back."""
PIECE = 256 * 1024
"""Bytes of a body that the connection is given at a time: of these it copies what is left each time the socket takes some."""


class Client(Protocol):
    """What a verb needs of the appliance. All methods block."""

    local: bool
    """Files and terminals of the caller are those of the appliance's own process."""

    def actions(self) -> list[ActionInfo]:
        """The registry."""

    def may(self, action: ActionInfo) -> bool:
        """Whether it is worth asking for this action; whether it is done is the dispatcher's to say."""

    def invoke(self, name: str, args: dict[str, Any], *, confirm: bool = False) -> Any:
        """Carry an action out; returns plain JSON types. Raises ApplianceError."""

    def close(self) -> None:
        """Let go of its connections; a later question makes new ones."""


class SocketClient:
    """Speaks REST to the appliance that runs with these paths.

    Args:
        path: Its control socket.
        quick: Seconds in which it must say what its actions are.
    """

    local = False

    def __init__(self, path: Path, quick: float = QUICK) -> None:
        self._path = path
        self._quick = quick
        self._http: httpx.Client | None = None
        self._limits: dict[str, float] = {}

    def actions(self) -> list[ActionInfo]:
        """The registry. Raises NotRunningError; ActionTimeoutError where the appliance hangs."""
        found = msgspec.convert(self._request("GET", "/api/v1/actions", self._quick), list[ActionInfo])
        self._limits.update({action.name: action.timeout for action in found})
        return found

    def may(self, action: ActionInfo) -> bool:
        """Whoever can open the socket may do everything."""
        return True

    def invoke(self, name: str, args: dict[str, Any], *, confirm: bool = False) -> Any:
        """Carry an action out. Raises ApplianceError."""
        if name not in self._limits:
            self._limits[name] = float(self._request("GET", f"/api/v1/actions/{name}", self._quick)["timeout"])
        body = {"args": args, "confirm": confirm}
        return self._request("POST", f"/api/v1/actions/{name}", self._limits[name] + AUDITED, body)["result"]

    def close(self) -> None:
        """Let go of its connections; a later question makes new ones."""
        http, self._http = self._http, None
        if http is not None:
            http.close()

    def _request(self, method: str, path: str, timeout: float, body: dict[str, Any] | None = None) -> Any:
        import httpx

        given = {} if body is None else _given(msgspec.json.encode(body))
        try:
            answer = self._client().request(method, path, timeout=timeout, **given)
        except httpx.ConnectError as error:
            raise none_runs(self._path.parent) from error
        except httpx.TimeoutException as error:
            raise ActionTimeoutError(
                f"The appliance runs, and did not answer within {timeout:g} s.", "see its log; where it hangs, start it again."
            ) from error
        except httpx.HTTPError as error:
            raise NotRunningError(f"The appliance stopped answering: {error}.", "see its log.") from error
        try:
            document = msgspec.json.decode(answer.content)
        except msgspec.DecodeError as error:
            raise ApplianceError(f"The appliance answered {answer.status_code} without JSON.", "see its log.") from error
        if answer.is_error:
            raise error_of(document)
        return document

    def _client(self) -> httpx.Client:
        import httpx

        if not self._path.is_socket():
            raise none_runs(self._path.parent)
        if self._http is None:
            transport = httpx.HTTPTransport(uds=socket_address(self._path))
            self._http = httpx.Client(transport=transport, base_url="http://appliance")
        return self._http


def _given(content: bytes) -> dict[str, Any]:
    """A body as httpx takes it; a long one in pieces."""
    if len(content) <= PIECE:
        return {"content": content}
    return {"content": _pieces(content), "headers": {"Content-Length": str(len(content))}}


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]


class InsideClient:
    """Calls the dispatcher of this process from a thread that is not the core's.

    Args:
        dispatcher: Of the running appliance.
        core: Its loop.
        actor: Who asks.
        wait: Waits for a result; raises where whoever asked is gone.
    """

    local = True

    def __init__(
        self, dispatcher: Dispatcher, core: asyncio.AbstractEventLoop, actor: Actor, wait: Callable[[Future[Any]], Any]
    ) -> None:
        self._dispatcher = dispatcher
        self._core = core
        self._actor = actor
        self._wait = wait
        self._known: list[ActionInfo] | None = None

    def actions(self) -> list[ActionInfo]:
        """The registry; described once for each command line, which asks again for every noun."""
        if self._known is None:
            self._known = [action.describe() for action in self._dispatcher.registry]
        return self._known

    def may(self, action: ActionInfo) -> bool:
        """The role that the asker logged in with reaches."""
        return self._actor.role >= Role(action.role)

    def invoke(self, name: str, args: dict[str, Any], *, confirm: bool = False) -> Any:
        """Carry an action out. Raises ApplianceError."""
        work = self._dispatcher.invoke(name, args, self._actor, confirm=confirm)
        result = self._wait(asyncio.run_coroutine_threadsafe(work, self._core))
        return msgspec.json.decode(msgspec.json.encode(result, enc_hook=str))

    def close(self) -> None:
        """It has none: the process is its own."""


def error_of(document: Any) -> ApplianceError:
    """The error that the API told of, as the class it had there."""
    from appliance.core.llm.faults import LanguageModelError

    told = document.get("error", {}) if isinstance(document, dict) else {}
    known = [*vars(errors).values(), LanguageModelError]
    kinds = [kind for kind in known if isinstance(kind, type) and issubclass(kind, ApplianceError)]
    kind = next((kind for kind in kinds if kind.code == told.get("code")), ApplianceError)
    return kind(told.get("message", f"unexpected answer: {document}"), told.get("next_step", ""))
