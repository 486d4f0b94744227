"""The API over TCP and who may use it, put together from settings and spine; a part of the composition root.

What needs a library of its own is made when it is first needed: with the API off, nothing of it is loaded.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from appliance.core.catalog.access import access_actions, factor_actions, secret_action, tls_actions
from appliance.core.catalog.accounts import account_actions
from appliance.core.inference.uploads import Uploads
from appliance.core.model import Actor, Role
from appliance.core.refusals import Refusals
from appliance.errors import ConfigError, ConflictError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from appliance.api.listener import HttpService
    from appliance.core.access.certificates import Certificates
    from appliance.core.access.challenges import Challenges
    from appliance.core.access.desk import AccessDesk
    from appliance.core.access.renewal import AcmeService
    from appliance.core.access.roster import Roster
    from appliance.core.access.sealing import Sealer
    from appliance.core.actions import Action
    from appliance.core.ports import Service
    from appliance.runtime import Appliance

WEAK = frozenset(
    {"admin", "password", "changeme", "change-me", "prime-spark", "primespark", "admin123", "12345678", "password123"}
)
"""Passwords that everybody knows; a first administrator is not made with them."""
LOGIN = "api.login"
"""Name under which logins stand in the audit."""


class ApiAccess:
    """All of it.

    Args:
        spine: The appliance with its spine.
    """

    def __init__(self, spine: Appliance) -> None:
        self._spine = spine
        self._settings = spine.settings.api
        self._http: HttpService | None = None
        self._refusals = Refusals(self._refused)
        self.uploads = Uploads()
        """Pictures that requests bring."""
        self.further: list[Callable[[Any], Iterable[BaseRoute]]] = []
        """What makes further routes, each given the RestApi."""

    @functools.cached_property
    def desk(self) -> AccessDesk:
        """Who may come in."""
        from appliance.core.access.book import AccessBook
        from appliance.core.access.desk import AccessDesk
        from appliance.core.access.sessions import Sessions
        from appliance.core.access.totp import SecondFactors

        spine, wanted = self._spine, self._settings
        book, device = AccessBook(spine.store), spine.settings.node.device_id
        sessions = Sessions(book, self._signer, spine.clock, wanted.access_minutes * 60, wanted.session_hours * 3600)
        factors = SecondFactors(spine.store, self._sealer, spine.clock, f"Prime Spark {device}")
        return AccessDesk(spine.accounts, book, sessions, factors, spine.clock, self._note)

    @functools.cached_property
    def roster(self) -> Roster:
        """Who has an account, and what is open."""
        from appliance.core.access.roster import LastLogins, Roster

        spine = self._spine
        return Roster(spine.accounts, lambda: self.desk, spine.state, LastLogins(spine.store))

    @functools.cached_property
    def _signer(self) -> Any:
        from appliance.core.access.signing import Signer

        return Signer(lambda: self._spine.secrets.get_or_create("api.jwt_key"), self._spine.settings.node.device_id)

    @functools.cached_property
    def _sealer(self) -> Sealer:
        from appliance.core.access.sealing import Sealer

        return Sealer(self._spine.secrets.get_or_create("access.key"))

    @functools.cached_property
    def certificates(self) -> Certificates:
        """What the API shows."""
        from appliance.core.access.addresses import own_names
        from appliance.core.access.authority import Authority
        from appliance.core.access.certificates import Certificates

        spine, wanted = self._spine, self._settings
        device = spine.settings.node.device_id
        authority = Authority(spine.secrets, spine.clock, device)
        names = functools.partial(own_names, device, (*wanted.names, *spine.settings.acme.names))
        return Certificates(
            authority, spine.clock, names, wanted.cert_file, wanted.key_file, wanted.client_ca_file, spine.paths.run,
            self._public,
        )  # fmt: skip

    def _public(self) -> tuple[bytes, bytes] | None:
        """Certificate and key of the public authority, in one; None where there are none. Raises StoreError."""
        from appliance.core.access.acme import PAIR

        pair = self._spine.secrets.get(PAIR) if self._spine.settings.acme.directory else None
        return None if pair is None else (pair, pair)

    @functools.cached_property
    def challenges(self) -> Challenges:
        """What is answered over plain HTTP."""
        from appliance.core.access.challenges import Challenges

        return Challenges()

    @functools.cached_property
    def acme(self) -> AcmeService | None:
        """Renews the certificate of the public authority; None where there is none."""
        wanted, secrets = self._spine.settings.acme, self._spine.secrets
        if not wanted.directory or not self._settings.enabled:
            return None
        from appliance.core.access.acme import PAIR, AcmeClient
        from appliance.core.access.renewal import AcmeService

        client = AcmeClient(wanted, secrets, self.challenges)
        return AcmeService(client, lambda: secrets.get(PAIR), wanted.names, self._spine.clock, self._askable)

    def _askable(self) -> str:
        """Why nobody could ask over plain HTTP, or ""."""
        if self._settings.redirect_port is None or not self._settings.secure:
            return "api.redirect_port is not set" if self._settings.secure else "api.tls is off"
        urls = self._http.urls if self._http is not None else ()
        return "" if len(urls) > 1 else "nothing listens on api.redirect_port now"

    def services(self) -> list[Service]:
        """The listener, where it is wanted; and what fetches secrets that lie elsewhere."""
        found: list[Service] = []
        if self._spine.secrets.elsewhere is not None:
            from appliance.core.access.elsewhere import SecretService

            found.append(SecretService(self._spine.secrets.elsewhere, self._spine.settings.secrets.refresh_seconds))
        return [*found, *self._listeners()]

    def _listeners(self) -> list[Service]:
        if not self._settings.enabled:
            return []
        from appliance.api.listener import HttpService, Needs, Place

        wanted, here = self._settings, self.certificates
        place = Place(wanted.host, wanted.port, wanted.secure, wanted.redirect_port, wanted.connections)
        answer = self.challenges.answer
        needs = Needs(self._prepare, self._exposed, here.context, here.renew, here.trouble, here.names, here.left, answer)
        self._http = HttpService(self._app, place, needs)
        return [self._http] if self.acme is None else [self._http, self.acme]

    def actions(self) -> list[Action]:
        """All."""
        desk = functools.partial(getattr, self, "desk")
        return [
            *access_actions(desk, self._status, self._spine.registry.names), *factor_actions(desk),
            secret_action(self._spine.secrets),
            *tls_actions(functools.partial(getattr, self, "certificates"), lambda: self.acme),
            *account_actions(functools.partial(getattr, self, "roster")),
        ]  # fmt: skip

    def _status(self) -> dict[str, Any]:
        wanted = self._settings
        urls = self._http.urls if self._http is not None else ()
        return {"enabled": wanted.enabled, "urls": urls, "tls": wanted.secure, "host": wanted.host, "port": wanted.port}

    def _app(self) -> ASGIApp:
        from appliance.api.watched import Watched

        return Watched(self._bare_app(), self._spine.observer, "tcp")

    def _bare_app(self) -> ASGIApp:
        from appliance.api.application import Bounds, application

        spine, wanted = self._spine, self._settings
        bounds = Bounds(
            wanted.requests_per_second, wanted.changes_per_second, wanted.body_mib << 20, wanted.streams, wanted.origins,
            wanted.proxies,
        )  # fmt: skip
        return application(spine, self.desk, self._sealer, bounds, self.further, self.uploads)

    async def _prepare(self) -> None:
        """Check the key, take up sessions, make the first administrator. Raises ConfigError, StoreError."""
        self._signer.check()
        await self._first_admin()
        await self.desk.load()

    async def _first_admin(self) -> None:
        name, password = self._settings.admin_username, self._spine.secrets.text("admin.password")
        if not name or not password or any(user.role is Role.admin for user in await self._spine.accounts.users()):
            return
        if password.lower() in WEAK or password.lower() == name:
            raise ConfigError("ADMIN_PASSWORD is one that everybody knows.", "set another one, of 8 characters or more.")
        try:
            await self._spine.accounts.add(name, Role.admin, password, first=True)
        except ConflictError:  # the set-up on the console was faster
            return
        await self._spine.audit.record(Actor(name, Role.admin, "internal"), LOGIN, {}, "ok", "made the first administrator")

    async def _exposed(self) -> str:
        """Why other machines may not reach it, or "". Raises StoreError."""
        if any(user.role is Role.admin and user.has_password for user in await self._spine.accounts.users()):
            return ""
        from appliance.settingaccess import is_loopback

        return "" if is_loopback(self._settings.host) else "no administrator has a password"

    async def _note(self, actor: Actor, outcome: str, detail: str, action: str = LOGIN) -> None:
        """What happened at the door, in the audit; refusals beyond the first few are counted, each kind for itself."""
        if outcome == "ok":
            await self._spine.audit.record(actor, action, {}, outcome, detail)
        else:
            await self._refusals.note(actor, action, detail, action)

    async def _refused(self, actor: Actor, action: str, detail: str) -> None:
        import logging

        try:
            await self._spine.audit.record(actor, action, {}, "refused", detail)
        except StoreError as error:
            logging.getLogger(__name__).error("a refused login is not in the audit: %s", error.message)
