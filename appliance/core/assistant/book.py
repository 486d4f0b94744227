"""The talks of every user: kept, listed, searched, forgotten. Each has bounds; what finds no room is counted."""

from __future__ import annotations

import asyncio

import msgspec

from appliance.core.assistant.model import History, Said, Talk, TalkHead
from appliance.core.assistant.shelf import Shelf, place
from appliance.errors import NotFoundError
from appliance.settingassistant import AssistantSettings

TALK_BYTES = 1024 * 1024
"""Of one talk's texts; the oldest messages go first."""
TITLE = 60
AROUND = 40
"""Characters before and after what was found."""


class TalkBook:
    """Keeps them.

    Args:
        shelf: Where.
        settings: Bounds.
    """

    def __init__(self, shelf: Shelf, settings: AssistantSettings) -> None:
        self._shelf = shelf
        self._settings = settings
        self._lock = asyncio.Lock()

    async def get(self, user: str, talk: str) -> Talk:
        """One talk. Raises NotFoundError, StoreError."""
        found = await self._shelf.get(place("talk", user, talk), Talk) if talk.replace("-", "").isalnum() else None
        if found is None:
            raise NotFoundError(f"There is no talk {talk!r}.", "list them with `prime-spark assistant history`.")
        return found

    async def newest(self, user: str) -> Talk | None:
        """The one that was last added to; None where there is none. Raises StoreError."""
        heads = (await self.history(user)).talks
        return await self.get(user, heads[0].talk) if heads else None

    async def put(self, talk: Talk) -> Talk:
        """Keep a talk, within its bounds, and let the oldest ones of its user go. Raises as Memory.set."""
        kept = bounded(talk, self._settings.messages)
        where = (kept.user, kept.talk)
        async with self._lock:
            await self._shelf.put({place("talk", *where): kept, place("head", *where): head_of(kept)})
            await self._trim(kept.user)
        return kept

    async def _trim(self, user: str) -> None:
        keys = await self._shelf.keys(place("head", user, ""))
        over = len(keys) - self._settings.talks
        if over <= 0:
            return
        heads, _ = await self._shelf.get_many(keys, TalkHead)
        oldest = sorted(heads.values(), key=lambda each: each.updated)[:over]
        dropped = await self._dropped(user)
        await self._shelf.put({place("dropped", user): dropped + len(oldest)})
        for each in oldest:
            await self._remove(user, each.talk)

    async def _dropped(self, user: str) -> int:
        return await self._shelf.get(place("dropped", user), int) or 0

    async def delete(self, user: str, talk: str) -> None:
        """Forget a talk with its picture, in every tier. Raises NotFoundError."""
        await self.get(user, talk)
        await self._remove(user, talk)

    async def forget_user(self, user: str) -> None:
        """Forget all talks of a user. Raises as Memory.delete."""
        for key in await self._shelf.keys(place("talk", user, "")):
            await self._remove(user, key.rpartition("/")[2])
        for key in await self._shelf.keys(place("head", user, "")):
            await self._shelf.remove(key)
        await self._shelf.remove(place("dropped", user))

    async def _remove(self, user: str, talk: str) -> None:
        await self._shelf.remove(place("talk", user, talk))
        await self._shelf.remove(place("picture", user, talk))
        await self._shelf.remove(place("head", user, talk))  # last: what is left by half is still listed

    async def keep_picture(self, user: str, talk: str, picture: bytes) -> None:
        """Keep the newest picture of a talk. Raises as Memory.set."""
        await self._shelf.put({place("picture", user, talk): picture})

    async def picture(self, user: str, talk: str) -> bytes | None:
        """The newest picture of a talk; None where it has none. Raises StoreError."""
        return await self._shelf.get(place("picture", user, talk), bytes)

    async def history(self, user: str, search: str = "") -> History:
        """The talks of a user, the newest first; those with all of the words in their title or texts. Raises StoreError."""
        keys = await self._shelf.keys(place("head", user, ""))
        heads, bad = await self._shelf.get_many(keys, TalkHead)
        found = list(heads.values())
        if words := search.lower().split():
            found = await self._search(user, found, words)
        found.sort(key=lambda each: (each.updated, each.talk), reverse=True)
        return History(tuple(found), self._settings.talks, await self._dropped(user), bad)

    async def _search(self, user: str, heads: list[TalkHead], words: list[str]) -> list[TalkHead]:
        talks, _ = await self._shelf.get_many([place("talk", user, each.talk) for each in heads], Talk)
        return await asyncio.to_thread(_matching, list(talks.values()), words)


def bounded(talk: Talk, most: int) -> Talk:
    """Without the oldest messages that find no room; how many went stands in `dropped`."""
    said = list(talk.said)
    size = sum(weight(each) for each in said)
    while len(said) > 2 and (len(said) > most or size > TALK_BYTES):
        size -= weight(said.pop(0))
    gone = len(talk.said) - len(said)
    return msgspec.structs.replace(talk, said=tuple(said), dropped=talk.dropped + gone) if gone else talk


def weight(said: Said) -> int:
    """Bytes, about."""
    return 2 * (len(said.text) + len(said.attached) + sum(len(call.told) for call in said.calls)) + 500


def head_of(talk: Talk) -> TalkHead:
    """What a list shows of it."""
    return TalkHead(
        talk=talk.talk, title=talk.title, agent=talk.agent, created=talk.created, updated=talk.updated,
        messages=len(talk.said) + talk.dropped, edge_only=talk.edge_only,
    )  # fmt: skip


def title_of(text: str) -> str:
    """A title for a talk that begins so."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE else f"{line[: TITLE - 1]}…"


def _matching(talks: list[Talk], words: list[str]) -> list[TalkHead]:
    found = []
    for talk in talks:
        texts = [talk.title, *(each.text for each in talk.said), *(each.attached for each in talk.said)]
        low = "\n".join(texts).lower()
        if all(word in low for word in words):
            found.append(msgspec.structs.replace(head_of(talk), found=_around(texts[1:] or texts, words[0])))
    return found


def _around(texts: list[str], word: str) -> str:
    for text in texts:
        at = text.lower().find(word)
        if at >= 0:
            part = text[max(0, at - AROUND) : at + len(word) + AROUND]
            return " ".join(part.split())
    return ""


def as_markdown(talk: Talk) -> str:
    """A whole talk as a Markdown document."""
    lines = [f"# {talk.title}", ""]
    if talk.dropped:
        lines += [f"*{talk.dropped} earlier messages were not kept.*", ""]
    for each in talk.said:
        lines += [f"## {talk.user if each.role == 'user' else talk.agent}", ""]
        lines += [f"*Attached: {each.picture}*", ""] if each.picture else []
        lines += [f"> {line}" for line in each.attached.splitlines()] + ([""] if each.attached else [])
        lines += [each.text, ""]
        lines += [f"- {call.name}: {call.outcome}" for call in each.calls] + ([""] if each.calls else [])
        lines += [f"*Sources: {', '.join(source.name for source in each.sources)}*", ""] if each.sources else []
        if each.way is not None:
            lines += [f"*{each.outcome} by {each.way.model} on {each.way.endpoint} ({each.way.place}): {each.way.why}*", ""]
        elif each.outcome:
            lines += [f"*{each.outcome}*", ""]
        lines += [f"*{note}*" for note in each.notes] + ([""] if each.notes else [])
    return "\n".join(lines)
