"""Programs that make sound of text, and how they are run: one way, for the voice and for alerts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.core.printable import printable
from appliance.errors import AbsentError, VoiceError

LARGEST = 32 * 1024 * 1024
"""Bytes that a program may give."""
CHUNK = 64 * 1024
REAP_SECONDS = 2.0
"""So long a killed program is waited for."""
VOICE = re.compile(r"[^\W_][\w ()+./-]*")
"""Names of voices; none begins with what begins an option."""


class ProgramError(VoiceError):
    """A program did not do its part.

    Args:
        again: Another attempt may do better.
    """

    def __init__(self, message: str, next_step: str = "", *, again: bool = False) -> None:
        super().__init__(message, next_step)
        self.again = again


def espeak_command(voice: str = "", speed: int | None = None, environ: Mapping[str, str] | None = None) -> list[str]:
    """The command of espeak-ng that makes a WAV file of the text on its standard input.

    Args:
        voice: Such as "en-us"; empty for its own choice.
        speed: Words a minute; None for its own choice.
        environ: Where PATH is; None for our own.

    Raises:
        AbsentError: It is not installed, or the voice has no name that a voice can have.
    """
    path = _found("espeak-ng", environ, "apt install espeak-ng")
    if voice and not VOICE.fullmatch(voice):
        raise AbsentError(f"espeak-ng has no voice {printable(voice)!r}", "see `espeak-ng --voices`.")
    return [path, "--stdin", "--stdout", *(["-v", voice] if voice else []), *(["-s", str(speed)] if speed else [])]


def piper_command(voice: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The command of piper that makes a WAV file of the line on its standard input.

    Args:
        voice: Path of a voice, *.onnx.
        environ: Where PATH is; None for our own.

    Raises:
        AbsentError: It is not installed, or the voice is not there.
    """
    path = _found("piper", environ, "pip install piper-tts, and set voice to its .onnx file")
    if not Path(voice).is_file():
        raise AbsentError(f"the voice {voice!r} of piper is not there", "set voice to the path of its .onnx file.")
    return [path, "--model", voice, "--output_file", "-"]


def _found(program: str, environ: Mapping[str, str] | None, how: str) -> str:
    path = shutil.which(program, path=None if environ is None else environ.get("PATH", ""))
    if path is None:
        raise AbsentError(f"{program}, which speaks, is not installed", how)
    return path


async def output(
    command: Sequence[str], given: bytes, limit: float, *, environ: Mapping[str, str] | None = None, most: int = LARGEST
) -> bytes:
    """Run a program in a group of its own, which is killed where it takes too long, gives too much, or nobody waits any more.

    Args:
        command: The program and its arguments.
        given: Its standard input.
        limit: Seconds.
        environ: Its environment; None for our own.
        most: Bytes that it may give.

    Returns:
        Its standard output.

    Raises:
        ProgramError: It cannot be run, does not end in time, fails, or gives too much.
    """
    name = Path(command[0]).name
    try:
        process = await _begin(command, environ)
    except OSError as error:
        raise ProgramError(f"{name} cannot be run: {error.strerror}", "see its installation.", again=True) from None
    try:
        async with asyncio.timeout(limit):
            out, said = await _talk(process, given, most)
    except TimeoutError:
        raise ProgramError(f"{name} did not end in time", "see what else the machine does.", again=True) from None
    finally:
        await _end(process)
    if len(out) > most:
        raise ProgramError(f"{name} made too much sound", "say less at one time.")
    if process.returncode:
        told = " ".join(printable(said.decode(errors="replace"), keep="\n").split())
        raise ProgramError(f"{name} ended with {process.returncode}: {told}"[:200], "see its installation and its voice.")
    return out


async def _begin(command: Sequence[str], environ: Mapping[str, str] | None) -> asyncio.subprocess.Process:
    """Start it. Cancelled meanwhile, asyncio would kill it alone, and wait for whatever it has started. Raises OSError."""
    pipe = asyncio.subprocess.PIPE
    starting = asyncio.create_task(asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True,
        env=None if environ is None else dict(environ),
    ))  # fmt: skip
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise


async def _talk(process: asyncio.subprocess.Process, given: bytes, most: int) -> tuple[bytes, bytes]:
    """Give it all, and take what it gives until it ends, or until that is too much."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    feeding = asyncio.create_task(_feed(process.stdin, given))
    listening = asyncio.create_task(_drain(process.stderr))
    parts = bytearray()
    try:
        while len(parts) <= most and (part := await process.stdout.read(CHUNK)):
            parts += part
        if len(parts) > most:
            return bytes(parts), b""
        await feeding
        said = await listening
        await process.wait()
        return bytes(parts), said
    finally:
        for task in (feeding, listening):
            task.cancel()
        await asyncio.gather(feeding, listening, return_exceptions=True)


async def _feed(stdin: asyncio.StreamWriter, given: bytes) -> None:
    """Write it all; a program that has heard enough closes its end, and its status tells whether that was meant."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(given)
        await stdin.drain()
    stdin.close()


async def _drain(stream: asyncio.StreamReader) -> bytes:
    """The first of what comes; the rest is taken so that the program does not wait."""
    said = b""
    while part := await stream.read(CHUNK):
        said = (said + part)[:4096]
    return said


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it and what it started, and see it off: asyncio counts it as ended once its pipes are read to their ends."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # what it started holds its pipes
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(TimeoutError):  # what left its group may hold them for ever
        async with asyncio.timeout(REAP_SECONDS):
            await asyncio.gather(_drain(process.stdout), _drain(process.stderr))
            await process.wait()
