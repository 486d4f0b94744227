"""A real sshd of OpenSSH on loopback, whose users are this machine's."""

from __future__ import annotations

import getpass
import socket
import subprocess
from pathlib import Path

from tests.servers.child import Server
from tests.support import capability, free_port

PROGRAM = Path("/usr/sbin/sshd")


class SshServer(Server):
    """sshd with one host key, that lets in who has one of the keys in `authorized`.

    Args:
        directory: Its files.
        authorized: Lines of authorized_keys.
    """

    def __init__(self, directory: Path, authorized: str) -> None:
        capability(PROGRAM.exists(), "sshd of OpenSSH: sudo apt-get install openssh-server")
        super().__init__(directory, "sshd")
        self.port = free_port()
        self.user = getpass.getuser()
        self.authorized = directory / "authorized_keys"
        self.authorized.write_text(authorized)
        self.authorized.chmod(0o600)
        self.new_host_key()

    def new_host_key(self) -> None:
        """Make another host key; takes effect at the next start."""
        key = self.directory / "host_key"
        key.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the host key, as `ssh-keygen -lf` prints it."""
        told = subprocess.run(["ssh-keygen", "-lf", self.directory / "host_key"], check=True, capture_output=True, text=True)
        return told.stdout.split()[1]

    def start(self) -> None:
        """Start it; returns when it listens."""
        config = self.directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.directory / 'host_key'}\nPidFile none\n"
            f"AuthorizedKeysFile {self.authorized}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "Subsystem sftp internal-sftp\nPermitRootLogin prohibit-password\nKbdInteractiveAuthentication no\nMaxStartups 200\nMaxSessions 200\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self.child.spawn([str(PROGRAM), "-D", "-e", "-f", str(config)], self._listens)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
