"""A server that answers as Vault's HTTP API (v1) is documented to: AppRole login, KV version 2, the seal; with faults.

Vault itself is in no package registry. What it answers is taken from its documentation (KV secrets engine - version 2,
"Read secret version"; AppRole, "Login with AppRole"; "Errors" and status codes of the API's overview).
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROLE, SECRET_ID = "675a50e7-cfe0-be76-e35f-49ec009731ea", "841771dc-11c9-bbc7-bcac-6a3945a69cd9"


class ScriptedVault:
    """One Vault in a thread of its own.

    Args:
        certificate: File with a key and its certificate; None for plain HTTP.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.deleted: set[str] = set()
        self.tokens = {"hvs.file"}
        self.refused: set[str] = set()
        """Paths that no policy shows."""
        self.sealed = self.garbage = self.elsewhere = False
        self.logins = self.reads = 0
        self.namespaces: list[str | None] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"vault": self}))
        self._secure = certificate is not None
        if certificate is not None:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._secure else ''}://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop; nothing listens any more when this returns."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """As the documentation says."""
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if method == "POST" and path == "/v1/auth/approle/login":
            return self._login(json.loads(body))
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        if method != "GET" or not path.startswith("/v1/secret/data/"):
            return 404, {"errors": []}
        return self._read(path.removeprefix("/v1/secret/data/"))

    def _login(self, wish: dict[str, str]) -> tuple[int, Any]:
        self.logins += 1
        if (wish.get("role_id"), wish.get("secret_id")) != (ROLE, SECRET_ID):
            return 400, {"errors": ["invalid role or secret ID"]}
        token = f"hvs.role-{self.logins}"
        self.tokens.add(token)
        auth = {"client_token": token, "accessor": "x", "policies": ["default"], "lease_duration": 1200, "renewable": True}
        return 200, {"auth": auth, "data": None, "lease_duration": 0, "lease_id": "", "renewable": False}

    def _read(self, name: str) -> tuple[int, Any]:
        self.reads += 1
        if name in self.refused:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        metadata = {"created_time": "2026-01-02T03:04:05.6Z", "deletion_time": "", "destroyed": False, "version": 2}
        if name in self.deleted:
            return 404, {"data": {"data": None, "metadata": {**metadata, "deletion_time": "2026-01-03T03:04:05.6Z"}}}
        if name not in self.secrets:
            return 404, {"errors": []}
        return 200, {"data": {"data": self.secrets[name], "metadata": metadata}, "lease_id": "", "renewable": False}


class _Handler(BaseHTTPRequestHandler):
    vault: ScriptedVault
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.vault.namespaces.append(self.headers.get("X-Vault-Namespace"))
        if self.vault.elsewhere:
            return self._send(307, b"", Location="http://127.0.0.1:9/v1/secret/data/x")
        if self.vault.garbage:
            return self._send(404, b"<html>not found</html>", kind="text/html")
        status, answer = self.vault.answer(self.command, self.path, self.headers.get("X-Vault-Token", ""), body)
        return self._send(status, json.dumps(answer).encode())

    do_GET = do_POST = do_PUT = _handle  # noqa: N815 as the library wants

    def _send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""
