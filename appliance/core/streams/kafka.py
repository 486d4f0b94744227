"""How Kafka is reached: security from the settings, and why a broker cannot be used, found out by hand.

The client library says "Unable to bootstrap" of a wrong password, an untrusted certificate and a dead broker alike. So each
bootstrap server is asked alone first: name, TCP, TLS, first answer, login.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import ConfigError, LinkDownError
from appliance.settings import KafkaSettings

log = logging.getLogger(__name__)

ANSWER_MS = 10_000
"""Milliseconds that a broker has for one answer."""
RETRY_MS = 300
"""Milliseconds between two tries of a request."""
PORT = 9092
NO_TOPIC = "create it there, or set kafka.create_topics."


@dataclass(frozen=True)
class Access:
    """What every client of Kafka needs.

    Attributes:
        settings: The group kafka.
        password: The secret kafka.password; empty for none.
        client_id: The name that brokers see.
    """

    settings: KafkaSettings
    password: str = field(repr=False)
    client_id: str

    @property
    def servers(self) -> list[str]:
        """HOST:PORT of the bootstrap servers."""
        named = (each.strip() for each in self.settings.bootstrap_servers.split(","))
        return [each if ":" in each else f"{each}:{PORT}" for each in named if each]

    @property
    def protocol(self) -> str:
        """As Kafka calls it."""
        return ("SASL_" if self.settings.sasl_mechanism else "") + ("SSL" if self.settings.tls else "PLAINTEXT")

    def arguments(self) -> dict[str, Any]:
        """Of the library's clients; reads certificates, so it blocks.

        Raises:
            ConfigError: A file of certificates or keys cannot be used.
        """
        return {"bootstrap_servers": self.servers, "retry_backoff_ms": RETRY_MS, **self.security()}

    def security(self) -> dict[str, Any]:
        """The same without the servers."""
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it repeats itself; the status says it once
        found: dict[str, Any] = {
            "security_protocol": self.protocol, "client_id": self.client_id, "request_timeout_ms": ANSWER_MS,
        }  # fmt: skip
        if self.settings.tls:
            found["ssl_context"] = self._trust()
        if self.settings.sasl_mechanism:
            found["sasl_mechanism"] = self.settings.sasl_mechanism
            found |= {"sasl_plain_username": self.settings.username, "sasl_plain_password": self.password}
        return found

    def _trust(self) -> ssl.SSLContext:
        given = self.settings
        try:
            context = ssl.create_default_context(cafile=str(given.ca_file) if given.ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"kafka.ca_file {given.ca_file} cannot be used: {error}.", "give a file of PEM certificates."
            ) from error
        if given.cert_file:
            try:
                context.load_cert_chain(str(given.cert_file), str(given.key_file) if given.key_file else None)
            except (OSError, ssl.SSLError) as error:
                told = f"kafka.cert_file {given.cert_file} cannot be used: {error}."
                raise ConfigError(told, "give a PEM certificate and its unencrypted key (kafka.key_file).") from error
        return context


async def probe(access: Access) -> str:
    """Ask the bootstrap servers one by one until one answers as it should.

    Returns:
        HOST:PORT of the one that did.

    Raises:
        LinkDownError: None did; the reason is that of the server that came furthest.
        ConfigError: A file of certificates cannot be used.
    """
    security = await asyncio.to_thread(access.security)
    reasons: list[tuple[int, LinkDownError]] = []
    for server in access.servers:
        try:
            await _ask(server, security)
        except LinkDownError as error:
            reasons.append((_depth(error), error))
        else:
            return server
    raise max(reasons, key=lambda each: each[0])[1]


async def _ask(server: str, security: dict[str, Any]) -> None:
    """Connect, log in and ask for the cluster. Raises LinkDownError."""
    from aiokafka.conn import create_conn
    from aiokafka.errors import KafkaError
    from aiokafka.protocol.metadata import MetadataRequest

    host, _, port = server.rpartition(":")
    try:
        connection = await create_conn(host.strip("[]"), int(port), **security)
    except (OSError, KafkaError, TimeoutError, ValueError) as error:
        raise explain(server, error, security) from error
    try:
        await connection.send(MetadataRequest([]))
    except (OSError, KafkaError, TimeoutError) as error:
        raise explain(server, error, security) from error
    finally:
        connection.close()


def _depth(error: LinkDownError) -> int:
    """How far a server came: the login tells more than a refused connection."""
    cause = type(error.__cause__).__name__
    if "Sasl" in cause or "Authentication" in cause:
        return 4
    return 3 if isinstance(error.__cause__, ssl.SSLError) else 2 if cause == "KafkaConnectionError" else 1


def explain(server: str, error: BaseException, security: dict[str, Any]) -> LinkDownError:
    """What an error of one server means, with the next step."""
    if type(error).__name__ == "UnknownTopicOrPartitionError":
        return LinkDownError("The topic is not on the broker.", NO_TOPIC)
    for step in (_login, _encryption, _network):
        if (found := step(server, error, security)) is not None:
            return found
    return LinkDownError(f"{server}: {type(error).__name__}: {error}.", "see the broker's log.")


def _login(server: str, error: BaseException, security: dict[str, Any]) -> LinkDownError | None:
    name, mechanism = type(error).__name__, security.get("sasl_mechanism", "")
    if name in {"SaslAuthenticationFailed", "AuthenticationFailedError"}:
        user = security.get("sasl_plain_username")
        return LinkDownError(
            f"{server} refuses the login of {user!r} by {mechanism}: wrong user or password.",
            "check kafka.username, and put the right secret: kafka.password.",
        )
    if name in {"UnsupportedSaslMechanismError", "AuthenticationMethodNotSupported"}:
        return LinkDownError(f"{server} does not offer {mechanism}.", "set kafka.sasl_mechanism to one that the listener has.")
    if name == "IllegalSaslStateError":
        return LinkDownError(f"{server} wants no login on this listener.", "empty kafka.sasl_mechanism, or use another port.")
    if "AuthorizationFailed" in name:
        return LinkDownError(f"{server} does not allow this user that: {name}.", "give the user the rights on the broker.")
    return None


def _encryption(server: str, error: BaseException, security: dict[str, Any]) -> LinkDownError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in {62, 64}:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return LinkDownError(
                f"The certificate of {server} is for another name: {error.verify_message}.",
                "use a name of its certificate in kafka.bootstrap_servers.",
            )
        return LinkDownError(
            f"The certificate of {server} is not trusted: {error.verify_message}.",
            "set kafka.ca_file to the certificate of the authority that signed it.",
        )
    if isinstance(error, ssl.SSLError):
        told = error.reason or str(error)
        return LinkDownError(
            f"TLS with {server} failed: {told}.",
            "see whether that listener speaks TLS (else kafka.tls = false), and wants a certificate (kafka.cert_file).",
        )
    return None


def _network(server: str, error: BaseException, security: dict[str, Any]) -> LinkDownError | None:
    text = str(error)
    if isinstance(error, socket.gaierror):
        return LinkDownError(
            f"No address is known for {server}: {error.strerror}.", "check kafka.bootstrap_servers and the DNS."
        )
    if isinstance(error, TimeoutError) or type(error).__name__ == "RequestTimedOutError":
        return LinkDownError(
            f"{server} gave no answer within {ANSWER_MS // 1000} s.",
            "check the network, the VPN, a firewall, and whether the broker hangs.",
        )
    if isinstance(error, ConnectionRefusedError) or f"Errno {errno.ECONNREFUSED}" in text:
        return LinkDownError(
            f"{server} refuses connections: no broker listens there.", "start the broker, or correct kafka.bootstrap_servers."
        )
    if isinstance(error, OSError) and error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}:
        return LinkDownError(f"There is no route to {server}: {error.strerror}.", "check the network and the VPN.")
    if type(error).__name__ in {"KafkaConnectionError", "NodeNotReadyError"} or isinstance(error, ConnectionError | EOFError):
        return LinkDownError(
            f"{server} closed the connection on a first request in {security['security_protocol']}.",
            "see whether kafka.tls and kafka.sasl_mechanism are those of this listener, and the broker's log.",
        )
    return None


async def describe(server: str, access: Access, error: BaseException) -> LinkDownError:
    """An error that came later than the connection."""
    return explain(server, error, {"security_protocol": access.protocol, "sasl_mechanism": access.settings.sasl_mechanism,
                                   "sasl_plain_username": access.settings.username})  # fmt: skip
