"""The embedded analytics store, on DuckDB. One connection, used by one thread at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.events import Event, HostMetrics, InferenceCompleted, rfc3339
from appliance.core.model import InferenceResult
from appliance.errors import DiskFullError, QueryError, StoreError

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

FORMAT = "v2.0.0"
"""Of the file; the former version of the program must be able to read it, so it may follow a newer DuckDB one release late."""
MEMORY = "96MB"
"""That DuckDB may have for its pages and questions."""
GREATEST = 1e150
"""Values from here on, either way, are not kept: no sum or square of those below leaves a float. The sink does the same."""
UNFIT = (ValueError, OverflowError, OSError, TypeError)
"""Of a time that no calendar has, or a text that is none (a lone surrogate)."""
SPILL = "256MB"
"""That its questions may put on the disk beside it, where the memory does not do."""
FREED = "512KB"
"""How much its threads may free before it goes back to the system."""
ROLLUPS = {"device_metrics_minute": ("minute", 90), "device_metrics_hourly": ("hour", 365)}
"""Roll-up table → (bucket, days kept)."""
KEPT: dict[str, tuple[str, int]] = {
    "device_metrics": ("time", 0),
    **{table: ("bucket", days) for table, (_, days) in ROLLUPS.items()},
    "ai_inference_results": ("time", 90),
    "analytics_events": ("time", 30),
}
"""Table → (its time, days kept; 0 for what the settings say)."""
DAY = 86400
DAY_US = DAY * 1_000_000


class RejectedError(StoreError):
    """The rows do not fit their table; trying them again changes nothing."""


class DuckStore:
    """Metrics with roll-ups, inference results and events, in one file. All methods block.

    Args:
        path: The database file.
        device_id: What rows carry as device.
    """

    def __init__(self, path: Path, device_id: str) -> None:
        self.path = path
        self._device_id = device_id
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._reading = threading.Lock()
        self._reader: duckdb.DuckDBPyConnection | None = None
        self._read_for: threading.Event | None = None

    def open(self) -> None:
        """Open the file, creating the tables where missing.

        Raises:
            StoreError: It is not a database of ours, or another process has it.
        """
        import duckdb

        self.path.parent.mkdir(parents=True, exist_ok=True)
        limits: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY, "storage_compatibility_version": FORMAT, "threads": "1",
            "TimeZone": "UTC",
            "preserve_insertion_order": "false",
            "max_temp_directory_size": SPILL,
            "allocator_flush_threshold": FREED,
            "allocator_bulk_deallocation_flush_threshold": FREED,
        }  # fmt: skip
        limits |= {"autoinstall_known_extensions": "false", "temp_directory": str(self.path.with_suffix(".tmp"))}
        try:
            self._connection = duckdb.connect(str(self.path), config=limits)
            self._connection.execute(resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8"))
            self._reader = self._connection.cursor()
        except duckdb.Error as error:
            raise self._explain(error) from error
        self.path.chmod(0o600)

    def close(self) -> None:
        """End what is being read, write the log into the file and close it."""
        if self._read_for is not None:
            self.interrupt(self._read_for)
        with self._lock, self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def copy_to(self, path: Path) -> None:
        """Write all of it, as it is at one moment, into a new file. Raises StoreError."""
        import duckdb

        quoted = str(path).replace("'", "''")
        with self._lock:
            if self._connection is None:
                raise StoreError("The analytics store is not open.", "see `prime-spark services`.")
            own = self._connection.execute("SELECT current_database()").fetchone()
            try:
                self._connection.execute(f"ATTACH '{quoted}' AS copied")
                try:
                    self._connection.execute(f'COPY FROM DATABASE "{own[0] if own else ""}" TO copied')
                finally:
                    self._connection.execute("DETACH copied")
            except duckdb.Error as error:
                raise self._explain(error) from error

    def add_metrics(self, events: Sequence[HostMetrics]) -> int:
        """Add readings and their share of the roll-ups, in one transaction; returns the number of samples.

        Raises:
            RejectedError: One of them cannot be stored: none is.
            StoreError: The store fails, or is not open.
        """
        rows: list[tuple[Any, ...]] = []
        for event in events:
            try:
                moment, tags = datetime.fromtimestamp(event.time, UTC), msgspec.json.encode(event.tags).decode()
            except UNFIT as error:
                raise _unfit(event, error) from error
            for name, value in event.metrics.items():
                rows.append((moment, self._device_id, name, value, tags, event.id))
        return self.add_readings(rows)

    def add_readings(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """Add readings of any device, and their share of the roll-ups, in one transaction.

        Args:
            rows: (time with zone, device, metric, value, tags as JSON, event id). What is no number, or from GREATEST on, is
                left out: one such value would make every sum that it is part of unusable.

        Returns:
            How many were added.
        """
        usable = [row for row in rows if abs(row[3]) < GREATEST]  # NaN is not
        if len(usable) < len(rows):
            odd = next(row for row in rows if not abs(row[3]) < GREATEST)
            left_out = len(rows) - len(usable)
            log.warning("%d readings are no numbers to reckon with and not kept, such as %r of %s", left_out, odd[2], odd[1])
        if usable:
            columns = [list(column) for column in zip(*usable, strict=True)]
            self._transact([(INSERT_METRICS, columns), *self._rollup_work(columns)])
        return len(usable)

    def _rollup_work(self, columns: list[list[Any]]) -> list[tuple[str, list[Any]]]:
        work = []
        for table, (bucket, _) in ROLLUPS.items():
            work.append((ADD_ROLLUP.format(table=table, bucket=bucket), columns[:4]))
        return work

    def add_events(self, journal: str, events: Sequence[tuple[int, Event]]) -> None:
        """Take events over from a journal, with the cursor, in one transaction: each is stored once, whatever happens."""
        known = {row[0] for row in self.query(KNOWN, [[event.id for _, event in events]])}
        work = [self._event_row(event) for _, event in events if event.id not in known]
        seq, last = events[-1]
        work.append((SET_CURSOR, [journal, seq, last.id]))
        self._transact(work)

    def _event_row(self, event: Event) -> tuple[str, list[Any]]:
        try:
            body, at = msgspec.json.encode(event.data()).decode(), rfc3339(event.time)
        except UNFIT as error:
            raise _unfit(event, error) from error
        if isinstance(event, InferenceCompleted):
            row = [at, self._device_id, event.model, event.inference_time_ms, body, None, event.id]
            return INSERT_RESULT, row
        return INSERT_EVENT, [at, event.type, self._device_id, body, event.id]

    def cursor(self, journal: str) -> tuple[int, str]:
        """Number and id of the last event taken over from a journal; 0 and nothing before the first."""
        rows = self.query("SELECT seq, coalesce(event_id, '') FROM cursors WHERE journal = ?", [journal])
        return (int(rows[0][0]), str(rows[0][1])) if rows else (0, "")

    def results(self, limit: int = 50) -> list[InferenceResult]:
        """The newest inference results, newest first."""
        found = [_result(*row) for row in self.query(f"{RESULTS} ORDER BY time DESC, event_id DESC LIMIT ?", [limit])]
        return [result for result in found if result is not None]

    def result(self, result_id: str) -> InferenceResult | None:
        """One inference result; None where it is not kept (any more), or the id is none."""
        try:
            rows = self.query(f"{RESULTS} WHERE event_id = ?::UUID", [result_id])
        except RejectedError:
            return None
        return _result(*rows[0]) if rows else None

    def trend(self, metric: str, since: float, until: float, table: str = "device_metrics_minute") -> list[tuple[float, float]]:
        """(bucket start, average) of one metric of this device, oldest first; times in seconds since the epoch."""
        if table not in ROLLUPS:
            raise StoreError(f"There is no roll-up called {table}.", f"use one of {', '.join(ROLLUPS)}.")
        sql = f"SELECT epoch(bucket), sum_value / count FROM {table} WHERE device_id = ? AND metric_name = ? "  # noqa: S608
        rows = self.query(
            sql + "AND bucket BETWEEN ? AND ? ORDER BY 1", [self._device_id, metric, rfc3339(since), rfc3339(until)]
        )
        return [(float(bucket), float(value)) for bucket, value in rows]

    def recent(self, metrics: Sequence[str], since: float, until: float, limit: int) -> list[tuple[str, float, float]]:
        """(metric, time, value) of the newest readings between two moments, `limit` in all, oldest first."""
        return self.query(RECENT, [self._device_id, rfc3339(since), rfc3339(until), list(metrics), limit])

    def stretch(self, until: float, gap: float) -> tuple[float | None, float | None]:
        """The newest stretch of readings up to a moment without a pause longer than `gap` seconds.

        Returns:
            When it began (None where no pause is before it), and its newest reading (None where there is none): seconds
            since the epoch, the beginning to the hour.
        """
        newest = self.query("SELECT epoch(max(time)) FROM device_metrics WHERE time <= ?", [rfc3339(until)])[0][0]
        began = self.query(PAUSES, [rfc3339(until), gap])
        return began[0][0] if began else None, newest

    def metrics(self) -> list[str]:
        """Names of all metrics that were ever kept and still are."""
        return [row[0] for row in self.query("SELECT DISTINCT metric_name FROM device_metrics_hourly ORDER BY 1", [])]

    def prune(self, keep_days: int, now: float) -> None:
        """Delete what is older than its time, a day at a time: all of a long pause at once does not fit into the memory.

        What is deleted stays deleted where a later day fails, and the next call goes on from there.

        Raises:
            StoreError: Not even one day can be deleted.
        """
        for table, (column, days) in KEPT.items():
            bound = round((now - (days or keep_days) * DAY) * 1e6)
            oldest = f"SELECT epoch_us(min({column})) FROM {table}"  # noqa: S608
            delete = f"DELETE FROM {table} WHERE {column} < make_timestamptz(?::BIGINT)"  # noqa: S608
            while (begin := self.query(oldest, [])[0][0]) is not None and begin < bound:
                self._transact([(delete, [min(bound, (begin // DAY_US + 1) * DAY_US)])])

    def query(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        """Rows of one statement. Raises StoreError."""
        import duckdb

        with self._lock:
            try:
                return self._open().execute(sql, parameters).fetchall()
            except duckdb.Error as error:
                raise self._explain(error) from error

    def read(self, sql: str, parameters: list[Any], stop: threading.Event) -> list[tuple[Any, ...]]:
        """Rows of one question, on a connection of its own: what is written meanwhile does not wait.

        Args:
            sql: One statement that changes nothing.
            parameters: Of it.
            stop: What `interrupt` is given to end it; set before it begins, it does not begin.

        Raises:
            QueryError: It takes more memory than the store may have.
            StoreError: The store fails, is not open, or the question was ended.
        """
        import duckdb

        with self._reading:
            self._read_for = stop
            try:
                if self._reader is None or stop.is_set():
                    raise StoreError("The analytics store is not open.", "see Services for why.")
                return self._reader.execute(sql, parameters).fetchall()
            except duckdb.OutOfMemoryException as error:
                raise QueryError(
                    f"That takes more than the {MEMORY}, and {SPILL} of the disk, that the embedded store may have.",
                    "ask for a shorter range.",
                ) from error
            except duckdb.OutOfRangeException as error:
                raise QueryError(
                    f"A number is too large: {str(error).splitlines()[0]}", "ask for min, max or count."
                ) from error
            except duckdb.Error as error:
                raise self._explain(error) from error
            finally:
                self._read_for = None

    def interrupt(self, stop: threading.Event) -> bool:
        """End the question that was begun with this event; from any thread.

        Returns:
            Whether it may still go on, as DuckDB forgets an interrupt that comes just before it begins: call it again then.
        """
        stop.set()
        reader = self._reader
        if self._read_for is not stop or reader is None:
            return False
        reader.interrupt()
        return True

    def _transact(self, work: Sequence[tuple[str, list[Any]]]) -> None:
        import duckdb

        with self._lock:
            connection = self._open()
            try:
                connection.begin()
                for sql, parameters in work:
                    connection.execute(sql, parameters)
                connection.commit()
            except duckdb.Error as error:
                self._roll_back(connection)
                raise self._explain(error) from error

    def _roll_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        import duckdb

        try:
            connection.rollback()
        except duckdb.Error as error:  # no transaction is open any more: the failure had ended it
            log.debug("rollback: %s", error)

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            raise StoreError("The analytics store is not open.", "see Services for why.")
        return self._connection

    def _explain(self, error: Exception) -> StoreError:
        import duckdb

        text = str(error).splitlines()[0]
        if isinstance(error, duckdb.DataError | duckdb.IntegrityError | duckdb.InvalidInputException):
            return RejectedError(f"The analytics store does not take it: {text}", "see the log.")
        if "No space left" in text or "could not write" in text.lower():
            return DiskFullError(
                f"No room to write {self.path.name}: {text}", f"free space on the file system of {self.path.parent}."
            )
        if "Conflicting lock" in text or "Could not set lock" in text:
            return StoreError(
                f"{self.path.name} is open in another process.", "stop the other appliance that uses this directory."
            )
        return StoreError(f"The analytics store failed: {text}", f"if it stays, move {self.path} away; a new one is made.")


def _unfit(event: Event, error: Exception) -> RejectedError:
    return RejectedError(f"The event {event.id} cannot be stored: {type(error).__name__}: {error}", "see the log.")


def _result(time: float, id_: str, body: str) -> InferenceResult | None:
    """A stored result; None of one that cannot be read."""
    try:
        return msgspec.convert({**msgspec.json.decode(body), "time": time, "id": id_}, InferenceCompleted).to_result()
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        log.warning("the stored result %s cannot be read: %s: %s", id_, type(error).__name__, error)
        return None


RECENT = (
    "SELECT * FROM (SELECT metric_name, epoch(time) t, value FROM device_metrics WHERE device_id = ? "
    "AND time BETWEEN ? AND ? AND list_contains(?, metric_name) ORDER BY time DESC LIMIT ?) ORDER BY t"
)
PAUSES = (
    "SELECT epoch(bucket) FROM (SELECT bucket, lag(bucket) OVER (ORDER BY bucket) AS before FROM "
    "(SELECT DISTINCT bucket FROM device_metrics_hourly WHERE bucket <= ?)) WHERE epoch(bucket) - epoch(before) > ? "
    "ORDER BY bucket DESC LIMIT 1"
)
"""Ends of pauses in the readings, the last one first."""
RESULTS = "SELECT epoch(time), event_id::VARCHAR, result FROM ai_inference_results"
INSERT_RESULT = (
    "INSERT INTO ai_inference_results (time, device_id, model_name, inference_time_ms, result, accuracy, event_id) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
INSERT_EVENT = "INSERT INTO analytics_events (time, event_type, device_id, event_data, event_id) VALUES (?, ?, ?, ?, ?)"
INSERT_METRICS = (
    "INSERT INTO device_metrics (time, device_id, metric_name, value, tags, event_id) SELECT "
    "unnest($1::TIMESTAMPTZ[]), unnest($2::VARCHAR[]), unnest($3::VARCHAR[]), unnest($4::DOUBLE[]), "
    "unnest($5::VARCHAR[])::JSON, unnest($6::VARCHAR[])::UUID"
)
ADD_ROLLUP = (
    "INSERT INTO {table} (bucket, device_id, metric_name, sum_value, min_value, max_value, count) "
    "SELECT date_trunc('{bucket}', t), d, m, sum(v), min(v), max(v), count(*) FROM (SELECT "
    "unnest($1::TIMESTAMPTZ[]) t, unnest($2::VARCHAR[]) d, unnest($3::VARCHAR[]) m, unnest($4::DOUBLE[]) v) GROUP BY ALL "
    "ON CONFLICT (bucket, device_id, metric_name) DO UPDATE SET sum_value = sum_value + excluded.sum_value, "
    "min_value = least(min_value, excluded.min_value), max_value = greatest(max_value, excluded.max_value), "
    "count = count + excluded.count"
)
SET_CURSOR = (
    "INSERT INTO cursors (journal, seq, event_id) VALUES (?, ?, ?) "
    "ON CONFLICT (journal) DO UPDATE SET seq = excluded.seq, event_id = excluded.event_id"
)
KNOWN = (
    "SELECT event_id::VARCHAR FROM (SELECT event_id FROM analytics_events UNION ALL SELECT event_id FROM ai_inference_results) "
    "WHERE event_id IN (SELECT unnest($1::UUID[]))"
)
"""Which of these events are kept already."""
