"""Takes away the state of rules that were removed or changed: their changelog topics, and their directories here.

Only what is known to be over goes: stores of a rule that the rules' topic says is removed, or has in another form. A store of a
rule that nobody has told of stays, lest a lost rules' topic take the state with it; so does that of a disabled rule.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from appliance.core.figures import counted

log = logging.getLogger(__name__)

ANSWER = 10.0
"""Seconds for a question to a broker."""
STORE = re.compile(r"^(?P<rule>[a-z0-9][a-z0-9-]*)-(?P<form>[0-9a-f]{10})_(?:tumbling|hopping|sliding|session)_window_")


def is_over(store: str, forms: Mapping[str, str | None]) -> bool:
    """Whether nobody will want a store any more.

    Args:
        store: Its name, as windows_topology gives it.
        forms: Fingerprint of each rule that is known, None for a removed one.
    """
    found = STORE.match(store)
    return found is not None and found["rule"] in forms and forms[found["rule"]] != found["form"]


def sweep(client: Mapping[str, Any], group: str, state: Path, forms: Mapping[str, str | None], *, topics: bool) -> list[str]:
    """Take away what is over; returns the names of the stores.

    Args:
        client: Of librdkafka: where the brokers are, and how to log in.
        group: Whose state it is.
        state: Where the directories are.
        forms: As in is_over.
        topics: Whether topics may be deleted.

    Raises:
        KafkaException: No broker answers, or it refuses.
        OSError: A directory cannot be taken away.
    """
    found = _delete_topics(client, f"changelog__{group}--{group}.events--", forms) if topics else []
    own = state / group
    directories = [each for each in own.iterdir() if is_over(each.name, forms)] if own.is_dir() else []
    for each in directories:
        shutil.rmtree(each)
    over = sorted({*found, *(each.name for each in directories)})
    if over:
        log.info("the state of %s taken away: %s", counted(len(over), "old store"), ", ".join(over))
    return over


def _delete_topics(client: Mapping[str, Any], prefix: str, forms: Mapping[str, str | None]) -> list[str]:
    admin = AdminClient(dict(client))
    there: Collection[str] = admin.list_topics(timeout=ANSWER).topics
    over = [name for name in there if name.startswith(prefix) and is_over(name.removeprefix(prefix), forms)]
    for future in (admin.delete_topics(over, request_timeout=ANSWER) if over else {}).values():
        try:
            future.result(ANSWER)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # another instance was first
                raise
    return [name.removeprefix(prefix) for name in over]
