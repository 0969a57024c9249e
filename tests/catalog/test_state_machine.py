"""Random operations against a model of a tree: the catalog agrees, and every counter equals a recount."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from spinor.access import Caller
from spinor.app import CONSTRAINT_ERRORS
from spinor.catalog import service
from spinor.catalog.models import BatchRequest, Move, RemoveRequest
from spinor.db import Database
from spinor.errors import SpinorError
from spinor.search import Search
from spinor.types import SEName

from .test_batches import body, row
from .workbench import World, check_sums, new_file

DIRECTORIES = ["/astro", "/astro/a", "/astro/a/b", "/astro/c"]
NAMES = ["a", "b", "c", "x"]
SES = ["local-se", "second-se"]
directories = st.sampled_from(DIRECTORIES)
names = st.sampled_from(NAMES)
ses = st.sampled_from(SES)
sizes = st.sampled_from([0, 1, 2**40])


EMPTY = """
    TRUNCATE catalog.directory, catalog.file, catalog.directory_location, catalog.directory_usage, catalog.removal,
             catalog.change CASCADE
"""


class CatalogMachine(RuleBasedStateMachine):
    """`files` is what must be there: LFN -> (size, storage elements); `directories` likewise."""

    db: Database
    ada: Caller
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, tuple[int, frozenset[str]]] = {}
        self.directories: set[str] = set()
        self.run(self._empty())

    async def _empty(self) -> None:
        async with self.db.transaction() as tx:
            await tx.execute(EMPTY)

    def run(self, verb: Any) -> Any:
        return self.loop.run_until_complete(verb)

    def tried(self, verb: Any) -> bool:
        """Whether `verb(tx)` was carried out."""

        async def attempt() -> bool:
            try:
                async with self.db.transaction() as tx:
                    await verb(tx)
            except SpinorError:
                return False
            return True

        return bool(self.run(attempt()))

    def with_parents(self, path: str) -> set[str]:
        parts = path.split("/")
        return {"/".join(parts[: n + 1]) for n in range(1, len(parts))}

    def can_hold(self, directory: str) -> bool:
        return not self.with_parents(directory) & self.files.keys()

    @rule(directory=directories, name=names, se=ses, size=sizes)
    def register(self, directory: str, name: str, se: str, size: int) -> None:
        lfn = f"{directory}/{name}"
        done = self.tried(
            lambda tx: service.register_files(tx, self.ada, [new_file(lfn, se=se, size_bytes=size, pfn=f"{se}{lfn}")])
        )
        known = self.files.get(lfn)
        expected = self.can_hold(directory) and lfn not in self.directories and (known is None or known[0] == size)
        assert done == expected
        if done:
            self.files[lfn] = (size, (known[1] if known else frozenset()) | {se})
            self.directories |= self.with_parents(directory)

    @rule(
        directory=directories, entries=st.lists(st.tuples(st.sampled_from(["", "a", "b"]), names), max_size=5), se=ses
    )
    def register_batch(self, directory: str, entries: list[tuple[str, str]], se: str) -> None:
        entries = list(dict.fromkeys(entries))
        request = BatchRequest(directory=directory, se=SEName(se), prefix=f"tree{directory}")

        async def verb(tx: Any) -> None:
            batch = await service.read_batch(self.ada, request, body([row(path, name, 1) for path, name in entries]))
            await service.register_batch(tx, self.ada, request, batch)

        assert self.tried(verb)
        places = [(f"{directory}/{path}" if path else directory, name) for path, name in entries]
        fitting = [place for place in places if self.can_hold(place[0])]
        for place, _ in fitting:
            self.directories |= self.with_parents(place)
        for place, name in fitting:
            lfn = f"{place}/{name}"
            size, there = self.files.get(lfn, (1, frozenset()))
            if lfn not in self.directories and size == 1:
                self.files[lfn] = (1, there | {se})

    @rule(directory=directories, name=names, recursive=st.booleans())
    def remove(self, directory: str, name: str, recursive: bool) -> None:
        path = f"{directory}/{name}"
        request = RemoveRequest(paths=[path], recursive=recursive)

        async def verb() -> bool:
            async with self.db.transaction() as tx:
                outcome = await service.remove_files(tx, self.ada, request)
                await tx.execute("DELETE FROM catalog.removal")
                return bool(outcome.done)

        is_tree = path in self.directories
        assert self.run(verb()) == (path in self.files or (recursive and is_tree))
        if is_tree and recursive:
            self.directories = {d for d in self.directories if not f"{d}/".startswith(f"{path}/")}
            self.files = {lfn: facts for lfn, facts in self.files.items() if not lfn.startswith(f"{path}/")}
        self.files.pop(path, None)

    @rule(source=st.tuples(directories, names), goal=st.tuples(directories, names))
    def move(self, source: tuple[str, str], goal: tuple[str, str]) -> None:
        old, new = "/".join(source), "/".join(goal)
        done = self.tried(lambda tx: service.move(tx, self.ada, [Move(source=old, target=new)]))
        into = f"{new}/{source[1]}" if new in self.directories else new
        assert done == (
            (old in self.files or old in self.directories)
            and into not in self.files
            and into not in self.directories
            and into.rpartition("/")[0] in self.directories
            and not f"{into}/".startswith(f"{old}/")
        )
        if done:
            self.files = {self._moved(lfn, old, into): facts for lfn, facts in self.files.items()}
            self.directories = {self._moved(directory, old, into) for directory in self.directories}

    def _moved(self, path: str, old: str, new: str) -> str:
        return new + path[len(old) :] if f"{path}/".startswith(f"{old}/") else path

    @invariant()
    def the_catalog_agrees(self) -> None:
        self.run(check_sums(self.db, files=len(self.files)))
        if "/astro" in self.directories:
            page = self.run(self._find())
            found = {r["lfn"]: (r["size"], frozenset(r["se"])) for r in page.rows}
            assert found == self.files

    async def _find(self) -> Any:
        async with self.db.transaction() as tx:
            return await service.find_files(tx, self.ada, "/astro", Search(limit=1000, fields=["size", "se"]))


def test_the_catalog_agrees_with_a_model_of_it(database_url: str, world: World) -> None:
    """A loop of its own: hypothesis calls its rules from ordinary functions."""
    loop = asyncio.new_event_loop()

    async def opened() -> Any:
        manager = Database.open(database_url, size=2, errors=CONSTRAINT_ERRORS)
        return manager, await manager.__aenter__()

    try:
        manager, db = loop.run_until_complete(opened())
        machine = type("Machine", (CatalogMachine,), {"db": db, "ada": world.ada, "loop": loop})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
        loop.run_until_complete(manager.__aexit__(None, None, None))
    finally:
        loop.close()


async def test_moves_removals_and_registrations_at_once(world: World) -> None:
    """Random verbs from many sessions: none deadlocks, every answer is one of ours, all sums are exact."""
    import random

    random.seed(7)

    async def some(number: int) -> list[SpinorError]:
        chance = random.Random(number)
        errors = []
        for _ in range(25):
            here = [f"{chance.choice(DIRECTORIES)}/{chance.choice(NAMES)}" for _ in range(3)]
            lfns = [f"{path}/{chance.choice(NAMES)}" for path in here]
            try:
                async with world.db.transaction() as tx:
                    match chance.randrange(4):
                        case 0 | 1:
                            await service.register_files(tx, world.ada, [new_file(lfn) for lfn in lfns])
                        case 2:
                            paths = [chance.choice([lfns[0], here[1]]), lfns[2]]
                            request = RemoveRequest(paths=paths, recursive=chance.random() < 0.3)
                            await service.remove_files(tx, world.ada, request)
                            await tx.execute("DELETE FROM catalog.removal")
                        case _:
                            source = chance.choice([lfns[0], here[0]])
                            await service.move(tx, world.ada, [Move(source=source, target=lfns[1])])
            except SpinorError as error:
                errors.append(error)
        return errors

    answers = await asyncio.gather(*(some(number) for number in range(8)))
    codes = {error.code for errors in answers for error in errors}
    assert codes <= {"unknown-lfn", "unknown-directory", "lfn-exists", "bad-move", "still-moving", "bytes-leaving"}, (
        codes
    )
    await check_sums(world.db)


@pytest.mark.parametrize("verb", ["move", "remove"])
async def test_a_directory_that_goes_while_files_come_loses_none_of_them(world: World, verb: str) -> None:
    async def come(number: int) -> None:
        async with world.db.transaction() as tx:
            await service.register_files(tx, world.ada, [new_file(f"/astro/d/e/f{number}-{n}") for n in range(20)])

    async def go(number: int) -> None:
        try:
            async with world.db.transaction() as tx:
                if verb == "move":
                    await service.move(tx, world.ada, [Move(source="/astro/d", target=f"/astro/moved-{number}")])
                else:
                    await service.remove_files(tx, world.ada, RemoveRequest(paths=["/astro/d"], recursive=True))
                    await tx.execute("DELETE FROM catalog.removal")
        except SpinorError as error:
            assert error.status in {404, 503}, error

    await asyncio.gather(*(task for n in range(10) for task in (come(n), go(n))))
    await check_sums(world.db, files=200 if verb == "move" else None)
