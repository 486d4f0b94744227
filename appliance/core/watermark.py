"""The audit's high-water mark: a small file beside the key that says how far the log had come.

The seal inside the database tells that rows were altered or cut off, but whoever empties the tables takes the seal along,
or puts an older copy of the whole file back. This mark lies outside the database and is written after each commit, so it is
never ahead of the log; a log that ends before it has lost rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appliance.core.secrets import write_private
from appliance.errors import AuditChainError

log = logging.getLogger(__name__)


class Watermark:
    """The number of the newest row, sealed with the audit's key.

    Args:
        path: The file; None keeps the mark in memory only, which tells of losses while this object lives.
        key: The audit's key.
    """

    def __init__(self, path: Path | None, key: bytes) -> None:
        self._path = path
        self._key = key
        self._seq: int | None = None
        self._kept = 0
        self._failed = False
        self._writer: ThreadPoolExecutor | None = None
        self.problem = ""
        """Why the file cannot be believed; it is left as it is then."""

    def seq(self) -> int:
        """The newest row's number as far as this is known; 0 for a new log. The first call reads the file."""
        if self._seq is None:
            try:
                self._seq = self._kept = self._read()
            except AuditChainError as error:
                self._seq, self.problem = 0, error.message
        return self._seq

    def advance(self, seq: int) -> None:
        """Take note that the row `seq` is on disk; the file follows in a thread of its own.

        A mark that cannot be written is logged, and tried again with the next row.
        """
        self._seq = max(self.seq(), seq)
        if self._path is None or self.problem:
            return
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, "audit-mark")
        self._writer.submit(self._follow, self._path)

    def _follow(self, path: Path) -> None:
        newest = self.seq()
        if self._kept >= newest:  # an earlier call wrote for this one too
            return
        try:
            self._write(path, newest)
        except OSError as error:
            if not self._failed:
                log.error("the audit's mark %s cannot be written: %s", path, error.strerror)
            self._failed = True
        else:
            self._kept, self._failed = newest, False

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            text = self._path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise AuditChainError(f"the audit's mark {self._path} cannot be read: {error.strerror}") from error
        number, _, mac = text.strip().partition(" ")
        if not number.isdecimal() or not hmac.compare_digest(mac.encode(), self._mac(int(number)).encode()):
            raise AuditChainError(f"the audit's mark {self._path} was altered, or belongs to another key")
        return int(number)

    def _write(self, path: Path, seq: int) -> None:
        """Overwrite in place: always the same few bytes, so that a cut of the power leaves the old or the new ones."""
        line = f"{seq:020d} {self._mac(seq)}\n".encode()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(descriptor, line, 0)
            finally:
                os.close(descriptor)
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, line)

    def _mac(self, seq: int) -> str:
        return hmac.new(self._key, f"mark {seq}".encode(), hashlib.sha256).hexdigest()
