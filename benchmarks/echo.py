"""The floor for consoles over SSH: a bare asyncssh server that echoes each key, in a process of its own."""

from __future__ import annotations

import asyncio
import sys

import asyncssh


class Open(asyncssh.SSHServer):
    """Lets everybody in; it listens on loopback, for the length of a benchmark."""

    def begin_auth(self, username: str) -> bool:
        """No login."""
        return False


async def echo(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Send back what comes, until the client closes."""
    while data := await process.stdin.read(1024):
        process.stdout.write(data)
    process.exit(0)


async def main() -> None:
    """Serve until standard input ends; the first line of output is the port."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Open, server_host_keys=[key], process_factory=echo, encoding=None, line_editor=False
    )
    print(server.get_port(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
