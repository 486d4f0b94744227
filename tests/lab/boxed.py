"""What a node has that runs containers: podman behind Docker's socket, and images that were made here."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import base, units

if TYPE_CHECKING:
    from tests.lab.node import LabNode

IMAGE = "localhost/lab-web"
VERSIONS = ("1", "2")
PORT = 8080
"""Where a container of that image serves its version as /index.html."""
PROGRAMS = ("podman", "runc", "docker", "docker-compose", "busybox")
ARCHIVES = "usr/lib/prime-spark-lab/images"
CONF = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[network]
network_backend = "netavark"
"""
STORAGE = '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
LOAD = """set -e
for version in {versions}; do
    podman image exists {image}:$version && continue
    podman import -q --change 'CMD ["/bin/busybox", "httpd", "-f", "-p", "{port}", "-h", "/www"]' \
        --change 'EXPOSE {port}' --change 'STOPSIGNAL SIGKILL' /{archives}/$version.tar {image}:$version
done
"""


def missing() -> str:
    """Which program for containers is not here; empty where all are."""
    return ", ".join(name for name in PROGRAMS if shutil.which(name) is None)


def archive(version: str) -> bytes:
    """The files of an image: busybox, and a page that says its version."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in ("bin", "www", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        shell = tarfile.TarInfo("bin/sh")
        shell.type, shell.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(shell)
        for name, content, mode in (("bin/busybox", Path(str(shutil.which("busybox"))).read_bytes(), 0o755),
                                    ("www/index.html", f"version {version}\n".encode(), 0o644)):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def furnish(node: LabNode) -> None:
    """Give a node its engine and images."""
    base.write(node.top, "etc/containers/containers.conf", CONF)
    base.write(node.top, "etc/containers/storage.conf", STORAGE)
    base.write(node.top, "etc/containers/nodocker", "")
    for version in VERSIONS:
        path = base.folder(node.top, ARCHIVES) / f"{version}.tar"
        path.write_bytes(archive(version))
    load = LOAD.format(versions=" ".join(VERSIONS), image=IMAGE, port=PORT, archives=ARCHIVES)
    base.write(node.top, f"{ARCHIVES}/load", load, 0o755)
    engine = units.unit("Podman behind Docker's socket", Type="simple", Restart="on-failure", KillMode="process",
                        ExecStart="/usr/bin/podman system service --time=0 unix:///run/docker.sock")  # fmt: skip
    images = units.unit("Images of the lab", Type="oneshot", RemainAfterExit="yes", ExecStart=f"/bin/sh /{ARCHIVES}/load")
    for name, text in (("podman", engine), ("lab-images", images)):
        base.write(node.top, units.own(name), text)
        base.enable(node.top, f"{name}.service")
