"""What librdkafka and quixstreams say while a broker is away: many lines a second of the same kind, of which one is enough."""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable

RECONNECT = {"reconnect.backoff.ms": 250, "reconnect.backoff.max.ms": 2000}
"""Of librdkafka, whose own are 100 ms and 10 s."""
EVERY = 30.0
"""Seconds in which a line is told once."""
KINDS = 200
"""Kinds of lines that are remembered."""
LIBRARY = ("quixstreams.kafka.consumer", "quixstreams.kafka.producer", "quixstreams.models.topics.admin")
"""The library's loggers that librdkafka writes to."""
_numbers = re.compile(r"\d+")


class Once(logging.Filter):
    """Lets a line pass once in EVERY seconds, with how many like it were held back; numbers in it make no difference.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it."""
        text = record.getMessage()
        kind, now = _numbers.sub("#", text), self._clock()
        since, held = self._told.get(kind, (now - EVERY, 0))
        if now - since < EVERY:
            self._told[kind] = (since, held + 1)
            return False
        self._told[kind] = (now, 0)
        self._told.move_to_end(kind)
        while len(self._told) > KINDS:
            self._told.popitem(last=False)
        if held:
            record.msg, record.args = f"{text} ({held} more like it)", None
        return True


def quiet(logger: logging.Logger) -> logging.Logger:
    """The logger, with the filter where it had none."""
    if not any(isinstance(each, Once) for each in logger.filters):
        logger.addFilter(Once())
    return logger


def quiet_library() -> None:
    """Put the filter on the library's loggers."""
    for name in LIBRARY:
        quiet(logging.getLogger(name))


def in_words(error: BaseException) -> str:
    """What an error of librdkafka, or of the library about one, says in words."""
    cause = error.args[0] if error.args else error
    for words in (getattr(error, "description", None), getattr(cause, "str", None)):
        if words is not None:
            return str(words() if callable(words) else words)
    return str(error) or type(error).__name__
