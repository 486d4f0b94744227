"""A whole appliance with nodes, as its operators have it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance import config, paths
from appliance.core.fleet.keys import OwnKey
from appliance.core.logs import LogRing
from appliance.core.secrets import Secrets
from appliance.runtime import Appliance
from tests.deploy.rig import NodeRig, make_base
from tests.screens.conftest import Bench

NODE = '[fleet.nodes.{name}]\nhost = "127.0.0.1"\nport = {port}\nuser = "{user}"\nhost_key = "{key}"\n'


@asynccontextmanager
async def whole(home: Path, *names: str) -> AsyncIterator[tuple[Bench, Path]]:
    """A running appliance that was set up, with these nodes, and a folder for moods."""
    os.environ["PRIME_SPARK_HOME"] = str(home)
    where, base = paths.find(), make_base()
    where.make()
    own = OwnKey(Secrets(where.secrets, {}), "prime-spark@test")
    nodes = [NodeRig(name, base, own.public() + "\n") for name in names]
    for node in nodes:
        await asyncio.to_thread(node.start)
    here = nodes[0].here
    text = f'[telemetry]\ninterval_seconds = 0.5\n[deploy]\nfolder = "{here}/deploy"\nunit_folder = "{here}/units"\n'
    text += "".join(NODE.format(name=each.name, port=each.port, user=each.user, key=each.fingerprint) for each in nodes)
    where.config.write_text(text)
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    try:
        appliance.start([])
        assert appliance.supervisor is not None
        await appliance.supervisor.settled()
        bench = Bench(appliance)
        await bench.invoke("setup.complete", admin="ada", password="correct horse")
        (base / "moods").mkdir()
        yield bench, base / "moods"
    finally:
        await appliance.stop()
        for node in nodes:
            node.die()
