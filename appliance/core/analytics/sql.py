"""A query as one SQL statement. Names of tables and columns are ours; all that somebody asked for is a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from appliance.core.analytics.asking import DEVICE, TAG, Asked
from appliance.core.analytics.buckets import Bucket
from appliance.core.analytics.model import Aggregation
from appliance.core.analytics.plan import Level, Part
from appliance.core.analytics.shape import limit

A = Aggregation
OUTER: dict[Aggregation, tuple[str, ...]] = {
    A.sum: ("sum(x)",), A.avg: ("sum(x)", "sum(n)"), A.min: ("min(x)",), A.max: ("max(x)",), A.count: ("sum(n)",),
    A.stddev: ("stddev_samp(x)",), A.variance: ("var_samp(x)",),
}  # fmt: skip
"""What is made of the pieces of a bucket, one number each."""


class Dialect(Protocol):
    """Where the stores differ."""

    listed: str
    """The aggregate that makes a list."""

    def start(self, column: str, bucket: Bucket) -> str:
        """Start of the bucket that a time lies in."""

    def seconds(self, start: str) -> str:
        """A start as seconds since the epoch."""

    def time(self, number: int) -> str:
        """The parameter of that number, given in microseconds, as a time."""

    def moment(self, micros: int) -> Any:
        """Such a parameter's value."""

    def label(self, column: str) -> str:
        """A text that sorts by its bytes, empty where there is none."""

    def tag(self, number: int) -> str:
        """The tag that the parameter of that number names."""

    def tag_name(self, name: str) -> str:
        """Such a parameter's value."""

    def among(self, column: str, number: int) -> str:
        """The column is one of the parameter's texts."""

    def rolled_sum(self) -> str:
        """The sum of a roll-up's row."""

    def percentile(self, number: int) -> str:
        """The continuous percentile of x; the parameter is a share of one."""


class Statement:
    """One query in the making.

    Args:
        asked: The query.
        dialect: Of the store.
    """

    def __init__(self, asked: Asked, dialect: Dialect) -> None:
        self._asked = asked
        self._dialect = dialect
        self.parameters: list[Any] = []

    def _add(self, value: Any) -> int:
        """Remember a parameter; returns its number."""
        self.parameters.append(value)
        return len(self.parameters)

    def text(self, parts: Sequence[Part]) -> str:
        """The statement, for these pieces of the range. Each row is a series: labels, list of starts, list of each number."""
        query, say = self._asked.query, self._dialect
        labels = [f"l{index}" for index in range(len(query.group_by))]
        keys = ", ".join([*labels, "b"])
        pieces = " UNION ALL ".join(self._piece(part) for part in parts)
        outer = OUTER.get(query.aggregation) or (say.percentile(self._add(query.percentile / 100)),)
        values = ", ".join(f"CAST({each} AS double precision) AS v{index}" for index, each in enumerate(outer))
        lists = ", ".join(f"{say.listed}(v{index})" for index in range(len(outer)))
        heads = "".join(f"{label}, " for label in labels)
        end = f" GROUP BY {', '.join(labels)} ORDER BY {', '.join(labels)}" if labels else ""
        # one series alone is short enough by its range, and its points are sorted later
        bound = f" ORDER BY {keys} LIMIT {limit(self._asked)}" if labels else ""
        return (
            f"SELECT {heads}{say.listed}({say.seconds('b')}), {lists} FROM (SELECT {keys}, {values} FROM ({pieces}) AS pieces "  # noqa: S608
            f"GROUP BY {keys}{bound}) AS lines{end}"
        )

    def as_they_are(self, part: Part, most: int) -> str:
        """The rows of one table, of which each is in one bucket, not put together: one row of lists, of `most` rows at most.

        Label by label, then starts, values and counts.
        """
        say = self._dialect
        heads = "".join(f"{say.listed}(l{index}), " for index in range(len(self._asked.query.group_by)))
        lists = f"{say.listed}({say.seconds('b')}), {say.listed}(CAST(x AS double precision)), {say.listed}(n)"
        return f"SELECT {heads}{lists} FROM ({self._piece(part)} LIMIT {most}) AS pieces"  # noqa: S608

    def _piece(self, part: Part) -> str:
        """One SELECT over one table: labels, start of the bucket, x (the value, or a sum, least or greatest) and n."""
        say, level = self._dialect, part.level
        column = "bucket" if level.width else "time"
        labels = [self._label(by, index) for index, by in enumerate(self._asked.query.group_by)]
        same = level.width and level.width == self._asked.bucket.seconds
        start = column if same else say.start(column, self._asked.bucket)
        fields = ", ".join([*labels, f"{start} AS b", f"{self._value(level)} AS x", f"{'count' if level.width else '1'} AS n"])
        return f"SELECT {fields} FROM {level.table} WHERE {self._where(part, column)}"  # noqa: S608

    def _label(self, by: str, index: int) -> str:
        say = self._dialect
        column = DEVICE if by == DEVICE else say.tag(self._add(say.tag_name(by.removeprefix(TAG))))
        return f"{say.label(column)} AS l{index}"

    def _value(self, level: Level) -> str:
        if not level.width:
            return "value"
        names = {A.min: "min_value", A.max: "max_value", A.count: "count"}
        return names.get(self._asked.query.aggregation, self._dialect.rolled_sum())

    def _where(self, part: Part, column: str) -> str:
        query, say = self._asked.query, self._dialect
        found = [f"metric_name = ${self._add(query.metric)}"]
        found.append(f"{column} >= {say.time(self._add(say.moment(part.since)))}")
        found.append(f"{column} < {say.time(self._add(say.moment(part.until)))}")
        if query.devices:
            found.append(say.among(DEVICE, self._add(list(query.devices))))
        for name, value in query.tags.items():
            found.append(f"{say.tag(self._add(say.tag_name(name)))} = ${self._add(value)}")
        return " AND ".join(found)


def counting(level: Level, dialect: Dialect) -> str:
    """How many readings of a metric ($1) a table knows of between two moments ($2, $3)."""
    column, count = ("bucket", "coalesce(sum(count), 0)") if level.width else ("time", "count(*)")
    span = f"{column} >= {dialect.time(2)} AND {column} < {dialect.time(3)}"
    return f"SELECT CAST({count} AS bigint) FROM {level.table} WHERE metric_name = $1 AND {span}"  # noqa: S608
