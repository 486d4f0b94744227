"""The recognition's process: `python -m appliance.core.voice.local.worker DIRECTORY THREADS`. It ends when its input does.

A thread reads the requests, so that a "stop" is seen, and the end of the appliance too, while another one is worked on.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from appliance.core.voice.local import cutting, decoding, files, wire
from appliance.core.voice.local.moonshine import SILENT, Model, peak
from appliance.core.voice.local.trie import Trie
from appliance.errors import ApplianceError

TRIES = 4
"""Sets of sentences that are kept."""
RESULTS = 8
"""Answers that are kept: the same sound asked again (after a pause that was the end) costs nothing."""

Message = dict[str, Any]


class Stopped(Exception):  # noqa: N818 it is no error
    """Nobody waits for the answer any more."""


class Requests:
    """What is asked; read by a thread."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._waiting: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._stopped: set[int] = set()
        self.current = 0
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def next(self) -> Message:
        """The next one that is still wanted."""
        while True:
            message = self._waiting.get()
            self.current = message["id"]
            if self.current not in self._stopped:
                return message
            self._stopped.discard(self.current)

    def check(self) -> None:
        """Raises Stopped."""
        if self.current in self._stopped:
            self._stopped.discard(self.current)
            raise Stopped

    def _read(self) -> None:
        while len(head := self._source.read(wire.LENGTH)) == wire.LENGTH:
            message = wire.unpack(self._source.read(int.from_bytes(head, "big")))
            if message["op"] == "stop":
                if message["target"] >= self.current:
                    self._stopped.add(message["target"])
            else:
                self._waiting.put(message)
        os._exit(0)


class Worker:
    """Answers requests with the model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tries: dict[str, Trie] = {}
        self._results: dict[bytes, Message] = {}

    def answer(self, message: Message) -> Message:
        """What goes back. Raises Stopped, and what ONNX Runtime raises."""
        began = time.monotonic()
        if message["op"] == "hear":
            if message["key"] and not self._knows(message):
                return {"error": "these sentences are not known here", "kind": wire.UNKNOWN}
            told = self._hear(message["pcm"], message["key"], message["said"])
        elif message["op"] == "spot":
            told = self._spot(message["pcm"], message["phrases"])
        else:
            told = {}
        return {"ok": {**told, "took_ms": 1000 * (time.monotonic() - began)}}

    def _knows(self, message: Message) -> bool:
        key = message["key"]
        if key not in self._tries and "texts" in message:
            self._tries[key] = Trie(message["texts"], message["before"], self._model.tokens.cut)
            while len(self._tries) > TRIES:
                del self._tries[next(iter(self._tries))]
        return key in self._tries

    def _hear(self, pcm: bytes, key: str, said: str) -> Message:
        pcm = cutting.trimmed(pcm)
        if peak(pcm) < SILENT:
            return {"text": "", "score": None, "guesses": []}
        known = hashlib.sha256(pcm + f"{key}/{said}".encode()).digest()
        if known in self._results:
            return {**self._results[known], "kept": True}
        told = self._results[known] = self._heard(pcm, key, said)
        while len(self._results) > RESULTS:
            del self._results[next(iter(self._results))]
        return told

    def _heard(self, pcm: bytes, key: str, said: str) -> Message:
        pieces = cutting.parts(pcm)
        trie = self._tries.get(key) if len(pieces) == 1 else None  # what is longer is no command
        texts, guesses = [], []
        given = decoding.named(self._model, said)
        for piece in pieces:
            heard = self._model.encode(piece)
            text, found = decoding.recognise(self._model, heard, trie, given)
            given = ()
            guesses = [(each.sentence, each.score) for each in found]
            if not decoding.phantom(text, found):
                texts.append(text)
        count = sum(text.pieces for text in texts)
        score = sum(text.score * text.pieces for text in texts) / count if count else None
        return {"text": " ".join(text.text for text in texts), "score": score, "guesses": guesses if texts else []}

    def _spot(self, pcm: bytes, phrases: list[str]) -> Message:
        if peak(pcm) < SILENT or not phrases:
            return {"scores": [None] * len(phrases)}
        return {"scores": decoding.begins(self._model, self._model.encode(pcm), phrases)}


def serve(directory: Path, threads: int, source: BinaryIO, target: BinaryIO) -> None:
    """Load the model, and answer until the input ends."""

    def tell(message: Message) -> None:
        target.write(wire.pack(message))
        target.flush()

    requests = Requests(source)
    began = time.monotonic()
    try:
        files.check(directory)
        model = Model(directory, threads)
    except ApplianceError as error:
        tell({"id": 0, "error": error.message, "step": error.next_step, "kind": wire.DAMAGED})
        return
    model.between = requests.check
    worker = Worker(model)
    tell({"id": 0, "ok": {"took_ms": 1000 * (time.monotonic() - began)}})
    while True:
        message = requests.next()
        try:
            told = worker.answer(message)
        except Stopped:
            told = {"error": "nobody waits for it", "kind": wire.STOPPED}
        except Exception as error:  # noqa: BLE001 ONNX Runtime's errors have no common class; the appliance tells and counts it
            told = {"error": f"{type(error).__name__}: {error}"[:300], "kind": wire.FAILED}
        tell({"id": message["id"], **told})


def main() -> None:
    """Keep standard output for the answers: what libraries print goes to standard error."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer, target)


if __name__ == "__main__":
    main()
