"""`prime-spark voice …`: what has more to it on the command line than its action, and the voice's answers as text."""

from __future__ import annotations

import base64
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from appliance.core.actions import ActionInfo
from appliance.core.printable import printable
from appliance.errors import ApplianceError, InvalidArgumentsError
from appliance.verbs import voice_text as text
from appliance.verbs.client import Client
from appliance.verbs.context import Context, json_option, pass_context
from appliance.verbs.forms import Command

EVERY = 0.2
"""Seconds between two looks at what is heard."""
LARGEST = 64 * 1024 * 1024
"""Bytes of a recording that is sent to the appliance."""


def nest(group: click.Group, actions: Mapping[str, ActionInfo], client: Client) -> None:
    """Own verbs in the place of the actions', as far as the asker may use these.

    Args:
        group: `voice`, as it is made from the actions.
        actions: These, by name.
        client: Of whoever asks.
    """
    for action, commands in OWN.items():
        if action not in actions or not client.may(actions[action]):
            continue
        for command in commands:
            if not (client.local and command is transcribe):  # no file of ours is opened for somebody far away
                group.add_command(command)


@click.command("listen", cls=Command)
@click.option("--seconds", type=click.FloatRange(1, 60), default=None, help="How long it waits for speech.")
@json_option
@pass_context
def listen(context: Context, seconds: float | None, as_json: bool) -> None:
    """Listen at once, as if its name had been said; tells what is heard, and what came of it.

    Ctrl-C cancels. Needs the role operator.
    """
    args: dict[str, Any] = {} if seconds is None else {"seconds": seconds}
    plain = context.client.local or as_json
    heard = context.client.invoke("voice.listen", args) if plain else _follow(context, args)
    if as_json:
        context.json(heard)
    else:
        context.say("\n".join(text.utterance(heard)))


class _Call(threading.Thread):
    """One invocation, beside whoever looks on."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.result: Any = None
        self.error: ApplianceError | None = None

    def run(self) -> None:
        """Carry it out."""
        try:
            self.result = self._call()
        except ApplianceError as error:
            self.error = error


def _follow(context: Context, args: dict[str, Any]) -> Any:
    call = _Call(lambda: context.client.invoke("voice.listen", args))
    call.start()
    told = ""
    try:
        while True:
            call.join(EVERY)
            if not call.is_alive():
                break
            now = text.stage(context.client.invoke("voice.status", {}))
            if now != told:
                context.say(printable(now))
                told = now
    except KeyboardInterrupt:
        context.client.invoke("voice.cancel", {})
        raise
    if call.error is not None:
        raise call.error
    return call.result


@click.command("transcribe", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@pass_context
def transcribe(context: Context, file: Path, as_json: bool) -> None:
    """Turn a recording into words; nothing is done by them.

    FILE is sent to the appliance that runs. Needs the role operator.
    """
    try:
        if file.stat().st_size > LARGEST:
            raise InvalidArgumentsError(
                f"{file} has more than {LARGEST // 2**20} MiB.", "cut it: an utterance lasts a few seconds."
            )
        body = file.read_bytes()
    except OSError as error:
        raise click.FileError(str(file), error.strerror or str(error)) from error
    if not body:
        raise InvalidArgumentsError(f"{file} is empty.", "give a recording as WAV, FLAC, MP3, Ogg or M4A.")
    found = context.client.invoke("voice.transcribe", {"data": base64.b64encode(body).decode()})
    if as_json:
        context.json(found)
    else:
        context.say("\n".join(text.transcript(found)))


@click.command("say", cls=Command)
@click.argument("words", metavar="TEXT")
@json_option
@pass_context
def say(context: Context, words: str, as_json: bool) -> None:
    """Say a text aloud; "-" reads it from standard input.

    Needs the role operator.
    """
    if words == "-":
        words = context.read_line() if context.client.local else sys.stdin.read()
    if not words.strip():
        raise InvalidArgumentsError("There is nothing to say.", "give a text, or - and the text on standard input.")
    done = context.client.invoke("voice.say", {"text": " ".join(words.split())})
    if as_json:
        context.json(done)
    else:
        context.say(text.said(done))


@click.command("mute", cls=Command)
@json_option
@pass_context
def mute(context: Context, as_json: bool) -> None:
    """Let the microphone give nothing any more; it holds for later starts too. Needs the role operator."""
    _mute(context, True, as_json)


@click.command("unmute", cls=Command)
@json_option
@pass_context
def unmute(context: Context, as_json: bool) -> None:
    """Let the microphone hear again. Needs the role operator."""
    _mute(context, False, as_json)


def _mute(context: Context, muted: bool, as_json: bool) -> None:
    done = context.client.invoke("voice.mute", {"muted": muted})
    if as_json:
        context.json(done)
    else:
        context.say("the microphone is muted" if muted else "the microphone is open")


OWN: Mapping[str, tuple[click.Command, ...]] = MappingProxyType({
    "voice.listen": (listen,), "voice.transcribe": (transcribe,), "voice.say": (say,), "voice.mute": (mute, unmute),
})  # fmt: skip
"""Action → what stands for it here."""
