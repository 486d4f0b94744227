"""The recognition model (Moonshine tiny): sound into features, and features into the likelihood of what may be written next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from appliance.core.voice.local.tokens import BEGIN, Tokens

LAYERS = 6
HEADS = 8
WIDTH = 36
"""Of a head."""
PARTS = ("key", "value")
LEAD = 0.5
"""Seconds of silence before: the model mishears what begins at once ("Mr." for "Restart")."""
TAIL = 0.3
"""Seconds of silence after."""
LOUDEST = 0.9
"""Share of full scale that the loudest sample is brought to; the model hears quiet speech less well."""
MOST_GAIN = 30.0
"""Hiss is not made into speech."""
SILENT = 0.003
"""Share of full scale; sound that is nowhere louder has no words."""
STRIDE = 384
"""Samples of a feature."""
SHORTEST = 4096
"""Samples that the encoder needs at the least."""

Array = Any
State = dict[str, Array]


class Heard(NamedTuple):
    """An utterance, encoded."""

    features: Array
    seconds: float


class Next(NamedTuple):
    """What may be written next, for each of some beginnings."""

    scores: Array
    """Log-probability of each piece; one row for each beginning."""
    state: State
    """The decoder's memory of what was written."""


class Model:
    """The model's two networks and its vocabulary.

    Args:
        directory: Where they lie.
        threads: Processor threads.

    Raises:
        OSError, ValueError: A file cannot be read, or is damaged; ONNX Runtime raises errors of its own.
    """

    def __init__(self, directory: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.tokens = Tokens(directory / "tokenizer.bin")
        self.between: Callable[[], None] = lambda: None
        """Called between two steps; what it raises ends the work."""
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(directory / name), options, providers=["CPUExecutionProvider"])
            for name in ("encoder_model.ort", "decoder_model_merged.ort")
        )
        self._own = [f"present.{layer}.decoder.{part}" for layer in range(LAYERS) for part in PARTS]
        self._heard = [f"present.{layer}.encoder.{part}" for layer in range(LAYERS) for part in PARTS]

    def encode(self, pcm: bytes) -> Heard:
        """Sound (mono, 16 bit, 16 kHz) as features."""
        sound = prepared(pcm)
        feeds = {"input_values": sound[None], "attention_mask": np.ones((1, sound.size), np.int64)}
        return Heard(self._encoder.run(None, feeds)[0], sound.size / 16000)

    def begin(self, heard: Heard, given: tuple[int, ...] = ()) -> Next:
        """What may be written first, or after what is given: one row for each of these pieces, the last one counts."""
        scores, state = self.forced(heard, [(BEGIN, *given)])
        return Next(scores[0], state)

    def forced(self, heard: Heard, texts: list[tuple[int, ...]]) -> tuple[Array, State]:
        """The scores after each piece of texts of equal length, and the memory after the last."""
        count, length = len(texts), heard.features.shape[1]
        empty = np.zeros((count, HEADS, 0, WIDTH), np.float32)
        feeds = {
            "encoder_attention_mask": _mask(count, length),
            "input_ids": np.array(texts, np.int64),
            "encoder_hidden_states": np.repeat(heard.features, count, 0),
            "use_cache_branch": np.array([False]),
        }
        feeds |= {_past(name): empty for name in (*self._own, *self._heard)}
        logits, *rest = self._decoder.run(["logits", *self._own, *self._heard], feeds)
        return likelihoods(logits), dict(zip((*self._own, *self._heard), rest, strict=True))

    def step(self, heard: Heard, state: State, rows: list[int], pieces: list[int]) -> Next:
        """Write one more piece after each of some beginnings.

        Args:
            heard: The utterance.
            state: As the last step gave it.
            rows: The row of it that each beginning has.
            pieces: What is written after each.
        """
        self.between()
        count, length = len(rows), heard.features.shape[1]
        feeds = {
            "encoder_attention_mask": _mask(count, length),
            "input_ids": np.array(pieces, np.int64)[:, None],
            "encoder_hidden_states": np.broadcast_to(heard.features, (count, *heard.features.shape[1:])),
            "use_cache_branch": np.array([True]),
        }
        same = {name: _rows(state[name], count) for name in self._heard}
        feeds |= {_past(name): value[:count] for name, value in same.items()}
        feeds |= {_past(name): state[name][rows] for name in self._own}
        logits, *rest = self._decoder.run(["logits", *self._own], feeds)
        return Next(likelihoods(logits[:, -1]), same | dict(zip(self._own, rest, strict=True)))


def _mask(count: int, length: int) -> Array:
    """All features count. The decoder takes every STRIDE-th of it, as if it were one of samples; up to STRIDE one is enough."""
    return np.ones((count, 1 if length <= STRIDE else (length - 1) * STRIDE + 1), np.int64)


def _past(name: str) -> str:
    return name.replace("present", "past_key_values")


def _rows(value: Array, count: int) -> Array:
    """The same row so many times at the least."""
    return value if len(value) >= count else np.repeat(value[:1], max(count, 2 * len(value)), 0)


def peak(pcm: bytes) -> float:
    """The loudest sample beside the mean, share of full scale; 0 where there is none."""
    sound = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32)
    return float(np.abs(sound - sound.mean()).max()) / 32768 if sound.size else 0.0


def prepared(pcm: bytes) -> Array:
    """Sound as the model likes it: centred, loud, with silence around it."""
    sound = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / 32768
    if sound.size:
        sound = sound - sound.mean()
        sound *= min(MOST_GAIN, LOUDEST / max(float(np.abs(sound).max()), 1e-6))
    lead, tail = (np.zeros(int(seconds * 16000), np.float32) for seconds in (LEAD, TAIL))
    sound = np.concatenate([lead, sound, tail])
    return np.pad(sound, (0, max(0, SHORTEST - sound.size)))


def likelihoods(logits: Array) -> Array:
    """Log-probabilities (natural logarithm)."""
    top = logits.max(-1, keepdims=True)
    return logits - (top + np.log(np.exp(logits - top).sum(-1, keepdims=True)))
