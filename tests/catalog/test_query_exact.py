"""Queries answer exactly what a look at every file would, however metadata is spread over directories and files."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.models import MetadataKey, MetadataType
from spinor.catalog.query import store
from spinor.catalog.query.models import FacetQuery
from spinor.catalog.service import querying
from spinor.db import Tx
from spinor.search import (
    And,
    Comparison,
    Expression,
    Like,
    Membership,
    Name,
    Not,
    Operator,
    Or,
    Presence,
    Search,
    Value,
)

from .workbench import World, register

DIRECTORIES = ["/astro/a", "/astro/a/b", "/astro/a/b/c", "/astro/a!", "/astro/d", "/astro/d/e"]
NAMES = ["x", "y", "z"]
FILES = [(directory, name) for directory in DIRECTORIES for name in NAMES]
TYPES = {"run": MetadataType.INTEGER, "site": MetadataType.TEXT, "flag": MetadataType.BOOLEAN}

# `run` may hold what was stored before it was declared; `other` is never declared.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "run": st.sampled_from([1, 2, 3, 2.5, "2"]),
    "site": st.sampled_from(["a", "b", "%", 5]),
    "flag": st.booleans(),
    "other": st.sampled_from([1, 2, 0.5]),
}
METADATA = st.fixed_dictionaries({}, optional=VALUES)


@st.composite
def terms(draw: st.DrawFn) -> Expression:
    key = Name(draw(st.sampled_from(["run", "run", "site", "flag", "other", "name", "path", "size", "owner", "se"])))
    written = {
        "run": st.sampled_from(["1", "2", "3", "4"]), "site": st.sampled_from(["a", "b", "%", "5"]),
        "flag": st.sampled_from(["true", "false"]), "other": st.sampled_from(["1", "0.5", "7"]),
        "name": st.sampled_from(NAMES), "path": st.sampled_from(DIRECTORIES), "size": st.sampled_from(["1", "2", "3"]),
        "owner": st.sampled_from(["ada", "alan", "bea"]), "se": st.sampled_from(["local-se", "second-se"]),
    }[key.text].map(Value)  # fmt: skip
    equal = [Operator.EQ, Operator.NE]
    order = [] if key.text in ("flag", "se") else [Operator.LT, Operator.LE, Operator.GT, Operator.GE]
    match draw(st.sampled_from(["=", "in", "exists", "like"])):
        case "in":
            return Membership(key, tuple(draw(st.lists(written, min_size=2, max_size=3))), draw(st.booleans()))
        case "exists":
            return Presence(key, draw(st.booleans()))
        case "like" if key.text in ("site", "name", "path", "owner"):
            return Like(key, Value(draw(st.sampled_from(["*a*", "?", "/astro/a*", "%"]))), draw(st.booleans()))
    return Comparison(key, draw(st.sampled_from(equal + order)), draw(written))


def _combined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return parts.map(And) | parts.map(Or) | inner.map(Not)


_SHALLOW = terms() | _combined(terms())
EXPRESSIONS = terms() | _combined(_SHALLOW)
TREES = st.fixed_dictionaries({}, optional=dict.fromkeys(["/astro", *DIRECTORIES], METADATA))
OWN = st.dictionaries(st.sampled_from(FILES), METADATA, max_size=6)


class Tree:
    """What the catalog should hold, and a look at each of its files."""

    def __init__(self, of_directories: dict[str, dict[str, Any]], of_files: dict[Any, dict[str, Any]]) -> None:
        self.of_directories, self.of_files = of_directories, of_files
        stored = [value for some in [*of_directories.values(), *of_files.values()] for value in some.items()]
        self.knows_other = any(key == "other" for key, _ in stored)

    def effective(self, directory: str) -> dict[str, Any]:
        parts = directory.split("/")
        above = ["/".join(parts[: n + 1]) for n in range(1, len(parts))]
        return {key: value for path in above for key, value in self.of_directories.get(path, {}).items()}

    def facts(self, directory: str, name: str) -> dict[str, Any]:
        n = FILES.index((directory, name))
        values = self.effective(directory) | self.of_files.get((directory, name), {})
        read: dict[str, Callable[[Any], Any]] = {
            "run": lambda v: v if isinstance(v, int) and not isinstance(v, bool) else None,
            "site": lambda v: v if isinstance(v, str) else None,
        }
        typed = {key: read[key](value) if key in read else value for key, value in values.items()}
        ses = {"local-se"} if n % 3 else {"local-se", "second-se"}
        return {
            **{key: value for key, value in typed.items() if value is not None},
            "path": directory, "name": name, "size": n % 4, "owner": "alan" if n % 5 == 0 else "ada", "se": ses,
        }  # fmt: skip

    def matching(self, expression: Expression, top: str) -> list[tuple[str, str]]:
        files = [(d, n) for d, n in FILES if d == top or d.startswith(f"{top}/")]
        return sorted(file for file in files if holds(expression, self.facts(*file)))


def holds(expression: Expression, facts: dict[str, Any]) -> bool:
    match expression:
        case Not(part):
            return not holds(part, facts)
        case And(parts):
            return all(holds(part, facts) for part in parts)
        case Or(parts):
            return any(holds(part, facts) for part in parts)
        case Presence(name, present):
            return (name.text in facts) == present
        case Membership(name, values, negated):
            found = any(compare(facts.get(name.text), "=", value.text) for value in values)
            return found != negated if name.text in facts else False
        case Like(name, pattern, negated):
            return like(facts[name.text], pattern.text) != negated if name.text in facts else False
        case Comparison(name, Operator.NE, value):
            return name.text in facts and not compare(facts[name.text], "=", value.text)
        case Comparison(name, operator, value):
            return compare(facts.get(name.text), operator, value.text)
    raise AssertionError(expression)


def compare(held: Any, operator: str, text: str) -> bool:
    if held is None:
        return False
    if isinstance(held, set):
        return any(compare(one, operator, text) for one in held)
    value: Any = text
    if isinstance(held, bool):
        value = text == "true"
    elif isinstance(held, int | float):
        value = float(text)
    results: dict[str, bool] = {
        "=": held == value, "<": held < value, "<=": held <= value, ">": held > value, ">=": held >= value,
    }  # fmt: skip
    return results[operator]


def like(held: str, pattern: str) -> bool:
    return {
        "*a*": "a" in held, "?": len(held) == 1, "/astro/a*": held.startswith("/astro/a"), "%": held == "%",
    }[pattern]  # fmt: skip


async def _fill(tx: Tx, tree: Tree) -> None:
    """Metadata goes in as it may be stored, also what the rules of today would refuse."""
    for directory in ["/astro", *DIRECTORIES]:
        own, effective = tree.of_directories.get(directory) or None, tree.effective(directory) or None
        await tx.execute(
            "UPDATE catalog.directory SET metadata = %s, effective = %s WHERE path = %s",
            [Jsonb(own) if own else None, Jsonb(effective) if effective else None, directory],
        )
    await tx.execute("UPDATE catalog.file SET metadata = NULL WHERE metadata IS NOT NULL")
    for (directory, name), values in tree.of_files.items():
        await tx.execute(
            "UPDATE catalog.file AS f SET metadata = NULLIF(%s::jsonb, '{}') FROM catalog.directory AS d"
            " WHERE d.directory_id = f.directory_id AND d.path = %s AND f.name = %s",
            [Jsonb(values), directory, name],
        )
    await tx.execute(
        "UPDATE catalog.directory AS d SET annotated_files ="
        " (SELECT count(f.metadata) FROM catalog.file AS f WHERE f.directory_id = d.directory_id)"
    )


async def _world(world: World) -> None:
    for n, (directory, name) in enumerate(FILES):
        lfn = f"{directory}/{name}"
        for se in ["local-se"] if n % 3 else ["local-se", "second-se"]:
            await register(world.db, world.ada, lfn, size_bytes=n % 4, se=se)
    async with world.db.transaction() as tx:
        alans = [f"{d}/{n}" for at, (d, n) in enumerate(FILES) if at % 5 == 0]
        await tx.execute(
            "UPDATE catalog.file AS f SET access_id = %s FROM catalog.directory AS d"
            " WHERE d.directory_id = f.directory_id AND d.path || '/' || f.name = ANY (%s)",
            [await _access_of_alan(tx, world), alans],
        )
        await service.declare_keys(tx, world.ada, [MetadataKey(name=name, type=kind) for name, kind in TYPES.items()])


async def _access_of_alan(tx: Tx, world: World) -> int:
    cursor = await tx.execute(
        "INSERT INTO catalog.access (vo_id, owner_id, group_id, mode) VALUES (%s, %s, %s, 384) RETURNING access_id",
        [world.alan.vo_id, world.alan.user_id, world.alan.group_id],
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _pages(tx: Tx, caller: Caller, top: str, where: str, limit: int, sort: list[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    after = None
    while True:
        search = Search(where=where, limit=limit, after=after, fields=["path", "name"], sort=sort)
        page = await service.find_files(tx, caller, top, search)
        assert len(page.rows) <= limit
        found += [(row["path"], row["name"]) for row in page.rows]
        if (after := page.next) is None:
            return found


@pytest.mark.parametrize("few", [20_000, 0], ids=["scan", "index"])
async def test_queries_are_exact(world: World, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    await _world(world)
    loop = asyncio.get_running_loop()
    if not few:
        # Every equality goes through the index over the metadata of files.
        async def one(*_: object) -> int:
            return 0

        monkeypatch.setattr(querying, "_FEW", 0)
        monkeypatch.setattr(store, "estimated_files", one)
    monkeypatch.setattr(querying, "_FIRST_DIRECTORIES", 1)

    @settings(
        max_examples=80, deadline=None, database=None, phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(TREES, OWN, EXPRESSIONS, st.sampled_from(["/astro", "/astro/a", "/astro/d/e"]), st.integers(1, 7))
    def check(of_directories: Any, of_files: Any, expression: Expression, top: str, limit: int) -> None:
        tree = Tree(of_directories, of_files)
        if not tree.knows_other and "other" in str(expression):
            return  # Nothing is stored under it, so it is no field.
        asyncio.run_coroutine_threadsafe(_check(world, tree, expression, top, limit), loop).result()

    await asyncio.to_thread(check)


async def _check(world: World, tree: Tree, expression: Expression, top: str, limit: int) -> None:
    async with world.db.transaction() as tx:
        await _fill(tx, tree)
        where = str(expression)
        everything = tree.matching(expression, top)
        for caller in (world.ada_admin, world.ada):
            mine = [f for f in everything if caller is world.ada_admin or tree.facts(*f)["owner"] == "ada"]
            assert await _pages(tx, caller, top, where, limit, []) == mine
            assert sorted(await _pages(tx, caller, top, where, limit, ["-size", "run"])) == mine
            counted = await service.count_files(tx, caller, top, where)
            facts = [tree.facts(*file) for file in mine]
            assert (counted.files, counted.size_bytes) == (len(mine), sum(fact["size"] for fact in facts))
            query = FacetQuery(path=top, where=where, keys=["run", "site", "owner", "se", "path"])
            for facet in await service.facets(tx, caller, query):
                values = [fact.get(facet.key) for fact in facts]
                flat = [one for value in values for one in (value if isinstance(value, set) else [value])]
                assert {v.value: v.files for v in facet.values} == dict(Counter(flat)), facet.key
