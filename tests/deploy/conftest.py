"""Three nodes and deployments over them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from appliance.core.fleet.keys import OwnKey
from appliance.core.secrets import Secrets
from tests.deploy.rig import NodeRig, Rig, make_base, needs


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[dict[str, NodeRig], OwnKey]]:
    needs()
    base = make_base()
    own = OwnKey(Secrets(base / "own", {}), "prime-spark@test")
    made = {name: NodeRig(name, base, own.public() + "\n") for name in ("alpha", "beta", "gamma")}
    try:
        for node in made.values():
            node.start()
        yield made, own
    finally:
        for node in made.values():
            node.die()
        shutil.rmtree(base)


@pytest.fixture
async def rig(nodes: tuple[dict[str, NodeRig], OwnKey]) -> AsyncIterator[Rig]:
    made, own = nodes
    base = make_base()
    found = Rig(base, made, own)
    await found.start()
    yield found
    await found.stop()
    for node in made.values():
        node.recover()
        node.end_services()
    shutil.rmtree(base)
