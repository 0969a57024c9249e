"""Counts of rows by the values of some fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from spinor.search.expression import BadQuery
from spinor.search.fields import Fields
from spinor.search.models import MAX_SORT

_COUNT = sql.SQL("count(*)")


@dataclass(frozen=True, slots=True)
class Summary:
    """The parts of `SELECT {select} FROM ... WHERE ... GROUP BY {group} ORDER BY {order}`; the largest count first."""

    select: sql.Composable
    group: sql.Composable
    order: sql.Composable
    names: tuple[str, ...]

    @property
    def parts(self) -> dict[str, sql.Composable]:
        """For `sql.SQL(query).format(**summary.parts, where=...)`."""
        return {"select": self.select, "group": self.group, "order": self.order}

    def groups(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """The rows by field name, with the number of rows of each group as `count`. Rows are tuples or dicts."""
        plain = (tuple(row.values()) if isinstance(row, Mapping) else tuple(row) for row in rows)
        return [dict(zip((*self.names, "count"), row, strict=True)) for row in plain]


def compile_summary(by: Sequence[str], fields: Fields, count: sql.Composable = _COUNT) -> Summary:
    """No field at all counts everything as one group. `count` says what to add up. Raises `BadQuery`."""
    names = tuple(dict.fromkeys(by))
    if len(names) > MAX_SORT:
        raise BadQuery(f"{len(names)} fields to count by; at most {MAX_SORT} are read", field="by")
    columns = [fields.summable(name).sql for name in names]
    named = [sql.SQL("{} AS {}").format(column, sql.Identifier(f"_f{n}")) for n, column in enumerate(columns)]
    joint = sql.SQL(", ")
    return Summary(
        select=joint.join([*named, sql.SQL("{} AS count").format(count)]),
        group=joint.join(columns) if columns else sql.SQL("()"),
        order=joint.join([sql.SQL("{} DESC").format(count), *columns]),
        names=names,
    )
