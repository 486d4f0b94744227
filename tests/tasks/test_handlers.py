"""What a worker does: programs, calls, files, values; and what it refuses."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from appliance.core.tasks.handlers.command import OUTPUT, CommandHandler
from appliance.core.tasks.handlers.execution import ExecutionHandler
from appliance.core.tasks.handlers.recall import MemoryHandler
from appliance.core.tasks.handlers.transfer import TransferHandler
from appliance.core.tasks.handlers.web import HttpHandler, check_host
from appliance.core.tasks.wire import Order
from appliance.errors import ApplianceError, InvalidArgumentsError, NotAuthorizedError, NotFoundError, TaskError
from appliance.settingtasks import CommandTask
from tests.support import wait_for

ORDER = Order(
    task_id="t", type="x", priority=2, payload=None, attempt=1, worker="w", session="s", lease=1, lease_s=9, beat=1, limit_s=9
)


@contextmanager
def served(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A web server on loopback; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_GET  # noqa: N815 as the library calls it

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def say(status: int, body: bytes, length: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if size := int(request.headers.get("Content-Length", 0)):
            request.rfile.read(size)
        request.send_response(status)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body)

    return answer


def program(*arguments: str, extra: int = 0, limit: float = 30.0, pattern: str = "[a-z]+") -> CommandHandler:
    allowed = CommandTask(program=Path(sys.executable), arguments=arguments, extra=extra, pattern=pattern, limit_seconds=limit)
    return CommandHandler({"it": allowed})


async def run_command(handler: CommandHandler, *arguments: str) -> Any:
    return await handler.run({"command": "it", "arguments": list(arguments)}, ORDER)


async def test_an_allowed_program_runs_with_its_own_arguments_and_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    code = "import os, sys; print(sys.argv[1:], 'KAFKA_PASSWORD' in os.environ)"
    handler = program("-c", code, "fixed;ls", extra=2)
    told = await run_command(handler, "abc")
    assert told == {"exit_status": 0, "stdout": "['fixed;ls', 'abc'] False\n", "stderr": "", "left_out_bytes": 0}


@pytest.mark.parametrize("arguments", [("a", "b"), ("A",), ("-x",), ("a;b",), ("a\n",), ("a\0",), ("",)])
async def test_arguments_that_are_not_allowed_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgumentsError):
        await run_command(program("-c", "", extra=1), *arguments)


async def test_what_is_not_allowed_is_refused_and_what_is_not_there_told() -> None:
    with pytest.raises(NotAuthorizedError, match="'other' is allowed") as told:
        await program().run({"command": "other"}, ORDER)
    assert told.value.next_step == "allowed are: it."
    with pytest.raises(InvalidArgumentsError, match="does not fit command"):
        await program().run({"command": "it", "shell": True}, ORDER)
    assert not CommandHandler({}).available()
    gone = CommandHandler({"it": CommandTask(program=Path("/not/there"))})
    with pytest.raises(TaskError, match="cannot be run") as missing:
        await run_command(gone)
    assert missing.value.final


async def test_a_program_that_fails_or_says_too_much() -> None:
    with pytest.raises(TaskError, match="ended with 3: no such disk"):
        await run_command(program("-c", "import sys; print('no such disk', file=sys.stderr); sys.exit(3)"))
    told = await run_command(program("-c", f"print('x' * {3 * OUTPUT})"))
    assert (len(told["stdout"]), told["left_out_bytes"]) == (OUTPUT, 2 * OUTPUT + 1)


async def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}} {{os.fork()}}\\n')\n"
        "time.sleep(600)"
    )
    with pytest.raises(TaskError, match=r"longer than 0\.8 s"):
        await run_command(program("-c", code, limit=0.8))
    pids = [int(each) for each in (tmp_path / "pids").read_text().split() if int(each)]
    assert len(set(pids)) >= 2
    await wait_for(lambda: not any(_lives(pid) for pid in pids), 5.0)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_cancelled_program_is_ended(tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    work = asyncio.create_task(run_command(program("-c", code)))
    pid = int(await wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    work.cancel()
    await asyncio.wait({work})
    await wait_for(lambda: not _lives(pid))


async def test_a_call_brings_its_answer() -> None:
    with served(say(200, b"fine")) as url:
        handler = HttpHandler(["127.0.0.1"])
        told = await handler.run({"url": f"{url}/x", "method": "POST", "json": {"a": 1}}, ORDER)
        assert (told["status"], told["body"], told["left_out_bytes"]) == (200, "fine", 0)


@pytest.mark.parametrize(("status", "final"), [(404, True), (503, False), (429, False), (302, True)])
async def test_an_answer_that_is_no_success_fails_the_task(status: int, final: bool) -> None:
    with served(say(status, b"no")) as url:
        with pytest.raises(TaskError, match=f"answered with {status}: no") as told:
            await HttpHandler(["127.0.0.1"]).run({"url": url}, ORDER)
        assert told.value.final is final
        wanted = await HttpHandler(["127.0.0.1"]).run({"url": url, "expect": [status]}, ORDER)
        assert wanted["status"] == status


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://nas/x", True), ("http://nas:8080/", False), ("http://box:8080", True), ("http://box", False),
        ("https://a.example.org", True), ("http://example.org", False), ("http://evil.org", False),
        ("http://nas.evil.org", False), ("file:///etc/passwd", False), ("http://user:secret@nas", False),
        ("http://[::1]", True),
    ],
)  # fmt: skip
def test_only_named_hosts_are_called(url: str, allowed: bool) -> None:
    hosts = ["nas:80", "box:8080", "*.example.org", "::1"]
    if allowed:
        check_host(url, hosts)
    else:
        with pytest.raises((NotAuthorizedError, InvalidArgumentsError)):
            check_host(url, hosts)


async def test_an_answer_in_an_encoding_that_nobody_knows_is_an_answer() -> None:
    def odd(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/plain; charset=klingon")
        request.send_header("Content-Length", "4")
        request.end_headers()
        request.wfile.write(b"fine")

    with served(odd) as url:
        assert (await HttpHandler(["127.0.0.1"]).run({"url": url}, ORDER))["body"] == "fine"


@pytest.mark.parametrize(
    "more", [{"headers": {"x": "ä"}}, {"headers": {"x": "a\nb"}}, {"headers": {"a b": "c"}}, {"json": 1, "body": "x"}]
)
async def test_a_request_that_nobody_can_send_is_not_tried_again(more: dict[str, Any]) -> None:
    with served(say(200, b"fine")) as url, pytest.raises(InvalidArgumentsError):
        await HttpHandler(["127.0.0.1"]).run({"url": url, "method": "POST", **more}, ORDER)


async def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentsError, match="no address"):
        await files(tmp_path).run({"source": "http://127.0.0.1/\x7f", "target": str(tmp_path / "a")}, ORDER)


async def test_what_a_killed_worker_left_beside_a_target_goes(tmp_path: Path) -> None:
    kept = [".b.0123abcd.part", ".a.notes.part", ".a.0123abce.part"]
    for name in (".a.0123abcd.part", *kept):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / kept[2]).touch()  # somebody else works on it now
    (tmp_path / "source").write_text("x")
    await files(tmp_path).run({"source": str(tmp_path / "source"), "target": str(tmp_path / "a")}, ORDER)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([*kept, "a", "source"])


async def test_a_host_that_is_not_there_is_told() -> None:
    with pytest.raises(TaskError, match="failed") as told:
        await HttpHandler(["127.0.0.1"]).run({"url": "http://127.0.0.1:9/"}, ORDER)
    assert not told.value.final


def files(folder: Path, **more: Any) -> TransferHandler:
    return TransferHandler([folder], ["127.0.0.1"], 1000, **more)


async def test_files_come_whole_or_not_at_all(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"data").hexdigest()
    with served(say(200, b"data")) as url:
        wanted = {"source": url, "target": str(tmp_path / "sub" / "file")}
        (tmp_path / "sub").mkdir()
        told = await files(tmp_path).run({**wanted, "sha256": digest}, ORDER)
        assert told == {"bytes": 4, "sha256": digest, "target": wanted["target"]}
        assert (tmp_path / "sub" / "file").read_bytes() == b"data"
        with pytest.raises(TaskError, match="not the expected one"):
            await files(tmp_path).run({**wanted, "sha256": "0" * 64}, ORDER)
    with served(say(200, b"cut", length=100)) as url, pytest.raises(TaskError, match="broke off"):
        await files(tmp_path).run({**wanted, "source": url}, ORDER)
    with served(say(200, b"x" * 1001)) as url, pytest.raises(TaskError, match="larger than"):
        await files(tmp_path).run({**wanted, "source": url}, ORDER)
    with served(say(404, b"")) as url, pytest.raises(TaskError, match="404"):
        await files(tmp_path).run({**wanted, "source": url}, ORDER)
    assert [each.name for each in (tmp_path / "sub").iterdir()] == ["file"]
    assert (tmp_path / "sub" / "file").read_bytes() == b"data"


async def test_files_stay_in_their_directories(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "a").write_text("a")
    (outside / "secret").write_text("s")
    handler = files(inside)
    for source, target in (
        (inside / "a", outside / "b"), (inside / "a", inside / ".." / "out" / "b"), (inside / "a", inside / "link" / "b"),
        (outside / "secret", inside / "b"), (inside / "link" / "secret", inside / "b"),
    ):  # fmt: skip
        with pytest.raises(NotAuthorizedError, match="may not use"):
            await handler.run({"source": str(source), "target": str(target)}, ORDER)
    for source, target in (
        ("a", inside / "b"),
        ("ftp://x", inside / "b"),
        (inside / "a", "relative"),
        ("s3://b/k", inside / "b"),
    ):
        with pytest.raises(InvalidArgumentsError):
            await handler.run({"source": str(source), "target": str(target)}, ORDER)
    await handler.run({"source": str(inside / "a"), "target": str(inside / "b")}, ORDER)
    assert (inside / "b").read_text() == "a"
    assert sorted(os.listdir(outside)) == ["secret"]


async def test_values_of_the_memory_become_files(tmp_path: Path) -> None:
    async def remember(key: str, namespace: str) -> Any:
        return {("notes", "a"): "text", ("notes", "b"): b"bytes", ("notes", "c"): [1]}.get((namespace, key))

    handler = files(tmp_path, remember=remember)
    for key, expected in (("a", b"text"), ("b", b"bytes")):
        await handler.run({"source": f"memory:notes/{key}", "target": str(tmp_path / key)}, ORDER)
        assert (tmp_path / key).read_bytes() == expected
    with pytest.raises(NotFoundError):
        await handler.run({"source": "memory:notes/x", "target": str(tmp_path / "x")}, ORDER)
    with pytest.raises(TaskError, match="neither text nor bytes"):
        await handler.run({"source": "memory:notes/c", "target": str(tmp_path / "c")}, ORDER)


async def test_plain_types_under_one_name() -> None:
    execution = ExecutionHandler({"command": program("-c", "print(1)"), "http": HttpHandler([])})
    assert (await execution.run({"do": "command", "command": "it"}, ORDER))["stdout"] == "1\n"
    for payload in ({"do": "http", "url": "http://x"}, {"do": "sing"}, {}, None):
        with pytest.raises(InvalidArgumentsError, match="names no task") as told:
            await execution.run(payload, ORDER)
        assert told.value.next_step == "it does: command."


@pytest.mark.parametrize("payload", [None, {}, {"do": "sing"}, {"do": "get"}, {"do": "get", "key": 1}, [1], "x"])
async def test_payloads_that_do_not_fit_are_told(payload: Any) -> None:
    with pytest.raises(ApplianceError) as told:
        await MemoryHandler(None).run(payload, ORDER)  # type: ignore[arg-type]
    assert isinstance(told.value, InvalidArgumentsError)
    assert told.value.next_step
