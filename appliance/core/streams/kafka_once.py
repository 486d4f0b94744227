"""One message through a producer of its own: where it fails, nothing is left behind that would bring it later.

The link's own producer keeps what was not answered and repeats it when the broker is back. A command must not be sent so: who
was told that it failed would not expect it minutes later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from appliance.core.observe.origins import present_headers
from appliance.core.streams.model import Message
from appliance.errors import LinkDownError, StreamError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer


class OnceProducer(Protocol):
    """Brings a message now, or not at all."""

    async def send_once(self, message: Message) -> None:
        """Send one message.

        Raises:
            LinkDownError: It was not sent.
            UnansweredError: It was sent, and no answer came: it may have been stored.
            StreamError: The broker refuses it.
        """


class UnansweredError(LinkDownError):
    """A message went out, and nobody knows what became of it."""


async def send(producer: AIOKafkaProducer, message: Message) -> None:
    """Send through a producer that is ended by the caller, whatever comes.

    Args:
        producer: One that is started, and carries nothing else.
        message: The message.

    Raises:
        LinkDownError: It was not sent.
        UnansweredError: It was sent, and no answer came.
        StreamError: The broker refuses it.
    """
    from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, RequestTimedOutError

    try:
        future = await producer.send(message.topic, message.value, key=message.key, headers=present_headers())
    except (KafkaError, OSError, TimeoutError) as error:
        told = f"The message was not sent to {message.topic}: {type(error).__name__}: {error}."
        raise LinkDownError(told, "see whether the topic is there, and look at streams status.") from error
    try:
        await future
    except (KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError, OSError, TimeoutError) as error:
        raise UnansweredError(f"The broker gave no answer ({type(error).__name__}).", "look at streams status.") from error
    except KafkaError as error:
        raise StreamError(f"The broker refuses it: {type(error).__name__}: {error}.", "see the broker's log.") from error
