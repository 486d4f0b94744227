"""Has an ACME authority (RFC 8555) sign a certificate; names are proven over HTTP (HTTP-01)."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Any

from appliance.core.access.challenges import Challenges
from appliance.core.access.errors import AcmeError
from appliance.core.secrets import Secrets
from appliance.settingacme import AcmeSettings

if TYPE_CHECKING:
    from acme import client, messages

log = logging.getLogger(__name__)

ACCOUNT, PAIR, BINDING = "acme.account", "acme.pair", "acme.eab_key"
"""Names of the secrets: the account's key; key, certificate and chain in one; the key of an account elsewhere."""
ANSWER, WHOLE = 20, 120
"""Seconds for one answer of the authority, and for a proof or a signature."""
AGENT = "prime-spark"


class AcmeClient:
    """One authority. All methods block, for as long as it takes; not for two threads at once.

    Args:
        settings: Where it is, and for which names.
        secrets: Where keys lie.
        challenges: What is answered over HTTP.
    """

    def __init__(self, settings: AcmeSettings, secrets: Secrets, challenges: Challenges) -> None:
        self._settings, self._secrets, self._challenges = settings, secrets, challenges

    def obtain(self) -> bytes:
        """A new key with its certificate and chain, PEM, kept as the secret acme.pair. Raises AcmeError, StoreError."""
        import josepy
        import requests
        from acme import errors, messages

        try:
            pair = self._order()
        except (errors.Error, messages.Error, josepy.errors.Error, requests.RequestException, ValueError, KeyError) as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            raise AcmeError(
                f"The authority {self._settings.directory} signed nothing: {told}.",
                "see whether each of acme.names leads to port 80 here, and that arrives at api.redirect_port.",
            ) from error
        self._secrets.put(PAIR, pair)
        return pair

    def _order(self) -> bytes:
        from acme import crypto_util

        known, key = self._enter(), _new_key()
        order = known.new_order(crypto_util.make_csr(key, list(self._settings.names)))
        tokens: list[str] = []
        try:
            for proof in order.authorizations:
                tokens += self._prove(known, proof)
            done = known.poll_and_finalize(order, dt.datetime.now() + dt.timedelta(seconds=WHOLE))  # noqa: DTZ005 as it wants
        finally:
            for token in tokens:
                self._challenges.remove(token)
        return key + str(done.fullchain_pem).encode()

    def _prove(self, known: client.ClientV2, proof: messages.AuthorizationResource) -> list[str]:
        """Have a name be looked at; returns the tokens that are answered now."""
        from acme import challenges, messages

        if proof.body.status == messages.STATUS_VALID:
            return []  # proven lately
        for offered in proof.body.challenges:
            if isinstance(offered.chall, challenges.HTTP01):
                answer, text = offered.response_and_validation(known.net.key)
                token = str(offered.chall.encode("token"))
                self._challenges.put(token, text)
                known.answer_challenge(offered, answer)
                return [token]
        raise ValueError(f"for {proof.body.identifier.value} it offers no proof over HTTP")

    def _enter(self) -> client.ClientV2:
        """A client with an account, made where there is none."""
        from acme import client, errors, messages
        from josepy import jwa, jwk

        given = self._settings
        key = jwk.JWKEC.load(self._account_key())
        trusted: Any = str(given.ca_file) if given.ca_file is not None else True
        net = client.ClientNetwork(key, alg=jwa.ES256, verify_ssl=trusted, user_agent=AGENT, timeout=ANSWER)
        net.session.trust_env = False  # no proxy that somebody's environment names
        found = client.ClientV2(client.ClientV2.get_directory(given.directory, net), net)
        wish = messages.NewRegistration.from_data(
            email=given.email or None, terms_of_service_agreed=True, external_account_binding=self._binding(found, key)
        )  # fmt: skip
        try:
            found.new_account(wish)
        except errors.ConflictError as error:
            found.query_registration(messages.RegistrationResource(uri=error.location, body=wish))
        return found

    def _binding(self, found: client.ClientV2, key: Any) -> Any:
        from acme import messages

        if not self._settings.key_id:
            return None
        if not (secret := self._secrets.text(BINDING)):
            raise ValueError(f"the secret {BINDING} is missing")
        return messages.ExternalAccountBinding.from_data(key.public_key(), self._settings.key_id, secret, found.directory)

    def _account_key(self) -> bytes:
        if (kept := self._secrets.get(ACCOUNT)) is not None:
            return kept
        key = _new_key()
        self._secrets.put(ACCOUNT, key)
        return key


def _new_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
