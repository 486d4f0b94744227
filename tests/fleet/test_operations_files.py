"""A file put on a node as an operation: the plan tells by hashes, and the file of before comes back."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.core.fleet.files.places import Places
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.operations.kinds.files import KEPT
from appliance.core.fleet.operations.model import Stage
from appliance.errors import ConflictError
from tests.fleet import files_rig
from tests.fleet.files_rig import node_of, quiet_server
from tests.fleet.ops.rig import QUICK, Rig, states
from tests.servers.sshd import SshServer


@pytest.fixture
def server(own: OwnKey) -> Iterator[SshServer]:
    with quiet_server(own) as made:
        yield made


@pytest.fixture
def service() -> Iterator[socket.socket]:
    """Something that listens on the node."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
async def bench(server: SshServer, service: socket.socket, own: OwnKey, tmp_path: Path) -> AsyncIterator[files_rig.Rig]:
    async with files_rig.rig(tmp_path, own, node_of(server, services=(f"tcp:{service.getsockname()[1]}",))) as made:
        yield made


@pytest.fixture
async def rig(bench: files_rig.Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr("appliance.core.fleet.operations.kinds.files.Put.settle", 0.2)
    made = Rig(tmp_path, bench.links, bench.machines)
    made.ground = dataclasses.replace(made.ground, places=Places(tmp_path / "data", tmp_path / "data" / "files"))
    made.service = type(made.service)(made.ground, made.state)
    await made.start()
    yield made
    await made.stop()


async def test_a_file_is_put_and_the_one_of_before_comes_back(rig: Rig, bench: files_rig.Rig) -> None:
    source, target = bench.here / "web.conf", bench.there / "a web's.conf"
    source.write_text("listen 80\n")
    for before in (None, "listen 8080\n"):
        if before is not None:
            target.write_text(before)
            target.chmod(0o600)
        given = {"source": str(source), "target": str(target)}
        planned = await rig.service.plan("files.put", given, ["agent"], QUICK, "alice")
        assert planned.runs[0].diff.count("\n") == (before is not None), planned
        await rig.service.apply(planned.operation_id, "alice")
        ended = await rig.service.wait(planned.operation_id)
        assert (ended.stage, states(ended)) == (Stage.completed, {"agent": "ok"}), ended
        assert target.read_text() == "listen 80\n"
        again = await rig.service.plan("files.put", given, ["agent"], QUICK, "alice")
        assert states(again) == {"agent": "unchanged"}
        await rig.service.undo(ended.operation_id, "alice")
        assert (await rig.service.wait(ended.operation_id)).stage is Stage.undone
        assert (target.read_text() if target.exists() else None) == before
    assert target.stat().st_mode & 0o777 == 0o600
    assert not list(bench.there.glob(f".*{KEPT}*"))


async def test_a_service_that_falls_by_it_takes_it_back(rig: Rig, bench: files_rig.Rig, service: socket.socket) -> None:
    source, target = bench.here / "web.conf", bench.there / "web.conf"
    source.write_text("wrong\n")
    target.write_text("right\n")
    given = {"source": str(source), "target": str(target)}
    planned = await rig.service.plan("files.put", given, ["agent"], QUICK, "alice")
    service.close()
    await rig.service.apply(planned.operation_id, "alice")
    ended = await rig.service.wait(planned.operation_id)
    assert (ended.stage, target.read_text()) == (Stage.undone, "right\n"), ended
    assert "ran before and does not now" in ended.reason


async def test_what_cannot_be_put_is_told_before(rig: Rig, bench: files_rig.Rig, tmp_path: Path) -> None:
    source, secret = bench.here / "file", tmp_path / "data" / "key"
    source.write_text("text")
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("secret")
    for here, there, why in (
        (source, bench.there, "is a folder"), (source, bench.there / "no/file", "no folder"),
        (bench.here / "none", bench.there / "file", "No such file"), (secret, bench.there / "file", "own data"),
    ):  # fmt: skip
        planned = await rig.service.plan("files.put", {"source": str(here), "target": str(there)}, ["agent"], QUICK, "alice")
        assert (planned.stage, why in planned.runs[0].reason) == (Stage.failed, True), planned
    source.write_text("text of then")
    planned = await rig.service.plan(
        "files.put", {"source": str(source), "target": str(bench.there / "file")}, ["agent"], QUICK, "alice"
    )
    source.write_text("text of now")
    with pytest.raises(ConflictError, match="something changed"):
        await rig.service.apply(planned.operation_id, "alice")
    assert not (bench.there / "file").exists()
