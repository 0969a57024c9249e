"""How a query is answered: which way is taken, which indexes help, and how many rows PostgreSQL expects."""

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from spinor.access import Caller
from spinor.catalog.query import store
from spinor.catalog.query.fields import FileFields, Level, named
from spinor.catalog.query.models import Explanation, Query, Step
from spinor.catalog.service.querying import Prepared, prepare, understood
from spinor.db import Tx

_FIRST = {"first": None, "name": "", "directories": 16}
_SHOWN = 200  # Characters of a condition.


async def explain(tx: Tx, caller: Caller, query: Query) -> Explanation:
    """Plans are made and not carried out. Raises BadQuery, UnknownDirectory."""
    prepared = await prepare(tx, caller, query.path, query.where)
    statement = prepared.statement
    asked = {
        "page": statement.written("page", select=sql.SQL("d.path, f.name"), limit=sql.SQL("101")),
        "count": statement.written("count"),
        "all": statement.written(
            "sorted", select=sql.SQL("d.path, f.name"), after=sql.SQL("TRUE"), order=sql.SQL("d.path, f.name"),
            limit=sql.SQL("NULL"),
        ),
    }  # fmt: skip
    plans = {name: await store.explain(tx, one, statement.all_values(**_FIRST)) for name, one in asked.items()}
    steps = {name: list(_steps(plan, 0)) for name, plan in plans.items()}
    every = [step for some in steps.values() for step in some]
    return Explanation(
        where=prepared.where,
        way=_way(prepared),
        indexes=sorted({step.index for step in every if step.index}),
        directories=_rows_of_directories(plans["count"]),
        files=int(plans["all"]["Plan Rows"]),
        plan=steps["page"],
    )


def _steps(plan: dict[str, Any], depth: int) -> Iterator[Step]:
    conditions = [plan[name] for name in ("Index Cond", "Recheck Cond", "Filter") if name in plan]
    yield Step(
        depth=depth,
        node=plan["Node Type"],
        relation=plan.get("Relation Name"),
        index=plan.get("Index Name"),
        condition=" and ".join(conditions)[:_SHOWN] or None,
        rows=int(plan["Plan Rows"]),
    )
    for below in plan.get("Plans", []):
        yield from _steps(below, depth + 1)


def _rows_of_directories(plan: dict[str, Any]) -> int:
    if plan.get("Subplan Name") == "CTE d":
        return int(plan["Plan Rows"])
    return max((_rows_of_directories(below) for below in plan.get("Plans", [])), default=0)


def _way(prepared: Prepared) -> list[str]:
    told, annotated = prepared.statement.conditions, prepared.annotated
    names = _names(prepared)
    way = []
    if Level.FILE not in told.levels:
        way.append(
            "Directories decide it: all files of a matching directory match, and are counted without a look at them "
            "unless something in the VO is closed to you."
        )
    elif told.levels == {Level.FILE}:
        way.append(f"Only files decide it ({names[Level.FILE]}): every file of the tree is looked at.")
    else:
        above = ", ".join(names[level] for level in (Level.DIRECTORY, Level.INHERITED) if level in names)
        way.append(
            f"Directories are asked first ({above}); where they leave it open, their files are looked at for "
            f"{names[Level.FILE]}."
        )
    if Level.INHERITED in told.levels:
        if not annotated:
            way.append("No file of the tree has metadata of its own, so directories answer for their files.")
        elif prepared.statement.look is None:
            way.append(
                f"{annotated:,} files of the tree have metadata of their own; the files of their directories are "
                "looked at one by one."
            )
        else:
            way.append(
                f"{annotated:,} files of the tree have metadata of their own; the index file_metadata finds those with "
                f"the wanted {prepared.statement.look.key}."
            )
    way.append("Pages go by directory and name, so the first one reads no further than it must.")
    return way


def _names(prepared: Prepared) -> dict[Level, str]:
    fields: FileFields = prepared.fields
    by_level: dict[Level, list[str]] = {}
    for name in sorted(named(understood(prepared.where))):
        by_level.setdefault(fields.level(fields.find(name)), []).append(name)
    return {level: ", ".join(some) for level, some in by_level.items()}
