"""The action that writes an answer into a file of the appliance, for consoles that have no disk of their own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation
from appliance.core.analytics.model import Answer
from appliance.core.analytics.querying import Analytics
from appliance.core.catalog.analytics import Question, csv_text, query_of
from appliance.core.ports import Clock
from appliance.errors import ConflictError, DiskFullError, QueryError, StoreError

MOST = 500
"""Files that are kept; further ones are refused, none is removed by itself."""


class Saving(Question):
    """A question, and the file for its answer."""

    form: Literal["csv", "png"] = Field("csv", description="CSV (RFC 4180), or a picture")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Name of the file; its ending is added")


def export_actions(analytics: Analytics, local: Analytics, clock: Clock, directory: Path) -> list[Action]:
    """Save an answer.

    Args:
        analytics: The configured store.
        local: The embedded one.
        clock: Says what is now.
        directory: Where the files lie; made where it is missing.
    """

    async def save(_: Invocation, params: Saving) -> dict[str, Any]:
        answer = await (local if params.local else analytics).ask(query_of(params, clock.wall()), fresh=params.fresh)
        if answer.cut:
            raise QueryError(
                "There is more than one file may have.", "ask for a shorter range, wider buckets, or fewer devices."
            )
        path = directory / f"{params.name.removesuffix(f'.{params.form}')}.{params.form}"
        rows = sum(len(line.points) for line in answer.series)
        await asyncio.to_thread(_write, answer, params.form, path)
        return {"path": str(path), "rows": rows, "series": len(answer.series), "store": answer.store, "source": answer.source}

    return [
        Action("analytics.save", "Write an answer into a file on the appliance", save, params=Saving, positional=("metric",))
    ]


def _write(answer: Answer, form: str, path: Path) -> None:
    from appliance.core.analytics.picture import png_of

    content = png_of(answer) if form == "png" else csv_text(answer).encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sum(1 for _ in path.parent.iterdir()) >= MOST:
            raise StoreError(f"{path.parent} has {MOST} files already.", "remove some of them.")
        _write_new(content, path)
    except FileExistsError as error:
        raise ConflictError(f"There is a file {path} already; it stays as it is.", "give another name.") from error
    except OSError as error:
        kind = DiskFullError if error.errno in {errno.ENOSPC, errno.EDQUOT} else StoreError
        raise kind(f"{path} cannot be written: {error.strerror}.", "make room, or look at the directory's rights.") from error


def _write_new(content: bytes, path: Path) -> None:
    """A file that is there whole, or not at all. Raises FileExistsError, OSError."""
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
