"""Pictures that requests bring: as the body or in a form, through the real model and the real way into its input."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio

from tests.api.rig import Api, serving
from tests.inference.registry_rig import SIDE, picture, write_model
from tests.support import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
PATH, READY = "/api/v1/inference", "/api/v1/preprocess"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """With inference, and a model that tells red from blue."""
    home: Path = tmp_path_factory.mktemp("pictures") / "home"
    home.mkdir(mode=0o700)
    given = write_model(home.parent / "given" / "colours")
    further = f'body_mib = 1\n[inference]\nmodel_dir = "{given.parent}"\nthreads = 1\n'
    async with serving(home, further, ("inference", "telemetry")) as api:
        yield api


async def test_a_picture_may_be_the_body_or_a_file_of_a_form(api: Api) -> None:
    async with api.client(await api.token("otto")) as client:
        raw = await client.post(f"{PATH}?model=colours", content=picture("blue"), headers={"Content-Type": "image/png"})
        assert raw.status_code == 200, raw.text
        assert {box["label"] for box in raw.json()["boxes"]} == {"blue"}
        files = {"file": ("../../etc/sh\x1b[2Jadow.png", picture("red", shade=3), "image/png")}
        form = await client.post(PATH, files=files, data={"model": "colours", "threshold": "0.4"})
        assert form.status_code == 200, form.text
        assert {box["label"] for box in form.json()["boxes"]} == {"red"}
        assert form.json()["source"].startswith("upload:")
        assert "/" not in form.json()["source"]
        assert "\x1b" not in form.json()["source"]
        assert api.appliance.domains is not None
        known = [each.result_id for each in api.appliance.domains.inference.recent()]
        assert known == [form.json()["result_id"], raw.json()["result_id"]]
    audited = await api.invoke("audit.list", limit=50)
    assert "inference.upload" in {row.action for row in audited}
    assert api.access.uploads._held == {}
    assert api.access.uploads._size == 0


async def test_a_picture_is_made_ready_as_the_model_gets_it(api: Api) -> None:
    async with api.client(await api.token("otto")) as client:
        kind = {"Content-Type": "application/octet-stream"}
        path = f"{READY}?model=colours&data=true"
        answer = await client.post(path, content=picture("red", size=64), headers=kind)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        (tensor,) = told["tensors"]
        assert (told["width"], told["height"], told["kind"], told["runs"]) == (64, 64, "onnx", 1)
        assert (tensor["shape"], tensor["dtype"]) == ([1, 3, SIDE, SIDE], "float32")
        values = np.frombuffer(base64.b64decode(tensor["data"]), "<f4").reshape(tensor["shape"])
        assert (values[0, 0] > 0.99).all()
        assert (values[0, 2] < 0.01).all()
        assert told["fit"]["scale"] == 0.5
        assert "data" not in (await client.post(READY, content=picture(), headers=kind)).json()["tensors"][0]


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        (PATH, b"GIF89a but no picture", "image/gif", 422), (PATH, b"", "image/png", 400), (READY, b"", "", 400),
        (READY, b"no picture", "text/plain", 422), (f"{PATH}?model=nobody", None, "image/png", 404),
        (f"{PATH}?threshold=7", None, "image/png", 422), (f"{PATH}?ticket=1&nonsense=2", None, "image/png", 422),
        (PATH, b"--x\r\n\r\n", "multipart/form-data", 400), (PATH, b"--x\r\nbroken", "multipart/form-data; boundary=x", 400),
        (PATH, FIELD, "multipart/form-data; boundary=x", 400),
        (PATH, b"{", "application/json", 400), (PATH, b"x" * (1 << 20) + b"y", "image/png", 413),
    ],
    ids=["no picture", "empty", "empty and no type", "text", "unknown model", "threshold", "unknown field", "no boundary",
         "broken form", "form without a file", "broken JSON", "too large"],
)  # fmt: skip
async def test_what_is_no_picture_is_refused_with_words(
    api: Api, path: str, body: bytes | None, kind: str, status: int
) -> None:
    async with api.client(await api.token("otto")) as client:
        answer = await client.post(path, content=picture() if body is None else body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["error"]["next_step"]


async def test_two_files_are_one_too_many_and_viewers_bring_none(api: Api) -> None:
    files = [("file", ("a.png", picture(), "image/png")), ("more", ("b.png", picture(), "image/png"))]
    async with api.client(await api.token("otto")) as client:
        assert (await client.post(PATH, files=files)).status_code == 400
        stolen = await client.post("/api/v1/actions/inference.upload", json={"args": {"ticket": "0" * 24}})
        assert stolen.status_code == 404
    async with api.client(await api.token("vera")) as client:
        for path in (PATH, READY):
            assert (await client.post(path, content=picture(), headers={"Content-Type": "image/png"})).status_code == 403


async def test_bodies_of_all_requests_together_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = api.access._app()
    while not hasattr(gate, "_in_hand"):
        gate = getattr(gate, "app", None) or gate._app
    assert gate._room >= gate._most
    monkeypatch.setattr("appliance.api.gate.LEAST_ROOM", 0)
    monkeypatch.setattr("appliance.api.gate.IN_HAND", 1)
    narrow = type(gate)(gate._app, gate._identify, gate._answers, gate._reads, gate._changes, gate._is_query, 1 << 20)
    token = await api.token("otto")
    transport = httpx.ASGITransport(narrow)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://a", headers={"Authorization": f"Bearer {token}"}
    ) as client:
        narrow._in_hand = (1 << 20) - 1000
        answer = await client.post("/api/v1/actions/alert.list", content=b" " * 2000 + b"{}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert narrow._in_hand == (1 << 20) - 1000, "what was refused is in nobody's hand"
        narrow._in_hand = 0
        assert (await client.post("/api/v1/actions/alert.list", content=b" " * 2000 + b"{}")).status_code == 200
        assert narrow._in_hand == 0


async def test_the_state_is_told_as_it_is_now(api: Api) -> None:
    async with api.client(await api.token("vera")) as client:
        first = (await client.get("/api/v1/state/inference")).json()

        async def newer() -> bool:
            return bool((await client.get("/api/v1/state/inference")).json()["value"] != first["value"])

        async with api.client(await api.token("otto")) as other:
            kind = {"Content-Type": "image/png"}
            assert (await other.post(PATH, content=picture("blue", shade=9), headers=kind)).status_code == 200
        await wait_for(newer)
