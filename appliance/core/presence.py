"""Who is connected: every open console, on the spine for all others to see."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from appliance.core.model import SessionInfo
from appliance.core.state import LiveState, Section
from appliance.errors import NotFoundError


class Presence:
    """The open sessions. All methods run on the core loop."""

    def __init__(self, state: LiveState) -> None:
        self._state = state
        self._sessions: dict[str, tuple[SessionInfo, Callable[[], None]]] = {}
        self._put()

    def add(self, info: SessionInfo, close: Callable[[], None]) -> None:
        """A console opened; `close` ends it (from any thread)."""
        self._sessions[info.session_id] = (info, close)
        self._put()

    def change(self, session_id: str, **changes: object) -> None:
        """A console was resized or shows another screen."""
        if session_id in self._sessions:
            info, close = self._sessions[session_id]
            self._sessions[session_id] = (msgspec.structs.replace(info, **changes), close)
            self._put()

    def remove(self, session_id: str) -> None:
        """A console closed."""
        if self._sessions.pop(session_id, None) is not None:
            self._put()

    def close(self, session_id: str) -> SessionInfo:
        """End a console. Raises NotFoundError."""
        if session_id not in self._sessions:
            raise NotFoundError(f"No session has the id {session_id!r}.", "list them with `prime-spark session list`.")
        info, close = self._sessions[session_id]
        close()
        return info

    def _put(self) -> None:
        self._state.put(Section.sessions, tuple(info for info, _ in self._sessions.values()))
