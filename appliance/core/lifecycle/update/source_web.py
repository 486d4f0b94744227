"""A source behind an address: the one place where updates speak HTTP. All of it blocks."""

from __future__ import annotations

import email.utils
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.core.lifecycle.update.source import About, Access, Part, SourceError, whole
from appliance.errors import UpdateError

if TYPE_CHECKING:
    import httpx

CONNECT, ANSWER = 10.0, 30.0
"""Seconds for a connection, and for each next piece of an answer."""
HOPS = 5
"""Redirects that are followed."""
SLOWEST, OVER = 4096, 60.0
"""Bytes a second that must come, over so many seconds."""
SAID = 160
"""Signs of what a library says that are told."""
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
STEPS = {
    401: "the server wants a login, which updates do not have: use another source.",
    403: "the server lets nobody read it: ask its owner.",
    404: "see whether update.source is right: SHA256SUMS must lie directly below it.",
    407: "the proxy wants a login: give it in https_proxy of the appliance's environment.",
}
LATER = "see the network (prime-spark doctor), and check again; what has come is kept."


class Web:
    """A source behind http or https (implements Source).

    Args:
        address: Of the directory.
        access: Proxy and certificates.
    """

    def __init__(self, address: str, access: Access) -> None:
        import httpx

        self._access = access
        try:
            self._base = httpx.URL(address.rstrip("/") + "/")
        except httpx.InvalidURL as error:
            raise UpdateError(f"The address of the updates is none: {error}.", "correct update.source.") from error
        if not self._base.host:
            raise UpdateError(f"The address {address[:80]!r} names no host.", "correct update.source.")

    def place(self, name: str) -> str:
        """See Source."""
        return str(self._base.join(name))

    def read(self, name: str, most: int) -> bytes:
        """See Source."""
        with self.open(name, 0) as body:
            return whole(body.blocks, name, most)

    def about(self, name: str) -> About:
        """See Source; nothing where the server answers no such questions."""
        with self._asked("HEAD", name, {}) as answer:
            if answer.status_code in {405, 501}:
                return About()
            _refuse(answer, name)
            size = answer.headers.get("content-length", "")
            return About(int(size) if size.isdecimal() else None, _moment(answer.headers.get("last-modified", "")))

    @contextmanager
    def open(self, name: str, start: int) -> Iterator[Part]:
        """See Source."""
        with self._asked("GET", name, {"range": f"bytes={start}-"} if start else {}) as answer:
            if answer.status_code == 416 and start:  # more was there than there is now: from its beginning
                with self.open(name, 0) as body:
                    yield body
                return
            _refuse(answer, name)
            first, size = _place(answer, start)
            yield Part(first, size, self._blocks(answer, name))

    def _blocks(self, answer: httpx.Response, name: str) -> Iterator[bytes]:
        import httpx

        began, came = time.monotonic(), 0
        try:
            for block in answer.iter_raw():
                yield block
                came += len(block)
                if (passed := time.monotonic() - began) > OVER:
                    if came / passed < SLOWEST:
                        told = f"{self._base.host} gives {name} too slowly: {came / passed:.0f} B/s over {passed:.0f} s."
                        raise UpdateError(told, LATER)
                    began, came = time.monotonic(), 0
        except httpx.HTTPError as error:
            raise self._told(error, name) from error

    @contextmanager
    def _asked(self, method: str, name: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        import httpx

        given = {"user-agent": "prime-spark-update", "accept-encoding": "identity", **headers}
        try:
            with self._client() as client, client.stream(method, self._base.join(name), headers=given) as answer:
                yield answer
        except httpx.HTTPError as error:
            raise self._told(error, name) from error
        except httpx.InvalidURL as error:
            raise UpdateError(
                f"{self._base.host} sends on to an address that is none: {error}.", "use another source."
            ) from error

    def _client(self) -> httpx.Client:
        import httpx

        limits = httpx.Timeout(ANSWER, connect=CONNECT)
        try:
            return httpx.Client(
                timeout=limits, verify=self._trust(), proxy=self._access.proxy or None, follow_redirects=True,
                max_redirects=HOPS, event_hooks={"request": [self._stay_safe]},
            )  # fmt: skip
        except (ValueError, ImportError, httpx.InvalidURL) as error:  # what it says would tell the proxy's login
            told = "The proxy of the updates is no address of http or https."
            raise UpdateError(
                told, "correct update.proxy, or https_proxy and all_proxy of the appliance's environment."
            ) from error

    def _trust(self) -> ssl.SSLContext:
        trust = ssl.create_default_context()
        if self._access.certificates is not None:
            try:
                trust.load_verify_locations(self._access.certificates)
            except OSError as error:  # ssl.SSLError is one
                told = f"{self._access.certificates} holds no certificates that can be read: {error}."
                raise UpdateError(told, "correct update.certificates.") from error
        return trust

    def _stay_safe(self, request: httpx.Request) -> None:
        if self._base.scheme == "https" and request.url.scheme != "https":
            told = f"{self._base.host} sends on from https to {request.url.scheme}: {request.url.host}."
            raise UpdateError(told, "nothing was taken; use another source, or ask its owner.")

    def _told(self, error: httpx.HTTPError, name: str) -> UpdateError:
        import httpx

        host, said = self._base.host, str(error)[:SAID] or type(error).__name__
        if isinstance(error, httpx.ProxyError):
            return UpdateError(f"The proxy does not let {host} be reached: {said}.", "see update.proxy and the proxy itself.")
        if isinstance(error, httpx.TooManyRedirects):
            return UpdateError(f"{host} sends on and on: more than {HOPS} times.", "see whether update.source is right.")
        if isinstance(error, httpx.ConnectError) and "certificate" in said.lower():
            step = "see the clock (date) and the address; a certificate of your own: update.certificates."
            return UpdateError(f"The certificate of {host} is not trusted: {said}.", step)
        if isinstance(error, httpx.TimeoutException):
            return SourceError(f"{host} did not go on with {name} for {ANSWER:.0f} s.", LATER)
        if isinstance(error, httpx.ConnectError):
            return SourceError(f"{host} cannot be reached: {said}.", LATER)
        if isinstance(error, httpx.RemoteProtocolError):
            return SourceError(f"{host} broke off {name} before its end, or does not speak HTTP: {said}.", LATER)
        return SourceError(f"{name} did not come from {host}: {said}.", LATER)


def _refuse(answer: httpx.Response, name: str) -> None:
    """Raises UpdateError where an answer is not the file."""
    status = answer.status_code
    if status not in {200, 206}:
        step = STEPS.get(status, "try again later, or use another source.")
        raise UpdateError(f"{answer.url.host} answers {status} {answer.reason_phrase} for {name}.", step)
    if (packed := answer.headers.get("content-encoding", "identity")) != "identity":
        raise UpdateError(f"{answer.url.host} packs {name} ({packed}), which was not asked for.", "use another source.")


def _place(answer: httpx.Response, start: int) -> tuple[int, int | None]:
    """(where the answer begins, size of the whole file)."""
    if answer.status_code == 206:
        found = RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None or int(found[1]) != start:
            told = f"{answer.url.host} answers with another part of the file than the one asked for."
            raise UpdateError(told, "use another source, or a server that knows ranges.")
        return start, None if found[3] == "*" else int(found[3])
    size = answer.headers.get("content-length", "")
    return 0, int(size) if size.isdecimal() else None


def _moment(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None
