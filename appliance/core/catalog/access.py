"""Actions on who may use the API: tokens of programs, sessions, second factors, certificates."""

from __future__ import annotations

import asyncio
import difflib
import functools
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.model import Role
from appliance.errors import AbsentError, InvalidArgumentsError, NotAuthorizedError

if TYPE_CHECKING:
    from appliance.core.access.authority import CertificateInfo
    from appliance.core.access.certificates import Certificates
    from appliance.core.access.desk import AccessDesk
    from appliance.core.access.model import ApiSession, ApiToken
    from appliance.core.access.references import SecretStatus
    from appliance.core.access.renewal import AcmeService
    from appliance.core.secrets import Secrets

USER = Field("", max_length=32, description="Name of the user; empty for yourself")
Scope = Annotated[str, Field(pattern=r"^[a-z*][a-z0-9.*-]{0,63}$")]


class TokenWish(Params):
    """A token for a program."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="What it is for, such as grafana")
    user: str = Field(max_length=32, description="User in whose name it acts")
    role: Literal["viewer", "operator", "admin"] = Field("viewer", description="The most that it may do")
    scopes: list[Scope] = Field(
        ["*"], min_length=1, max_length=32,
        description="What it reaches: names of actions with * in them, such as power.*; state, events, metrics",
    )  # fmt: skip
    days: float = Field(365.0, ge=0, le=3650, description="Days that it holds; 0: until it is revoked")


class TokenName(Params):
    """One token."""

    name: str = Field(max_length=63, description="Its name or id")


class SessionId(Params):
    """One session."""

    session_id: str = Field(max_length=64, description="Id of the session, as `api session-list` shows it")


class OfUser(Params):
    """Whose second factor."""

    user: str = USER


class Code(OfUser):
    """A code of a second factor."""

    code: SecretStr = Field(max_length=64, description="The present code of the authenticator")


class Removal(OfUser):
    """The end of a second factor."""

    code: SecretStr = Field(
        SecretStr(""), max_length=64, description="A present or recovery code; an admin needs none for others"
    )


def check_scopes(scopes: list[str], actions: Iterable[str]) -> None:
    """Whether each scope reaches something. Raises InvalidArgumentsError, with the nearest name."""
    from appliance.core.access.model import READS

    known = [*READS, *actions]
    for scope in scopes:
        if not any(fnmatchcase(name, scope) for name in known):
            near = difflib.get_close_matches(scope, [*known, *{f"{name.partition('.')[0]}.*" for name in known}], n=1)
            hint = f"did you mean {near[0]}?" if near else "`prime-spark actions` lists the names of actions."
            raise InvalidArgumentsError(f"The scope {scope!r} reaches nothing: no action is called so.", hint)


def access_actions(
    desk: Callable[[], AccessDesk], status: Callable[[], dict[str, Any]], names: Callable[[], Iterable[str]]
) -> list[Action]:
    """Tokens and sessions.

    Args:
        desk: The desk, made when it is first needed.
        status: Where the API listens.
        names: Of all actions.
    """

    async def show(_: Invocation, __: NoParams) -> dict[str, Any]:
        return status()

    async def create(_: Invocation, params: TokenWish) -> dict[str, Any]:
        check_scopes(params.scopes, names())
        made, token = await desk().create_token(
            params.name, params.user, Role[params.role], tuple(params.scopes), params.days
        )  # fmt: skip
        kept = await desk().tokens()  # with the role that its user leaves it
        made = next((each for each in kept if each.token_id == made.token_id), made)
        return {
            "token": token, "name": made.name, "user": made.user, "role": made.role.name, "scopes": made.scopes,
            "expires": made.expires, "note": "This is shown once.",
        }  # fmt: skip

    async def tokens(_: Invocation, __: NoParams) -> list[ApiToken]:
        return await desk().tokens()

    async def revoke(_: Invocation, params: TokenName) -> ApiToken:
        return await desk().revoke_token(params.name)

    async def sessions(_: Invocation, __: NoParams) -> list[ApiSession]:
        return desk().all_sessions()

    async def end(_: Invocation, params: SessionId) -> dict[str, bool]:
        return {"ended": await desk().end_session(params.session_id)}

    admin = functools.partial(Action, role=Role.admin)
    return [
        Action("api.status", "Show where the API listens", show, role=Role.viewer, query=True),
        admin("api.token-create", "Make a token for a program; it is shown once", create, params=TokenWish,
              positional=("name", "user")),
        admin("api.token-list", "List the tokens of programs", tokens, query=True),
        admin("api.token-revoke", "End a token at once", revoke, params=TokenName, positional=("name",)),
        admin("api.session-list", "List logins of the API", sessions, query=True),
        admin("api.session-revoke", "End a login of the API", end, params=SessionId, positional=("session_id",)),
    ]  # fmt: skip


def factor_actions(desk: Callable[[], AccessDesk]) -> list[Action]:
    """Second factors: everybody's own, and for an admin everybody's."""

    async def begin(call: Invocation, params: OfUser) -> dict[str, Any]:
        from appliance.core.vpn.qr import matrix

        user = whose(call, params.user)
        made = await desk().factors.begin(user)
        return {"user": user, "secret": made.secret, "uri": made.uri, "qr": matrix(made.uri)}

    async def confirm(call: Invocation, params: Code) -> dict[str, Any]:
        user = whose(call, params.user)
        return {"user": user, "recovery_codes": await desk().factors.confirm(user, params.code.get_secret_value())}

    async def remove(call: Invocation, params: Removal) -> dict[str, str]:
        user = whose(call, params.user)
        if not overrules(call, user):
            await desk().check_factor(user, params.code.get_secret_value())
        await desk().factors.remove(user)
        return {"removed": user}

    async def listing(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        found = await desk().factors.users()
        return [{"user": user, "recovery_codes": left} for user, left in found.items()]

    return [
        Action("totp.begin", "Give yourself a second factor; a code must confirm it", begin, params=OfUser, role=Role.viewer,
               positional=("user",)),
        Action("totp.confirm", "Have your second factor count", confirm, params=Code, role=Role.viewer, positional=("user",)),
        Action("totp.remove", "Remove a second factor", remove, params=Removal, role=Role.viewer, positional=("user",)),
        Action("totp.list", "List who has a second factor", listing, role=Role.admin, query=True),
    ]  # fmt: skip


def secret_action(secrets: Secrets) -> Action:
    """What lies elsewhere, and how it is; never a value."""

    async def listing(_: Invocation, __: NoParams) -> list[SecretStatus]:
        away = secrets.elsewhere
        return [] if away is None else await asyncio.to_thread(away.status)

    return Action("secret.list", "List secrets that lie elsewhere, and whether they can be had", listing, role=Role.admin,
                  query=True)  # fmt: skip


def tls_actions(certificates: Callable[[], Certificates], acme: Callable[[], AcmeService | None]) -> list[Action]:
    """Certificates.

    Args:
        certificates: What the API shows.
        acme: What renews that of a public authority; None where there is none.
    """

    async def show(_: Invocation, __: NoParams) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            from appliance.core.access.authority import describe

            found = certificates()
            return {
                "certificate": found.info(), "authority": describe(found.ca_pem()), "public": found.public_info(),
                "trouble": found.trouble(),
            }  # fmt: skip

        return await asyncio.to_thread(look)

    async def export(_: Invocation, __: NoParams) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            from appliance.core.access.authority import describe
            from appliance.core.vpn.qr import matrix

            pem = certificates().ca_pem()
            return {"pem": pem.decode(), "fingerprint": describe(pem).fingerprint, "qr": matrix(pem.decode())}

        return await asyncio.to_thread(look)

    async def renew(_: Invocation, __: NoParams) -> Any:
        return await asyncio.to_thread(lambda: certificates().remake())

    async def obtain(_: Invocation, __: NoParams) -> CertificateInfo:
        service = acme()
        if service is None:
            raise AbsentError("No public authority is configured.", "set acme.directory, acme.names and acme.agree_terms.")
        return await service.obtain()

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("tls.show", "Show the certificate of the API and its authority", show),
        query("tls.export", "Show the authority's certificate, for the devices that are to trust it", export),
        Action("tls.renew", "Make a new certificate now", renew, role=Role.admin),
        Action("tls.obtain", "Have the public authority sign a certificate now (ACME)", obtain, role=Role.admin, timeout=200),
    ]


def whose(call: Invocation, user: str) -> str:
    """Whose second factor is meant. Raises NotAuthorizedError, InvalidArgumentsError."""
    account = call.actor.via in {"api", "ssh"}
    if not user and not account:
        raise InvalidArgumentsError("Whose second factor?", "name the user.")
    if user and call.actor.role < Role.admin and not (account and user == call.actor.name):
        raise NotAuthorizedError("This is another user's second factor.", "only an admin changes those.")
    return user or call.actor.name


def overrules(call: Invocation, user: str) -> bool:
    """Whether whoever asks may do without a code: an admin, for others, and for themselves from this machine."""
    return call.actor.role >= Role.admin and (call.actor.via not in {"api", "ssh"} or call.actor.name != user)
