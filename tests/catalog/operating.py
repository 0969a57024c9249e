"""What the tests of operations share."""

from typing import Any

from spinor.access import Caller
from spinor.catalog.operations import service
from spinor.catalog.operations.models import OnTrees, OperationRefusal, OperationShown, RefusalQuery
from spinor.catalog.operations.runner import run_slice
from spinor.db import Database, execute, fetch_rows, fetch_value

from .workbench import World


async def ask(world: World, request: OnTrees, caller: Caller | None = None) -> int:
    async with world.db.transaction() as tx:
        return await service.ask(tx, caller or world.ada, request)


async def finished(world: World, operation_id: int, *, slices: int = 10_000) -> OperationShown:
    """Work on one operation until nothing of it is left."""
    for _ in range(slices):
        if await run_slice(world.db, operation_id) is None:
            break
    return await shown(world.db, world.ada_admin, operation_id)


async def shown(db: Database, caller: Caller, operation_id: int) -> OperationShown:
    async with db.transaction() as tx:
        return await service.show(tx, caller, operation_id, waiting=True)


async def done(world: World, request: OnTrees, caller: Caller | None = None) -> OperationShown:
    """Ask, work to the end, and see that it ended well."""
    found = await finished(world, await ask(world, request, caller))
    assert (found.state, found.error) == ("done", "")
    return found


async def refusals(world: World, operation_id: int) -> list[OperationRefusal]:
    async with world.db.transaction() as tx:
        return (await service.refusals(tx, world.ada_admin, operation_id, RefusalQuery())).rows


async def smaller_slices(world: World, operation_id: int, size: int) -> None:
    """Give the operation's next slice a size of its own."""
    async with world.db.transaction() as tx:
        await execute(
            tx,
            "UPDATE catalog.operation SET cursor = cursor || jsonb_build_object('size', %(size)s::integer)"
            " WHERE operation_id = %(id)s::bigint",
            {"size": size, "id": operation_id},
        )


async def value(world: World, query: Any, **values: Any) -> Any:
    async with world.db.transaction() as tx:
        return await fetch_value(tx, query, values)


async def rows(world: World, query: Any, **values: Any) -> list[tuple[Any, ...]]:
    async with world.db.transaction() as tx:
        return await fetch_rows(tx, query, values)


async def paths(world: World) -> list[str]:
    return [row[0] for row in await rows(world, "SELECT path FROM catalog.directory ORDER BY path")]


async def lfns(world: World) -> list[str]:
    found = await rows(
        world, "SELECT d.path || '/' || f.name AS lfn FROM catalog.file AS f JOIN catalog.directory AS d"
        " USING (directory_id) ORDER BY lfn"
    )  # fmt: skip
    return [row[0] for row in found]
