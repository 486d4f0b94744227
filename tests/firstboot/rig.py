"""A machine made of directories: a card, a data partition, a system; nothing of the machine that runs the tests is touched."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import firstboot
from appliance.core.lifecycle.firstboot.apply import apply
from appliance.core.lifecycle.firstboot.generate import generate
from appliance.core.lifecycle.firstboot.model import Identity, Job, Outcome, Record
from appliance.core.lifecycle.firstboot.records import identity, read_record
from appliance.paths import Paths

PASSWD = (
    "root:x:0:0:root:/root:/bin/bash\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\nprime-spark:x:990:990::/data:/bin/false\n"
)
GROUP = "root:x:0:\nsudo:x:27:\nadm:x:4:syslog\nprime-spark:x:990:\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBB5PCEsR08qOTbaFfBDnnHGfRlaVJYbgpMSyl3gDJeq ada@desk"
CLOCK = "1970-01-01T00:00:12Z"

WHOLE = f"""
[system]
hostname = "spark-7"
timezone = "Europe/Zurich"
locale = "C.UTF-8"
keymap = "ch"

[[users]]
name = "ada"
role = "admin"
password = "correct horse"  # hers
ssh_keys = ["{KEY}"]
shell = true

[[users]]
name = "bob"
password = 'battery "staple"'

[network.end0]
address = "192.0.2.10/24"
gateway = "192.0.2.1"
dns = ["192.0.2.53"]

[[wifi]]
ssid = "IEEE"
password = "password"
country = "CH"

[[nodes]]
name = "agent"
host = "192.0.2.20"
jump = "gate"

[[nodes]]
name = "gate"
host = "gate.example.net"

[settings.log]
level = "DEBUG"

[secrets]
kafka.password = "töp secret"
"""
SECRETS = (b"correct horse", b'battery "staple"', b'"password"', "töp secret".encode())


@dataclass(frozen=True)
class Box:
    """The machine.

    Attributes:
        base: A directory of its own.
    """

    base: Path

    @property
    def boot(self) -> Path:
        return self.base / "boot"

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def run(self) -> Path:
        return self.root / "run/prime-spark"

    @property
    def file(self) -> Path:
        return self.boot / "prime-spark.toml"

    def make(self) -> Box:
        """An image that was never started."""
        for each in (self.boot, self.data, self.root / "etc/skel", self.root / "usr/share/zoneinfo/Europe"):
            each.mkdir(parents=True)
        (self.root / "usr/share/zoneinfo/Europe/Zurich").touch()
        etc = self.root / "etc"
        (etc / "os-release").write_text('NAME="Debian GNU/Linux"\nIMAGE_ID=prime-spark\nIMAGE_VERSION=0.1.0\n')
        (etc / "passwd").write_text(PASSWD)
        (etc / "shadow").write_text("root:*:20000:0:99999:7:::\nprime-spark:!:20000::::::\n")
        (etc / "group").write_text(GROUP)
        (etc / "skel/.profile").write_text("# shell\n")
        (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        return self

    def write(self, text: str | bytes) -> None:
        """Put the file on the card."""
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def job(self) -> Job:
        """One application, on a machine whose clock was never set."""
        return Job(self.boot, self.data, self.root, self.run, firstboot.FirstBootParts(), "0.1.0", CLOCK)

    def apply(self) -> Outcome:
        """Start the machine, as far as this file is concerned."""
        outcome = apply(self.job())
        generate(self.data, self.root)
        return outcome

    @property
    def places(self) -> Paths:
        return firstboot.FirstBootParts().places(self.data / "prime-spark")

    def etc(self, path: str) -> str:
        """A file of /etc."""
        return (self.root / "etc" / path).read_text()

    def rows(self, query: str) -> list[Any]:
        """Of the appliance's database."""
        with closing(sqlite3.connect(self.places.database)) as connection:
            return connection.execute(query).fetchall()

    def identity(self) -> Identity:
        return identity(self.data)

    def record(self) -> Record | None:
        return read_record(self.data)

    def told(self) -> dict[str, Any]:
        """The outcome as the console reads it."""
        found: dict[str, Any] = json.loads((self.run / "first-boot.json").read_text())
        return found
