"""A real sshd of OpenSSH on loopback, whose users are this machine's."""

from __future__ import annotations

import getpass
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers.child import Server
from tests.support import capability, free_port

PROGRAM = Path("/usr/sbin/sshd")


class SshServer(Server):
    """sshd with one host key or several, that lets in who has one of the keys in `authorized`.

    Args:
        directory: Its files.
        authorized: Lines of authorized_keys.
        address: Of loopback, where it listens.
        settings: Further lines of sshd_config; they come first, and sshd takes the first value of each.
        kinds: Of its host keys, such as "ed25519", "rsa", "ecdsa".
    """

    def __init__(
        self, directory: Path, authorized: str, *, address: str = "127.0.0.1", settings: Sequence[str] = (),
        kinds: Sequence[str] = ("ed25519",),
    ) -> None:  # fmt: skip
        capability(PROGRAM.exists(), "sshd of OpenSSH: sudo apt-get install openssh-server")
        super().__init__(directory, "sshd")
        self.address, self.port = address, free_port()
        self.user = getpass.getuser()
        self.settings, self.kinds = list(settings), tuple(kinds)
        self.sftp = "internal-sftp"
        """What answers for files."""
        self.authorized = directory / "authorized_keys"
        self.authorized.write_text(authorized)
        self.authorized.chmod(0o600)
        self.new_host_key()

    def _key(self, kind: str) -> Path:
        return self.directory / ("host_key" if kind == self.kinds[0] else f"host_key_{kind}")

    def new_host_key(self) -> None:
        """Make other host keys; takes effect at the next start."""
        for kind in self.kinds:
            key = self._key(kind)
            key.unlink(missing_ok=True)
            subprocess.run(
                ["ssh-keygen", "-q", "-t", kind, *(["-b", "2048"] if kind == "rsa" else []), "-N", "", "-f", key], check=True
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first host key, as `ssh-keygen -lf` prints it."""
        return self.fingerprint_of(self.kinds[0])

    def fingerprint_of(self, kind: str) -> str:
        """SHA-256 of one of its host keys."""
        told = subprocess.run(["ssh-keygen", "-lf", self._key(kind)], check=True, capture_output=True, text=True)
        return told.stdout.split()[1]

    def public_host_key(self) -> str:
        """The first host key, as known_hosts has it behind the host."""
        return " ".join(self._key(self.kinds[0]).with_name("host_key.pub").read_text().split()[:2])

    def logins(self) -> int:
        """How many connections came in so far, also those that did not log in."""
        return self.child.log.read_text(errors="replace").count("Connection from ")

    def start(self) -> None:
        """Start it; returns when it listens."""
        config = self.directory / "sshd_config"
        keys = "".join(f"HostKey {self._key(kind)}\n" for kind in self.kinds)
        config.write_text(
            "".join(f"{each}\n" for each in self.settings)
            + f"ListenAddress {self.address}\nPort {self.port}\n{keys}PidFile none\n"
            f"AuthorizedKeysFile {self.authorized}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nLogLevel VERBOSE\n"
            f"Subsystem sftp {self.sftp}\nPermitRootLogin prohibit-password\nKbdInteractiveAuthentication no\n"
            "MaxStartups 200\nMaxSessions 200\n"
            f"SetEnv HOME={self.directory}\n"  # logins read no start-up files of whoever runs the tests
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self.child.spawn([str(PROGRAM), "-D", "-e", "-f", str(config)], self._listens)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((self.address, self.port)) == 0
