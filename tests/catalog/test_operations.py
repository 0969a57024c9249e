"""Whole trees in the background: exact at the end, refused one by one, stopped and continued, by the right people."""

import pytest

from spinor.access import Caller
from spinor.catalog import service as catalog
from spinor.catalog.access import service as access
from spinor.catalog.access.models import AccessRequest, AclEntry, AclKind
from spinor.catalog.errors import BadMetadata, DirectoryDenied, PathOutsideVO, UnknownLFN, UnknownUser
from spinor.catalog.models import BytesFate, MetadataChange, Move
from spinor.catalog.operations import rules, service
from spinor.catalog.operations.errors import BadOperation, KeyReused, TopOfVO, UnknownOperation
from spinor.catalog.operations.models import (
    Chmod,
    Chown,
    OperationSearch,
    OperationState,
    RebuildUsage,
    Rehost,
    Remove,
    Setfacl,
    SetMetadata,
    Target,
)
from spinor.catalog.operations.runner import run_slice
from spinor.db import execute
from spinor.errors import Denied
from spinor.search.expression import BadQuery
from spinor.types import SEName

from .operating import ask, done, finished, lfns, paths, refusals, rows, shown, smaller_slices, value
from .workbench import World, check_sums, register

WAITING = (
    "SELECT concat_ws('/', NULLIF(path, ''), name) AS pfn FROM catalog.removal, unnest(names) AS name ORDER BY pfn"
)


async def chmod(world: World, path: str, mode: str, caller: Caller | None = None) -> None:
    async with world.db.transaction() as tx:
        await access.change_access(tx, caller or world.ada, AccessRequest(paths=[path], mode=mode))


async def shared(world: World) -> None:
    """/astro/t/shared is alan's and sticky: each takes out only their own. One file there is ada's."""
    await register(world.db, world.ada, "/astro/t/x")
    await chmod(world, "/astro/t", "0777")
    await register(world.db, world.alan, "/astro/t/shared/b", "/astro/t/shared/c")
    await chmod(world, "/astro/t/shared", "1777", world.alan)
    await register(world.db, world.ada, "/astro/t/shared/a")


async def test_a_tree_goes_with_its_directories_and_its_bytes_are_queued(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 7}/e{n % 3}/f{n}" for n in range(210)))
    await register(world.db, world.ada, "/astro/t/x", pfn="own/place")
    await register(world.db, world.ada, "/astro/t/x", se="second-se")
    await register(world.db, world.ada, "/astro/ta/x", "/astro/t-/x")
    operation_id = await ask(world, Remove(paths=["/astro/t", "/astro/t/d1"]))
    waiting = await shown(world.db, world.ada, operation_id)
    assert (waiting.state, waiting.total_files, waiting.total_bytes, waiting.total_directories) == (
        "waiting", 211, 2110, 29,
    )  # fmt: skip
    await smaller_slices(world, operation_id, 7)
    ended = await finished(world, operation_id)
    assert (ended.state, ended.done_files, ended.done_bytes, ended.done_directories) == ("done", 211, 2110, 29)
    assert (ended.refused, ended.left_s) == (0, None)
    assert ended.slices > 3
    assert await lfns(world) == ["/astro/t-/x", "/astro/ta/x"]
    assert await paths(world) == ["/astro", "/astro/t-", "/astro/ta"]
    queued = [row[0] for row in await rows(world, WAITING)]
    assert len(queued) == 212 and {"own/place", "astro/t/x", "astro/t/d0/e0/f0"} <= {*queued}
    assert {row.se: row.names for row in ended.waiting_bytes} == {"local-se": 211, "second-se": 1}
    told = "SELECT sum(files) FROM catalog.change WHERE kind = 'files-removed'"
    assert await value(world, told) == 211
    await check_sums(world.db, files=2)


async def test_a_large_directory_goes_in_parts(world: World) -> None:
    names = [f"/astro/t/f{n:04d}" for n in range(500)]
    await register(world.db, world.ada, *names)
    operation_id = await ask(world, Remove(paths=["/astro/t"], bytes=BytesFate.KEEP))
    await smaller_slices(world, operation_id, 60)
    assert await run_slice(world.db, operation_id) is not None
    half = await shown(world.db, world.ada, operation_id)
    assert (half.state, half.done_files) == ("running", 60)
    assert half.files_per_s is not None and half.left_s is not None
    await check_sums(world.db, files=440)
    assert await lfns(world) == names[60:]
    assert (await finished(world, operation_id)).done_files == 500
    assert await rows(world, WAITING) == []
    await check_sums(world.db, files=0)


async def test_single_files_go_as_well(world: World) -> None:
    await register(world.db, world.ada, "/astro/a/x", "/astro/a/xy", "/astro/a/w", "/astro/b/x", "/astro/b/c/z")
    ended = await done(world, Remove(paths=["/astro/a/x", "/astro/b"]))
    assert (ended.total_files, ended.done_files, ended.done_directories) == (3, 3, 2)
    assert await lfns(world) == ["/astro/a/w", "/astro/a/xy"]
    await check_sums(world.db)


async def test_a_filter_chooses_files_and_directories_stay(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)), size_bytes=5)
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/g{n}" for n in range(12)), size_bytes=50)
    request = Remove(paths=["/astro/t"], where="size > 10 and name like g*")
    assert (await done(world, Remove(paths=request.paths, where=request.where, dry_run=True))).done_files == 12
    ended = await done(world, request)
    assert (ended.done_files, ended.done_bytes, ended.done_directories) == (12, 600, 0)
    assert len(await paths(world)) == 5
    await check_sums(world.db, files=30)
    with pytest.raises(BadQuery):
        await ask(world, Remove(paths=["/astro/t"], where="size >"))


async def test_what_others_own_is_refused_one_by_one(world: World) -> None:
    await shared(world)
    await register(world.db, world.ada, *(f"/astro/t/mine{n}/f{n}" for n in range(3)))
    await chmod(world, "/astro/t/mine1", "0555")
    request = Remove(paths=["/astro/t"])
    before = await lfns(world)
    dry = await done(world, Remove(paths=["/astro/t"], dry_run=True))
    assert (dry.done_files, dry.refused) == (4, 3)
    assert await lfns(world) == before
    ended = await done(world, request)
    assert ended.done_files == 4 and ended.done_directories == 2
    assert [(refusal.lfn, refusal.code) for refusal in await refusals(world, ended.operation_id)] == [
        ("/astro/t/mine1", "directory-denied"),
        ("/astro/t/shared/b", "directory-denied"),
        ("/astro/t/shared/c", "directory-denied"),
        ("/astro/t/shared", "directory-not-empty"),
    ]
    assert ended.refused == 4
    assert await lfns(world) == ["/astro/t/mine1/f1", "/astro/t/shared/b", "/astro/t/shared/c"]
    await check_sums(world.db)
    await done(world, Remove(paths=["/astro/t"]), world.ada_admin)
    await check_sums(world.db, files=0)


async def test_read_only_storages_keep_their_files(world: World) -> None:
    await register(world.db, world.ada, "/astro/t/x", "/astro/t/y")
    await register(world.db, world.ada, "/astro/t/x", se="second-se")
    async with world.db.transaction() as tx:
        await execute(tx, "UPDATE resources.storage_element SET read_only = true WHERE name = 'second-se'")
    ended = await done(world, Remove(paths=["/astro/t"]))
    assert (ended.done_files, ended.done_directories) == (1, 0)
    assert [refusal.code for refusal in await refusals(world, ended.operation_id)] == [
        "replica-read-only", "directory-not-empty",
    ]  # fmt: skip
    assert (await done(world, Remove(paths=["/astro/t"], bytes=BytesFate.KEEP))).done_directories == 1
    await check_sums(world.db, files=0)


async def test_only_so_many_refusals_are_kept_and_all_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "KEPT_REFUSALS", 5)
    await shared(world)
    await register(world.db, world.alan, *(f"/astro/t/shared/f{n}" for n in range(9)))
    ended = await done(world, Remove(paths=["/astro/t"]))
    assert (ended.done_files, ended.refused, len(await refusals(world, ended.operation_id))) == (2, 12, 5)
    await check_sums(world.db, files=11)


async def test_what_cannot_be_is_refused_before_it_begins(world: World) -> None:
    await register(world.db, world.ada, "/astro/t/x")
    with pytest.raises(TopOfVO):
        await ask(world, Remove(paths=["/astro"]), world.ada_admin)
    with pytest.raises(UnknownLFN):
        await ask(world, Remove(paths=["/astro/nope"]))
    with pytest.raises(PathOutsideVO):
        await ask(world, Remove(paths=["/bio/x"]))
    with pytest.raises(DirectoryDenied):
        await ask(world, Remove(paths=["/astro/t"]), world.alan)
    with pytest.raises(Denied):
        await ask(world, RebuildUsage(paths=["/astro"]))
    with pytest.raises(BadOperation):
        await ask(world, SetMetadata(paths=["/astro/t"]))
    with pytest.raises(BadMetadata):
        await ask(world, SetMetadata(paths=["/astro/t"], set={"size": 1}))
    with pytest.raises(BadOperation):
        await ask(world, Rehost(paths=["/astro/t"], from_se=SEName("local-se"), to_se=SEName("local-se")))
    assert await rows(world, "SELECT * FROM catalog.operation") == []


async def test_the_same_key_is_the_same_operation(world: World) -> None:
    await register(world.db, world.ada, "/astro/t/x", "/astro/u/x")
    request = Remove(paths=["/astro/t/"], bytes=BytesFate.KEEP, idempotency_key="k")
    first = await ask(world, request)
    assert await ask(world, request) == first
    await finished(world, first)
    assert await ask(world, request) == first
    await register(world.db, world.ada, "/astro/t/x")
    assert await ask(world, request) == first
    with pytest.raises(KeyReused):
        await ask(world, Remove(paths=["/astro/u"], idempotency_key="k"))
    assert await ask(world, Remove(paths=["/astro/t"], idempotency_key="k"), world.ada_admin) == first
    await register(world.db, world.alan, "/astro/alan/x")
    assert await ask(world, Remove(paths=["/astro/alan"], idempotency_key="k"), world.alan) != first


async def test_pause_resume_and_cancel(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/f{n:03d}" for n in range(300)))
    operation_id = await ask(world, Remove(paths=["/astro/t"]))
    await smaller_slices(world, operation_id, 50)

    async def change(state: OperationState, who: str = "ada") -> list[str]:
        async with world.db.transaction() as tx:
            outcome = await service.change(tx, getattr(world, who), [operation_id, 10**9], state)
        return [*outcome.done, *(refusal.code for refusal in outcome.refused)]

    mine = str(operation_id)
    await run_slice(world.db, operation_id)
    assert await change(OperationState.PAUSED, "alan") == ["unknown-operation", "unknown-operation"]
    assert await change(OperationState.PAUSED, "bea") == ["unknown-operation", "unknown-operation"]
    assert await change(OperationState.PAUSED) == [mine, "unknown-operation"]
    assert await change(OperationState.PAUSED) == ["operation-state", "unknown-operation"]
    assert await run_slice(world.db) is None
    assert (await shown(world.db, world.ada, operation_id)).done_files == 50
    assert await change(OperationState.WAITING) == [mine, "unknown-operation"]
    assert await run_slice(world.db) is not None
    assert await change(OperationState.CANCELLED) == [mine, "unknown-operation"]
    assert await run_slice(world.db) is None
    ended = await shown(world.db, world.ada, operation_id)
    assert ended.state == "cancelled" and 50 < ended.done_files < 300 and ended.ended_at
    assert await change(OperationState.WAITING) == ["operation-state", "unknown-operation"]
    await check_sums(world.db, files=300 - ended.done_files)


async def test_each_sees_their_own_operations(world: World) -> None:
    await register(world.db, world.ada, "/astro/t/x")
    await register(world.db, world.alan, "/astro/alan/x")
    first, second = await ask(world, Remove(paths=["/astro/t"])), await ask(
        world, Remove(paths=["/astro/alan"]), world.alan
    )  # fmt: skip

    async def seen(who: str, **asked: object) -> list[int]:
        async with world.db.transaction() as tx:
            page = await service.search(tx, getattr(world, who), OperationSearch(**asked))  # type: ignore[arg-type]
        return [row.operation_id for row in page.rows]

    assert [await seen(who) for who in ("ada", "alan", "ada_admin", "bea")] == [
        [first], [second], [second, first], [],
    ]  # fmt: skip
    assert await seen("ada_admin", limit=1, after=str(second)) == [first]
    assert await seen("ada", states=[OperationState.DONE]) == []
    with pytest.raises(UnknownOperation):
        await shown(world.db, world.alan, first)


async def test_a_tree_that_moves_away_is_left_alone(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/f{n:03d}" for n in range(100)))
    operation_id = await ask(world, Remove(paths=["/astro/t"]))
    await smaller_slices(world, operation_id, 50)
    await run_slice(world.db, operation_id)
    async with world.db.transaction() as tx:
        await catalog.move(tx, world.ada, [Move(source="/astro/t", target="/astro/kept")])
    await register(world.db, world.ada, "/astro/t/new")
    ended = await finished(world, operation_id)
    assert ended.state == "failed" and "was moved to" in ended.error and ended.done_files == 50
    await check_sums(world.db, files=51)


async def test_metadata_of_all_files_below(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)), metadata={"old": 1, "run": 1})
    await chmod(world, "/astro/t/d0", "0777")
    await register(world.db, world.alan, "/astro/t/d0/theirs")
    operation_id = await ask(world, SetMetadata(paths=["/astro/t"], set={"run": 7}, unset=["old"]))
    await smaller_slices(world, operation_id, 8)
    ended = await finished(world, operation_id)
    assert (ended.state, ended.done_files, ended.done_directories, ended.refused) == ("done", 30, 4, 1)
    assert [refusal.lfn for refusal in await refusals(world, operation_id)] == ["/astro/t/d0/theirs"]
    assert await rows(world, "SELECT metadata, count(*) FROM catalog.file GROUP BY metadata ORDER BY count(*)") == [
        (None, 1), ({"run": 7}, 30),
    ]  # fmt: skip
    await check_sums(world.db)
    chosen = SetMetadata(paths=["/astro/t"], unset=["run"], where="name = f5 or name = f6")
    assert (await done(world, chosen)).done_files == 2
    assert await value(world, "SELECT count(*) FROM catalog.file WHERE metadata IS NULL") == 3
    await check_sums(world.db)


async def test_metadata_of_all_directories_below(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n}/e{n % 2}/f" for n in range(20)))
    async with world.db.transaction() as tx:
        change = MetadataChange(paths=["/astro/t", "/astro/t/d3"], set={"site": "old", "keep": True})
        await catalog.set_metadata(tx, world.ada, change)
    request = SetMetadata(paths=["/astro/t"], set={"run": 5}, unset=["site"], target=Target.DIRECTORIES)
    assert (
        await done(world, SetMetadata(paths=["/astro/t"], set={"run": 5}, target=Target.DIRECTORIES, dry_run=True))
    ).done_directories == 41
    operation_id = await ask(world, request)
    assert (await run_slice(world.db, operation_id)) is not None
    await check_sums(world.db)
    assert (await finished(world, operation_id)).done_directories == 41
    assert await rows(world, "SELECT DISTINCT metadata -> 'run', metadata -> 'site' FROM catalog.directory"
                             " WHERE path LIKE '/astro/t%%'", none=None) == [(5, None)]  # fmt: skip
    await check_sums(world.db)


async def test_modes_owners_groups_and_lists_of_whole_trees(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)))
    await chmod(world, "/astro/t/d0", "0777")
    await register(world.db, world.alan, "/astro/t/d0/theirs")
    modes = "SELECT DISTINCT a.mode FROM catalog.file AS f JOIN catalog.access AS a USING (access_id) ORDER BY a.mode"
    dry = await done(world, Chmod(paths=["/astro/t"], mode="go-rwx", dry_run=True))
    assert await rows(world, modes) == [(0o644,)]
    operation_id = await ask(world, Chmod(paths=["/astro/t"], mode="go-rwx"))
    await smaller_slices(world, operation_id, 8)
    ended = await finished(world, operation_id)
    assert (ended.state, ended.done_directories, ended.refused) == ("done", 4, 1)
    assert (dry.done_files, dry.refused) == (ended.done_files, ended.refused)
    assert [refusal.lfn for refusal in await refusals(world, operation_id)] == ["/astro/t/d0/theirs"]
    assert await rows(world, modes) == [(0o600,), (0o644,)]
    await check_sums(world.db)
    await done(world, Chown(paths=["/astro/t"], owner="alan", group="astro_admins"), world.ada_admin)
    owners = """SELECT DISTINCT u.name, g.name FROM (SELECT access_id FROM catalog.file UNION
                SELECT access_id FROM catalog.directory WHERE path LIKE '/astro/t%') AS f
                JOIN catalog.access AS a USING (access_id) JOIN identity.user_account AS u ON u.user_id = a.owner_id
                JOIN identity.vo_group AS g ON g.group_id = a.group_id"""
    assert await rows(world, owners.replace("%'", "%%'")) == [("alan", "astro_admins")]
    await check_sums(world.db)
    entry = AclEntry(kind=AclKind.USER, name="ada", permissions="rwX")
    ended = await done(world, Setfacl(paths=["/astro/t"], acl_set=[entry]), world.alan)
    assert (ended.done_directories, ended.refused) == (4, 0)
    assert (await done(world, Remove(paths=["/astro/t/d1"]), world.ada)).done_directories == 1
    await check_sums(world.db, files=21)
    with pytest.raises(UnknownUser):
        await ask(world, Chown(paths=["/astro/t"], owner="nobody"), world.ada_admin)


async def test_what_is_behind_a_closed_directory_is_refused_with_it(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/closed/secret{n}/f{n}" for n in range(9)), "/astro/t/x")
    await done(world, Chmod(paths=["/astro/t"], mode="go+w"))
    await done(world, Chmod(paths=["/astro/t/closed"], mode="go-rwx"))
    operation_id = await ask(world, SetMetadata(paths=["/astro/t"], set={"run": 1}), world.alan)
    await smaller_slices(world, operation_id, 2)
    ended = await finished(world, operation_id)
    assert (ended.done_files, ended.refused) == (1, 1)
    assert [refusal.lfn for refusal in await refusals(world, operation_id)] == ["/astro/t/closed"]
    request = SetMetadata(paths=["/astro/t"], set={"run": 1}, target=Target.DIRECTORIES)
    ended = await done(world, request, world.alan)
    assert [refusal.lfn for refusal in await refusals(world, ended.operation_id)] == ["/astro/t/closed"]
    await check_sums(world.db)


async def test_replicas_get_another_storage_element(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)))
    await register(world.db, world.ada, "/astro/t/own", pfn="own/place")
    await register(world.db, world.ada, "/astro/t/both", "/astro/t/second")
    await register(world.db, world.ada, "/astro/t/both", "/astro/t/d0/second", se="second-se", size_bytes=10)
    request = Rehost(paths=["/astro/t"], from_se=SEName("local-se"), to_se=SEName("second-se"))
    dry = await done(
        world, Rehost(paths=["/astro/t"], from_se=SEName("local-se"), to_se=SEName("second-se"), dry_run=True)
    )
    assert await value(world, "SELECT count(*) FROM catalog.directory_usage WHERE se_id = 2 AND files > 0") == 2
    ended = await done(world, request)
    assert (ended.done_files, ended.refused) == (dry.done_files, dry.refused) == (32, 1)
    assert [(refusal.lfn, refusal.code) for refusal in await refusals(world, ended.operation_id)] == [
        ("/astro/t/both", "replica-exists")
    ]
    async with world.db.transaction() as tx:
        found = await catalog.locate_files(tx, world.ada, ["/astro/t/own", "/astro/t/d1/f1", "/astro/t/both"])
    places = [sorted((replica.se_id, str(replica.pfn)) for replica in file.replicas) for file in found]
    se = {name: se_id for se_id, name in await rows(world, "SELECT se_id, name FROM resources.storage_element")}
    assert places == [
        [(se["second-se"], "own/place")],
        [(se["second-se"], "astro/t/d1/f1")],
        sorted([(se["local-se"], "astro/t/both"), (se["second-se"], "astro/t/both")]),
    ]
    await check_sums(world.db)


async def test_replicas_get_another_prefix(world: World) -> None:
    await register(world.db, world.ada, "/astro/t/a", "/astro/t/d/b")
    await register(world.db, world.ada, "/astro/t/c", pfn="elsewhere/c")
    await register(world.db, world.ada, "/astro/t/s", se="second-se")
    ended = await done(
        world,
        Rehost(
            paths=["/astro/t"],
            from_se=SEName("local-se"),
            to_se=SEName("second-se"),
            from_prefix="astro",
            to_prefix="old/astro",
        ),
    )
    assert (ended.done_files, ended.refused) == (2, 1)
    assert [refusal.code for refusal in await refusals(world, ended.operation_id)] == ["no-new-place"]
    async with world.db.transaction() as tx:
        found = await catalog.locate_files(tx, world.ada, ["/astro/t/a", "/astro/t/d/b", "/astro/t/c", "/astro/t/s"])
    assert [str(replica.pfn) for file in found for replica in file.replicas] == [
        "old/astro/t/a", "old/astro/t/d/b", "elsewhere/c", "astro/t/s",
    ]  # fmt: skip
    await check_sums(world.db)


async def test_wrong_counters_are_told_and_mended(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/d{n % 3}/f{n}" for n in range(30)))
    async with world.db.transaction() as tx:
        await execute(tx, "UPDATE catalog.directory SET file_count = 99 WHERE path = '/astro/t/d1'")
        await execute(
            tx, "UPDATE catalog.directory_usage SET size_bytes = 1 WHERE directory_id IN"
            " (SELECT directory_id FROM catalog.directory WHERE path = '/astro/t/d2')"
        )  # fmt: skip
    dry = await finished(world, await ask(world, RebuildUsage(paths=["/astro"], dry_run=True), world.ada_admin))
    assert (dry.state, dry.refused, dry.done_files) == ("done", 2, 30)
    with pytest.raises(AssertionError):
        await check_sums(world.db)
    operation_id = await ask(world, RebuildUsage(paths=["/astro"]), world.ada_admin)
    assert (await finished(world, operation_id)).done_directories == 5
    told = await refusals(world, operation_id)
    assert [(refusal.lfn, refusal.code) for refusal in told] == [
        ("/astro/t/d1", "counter-differs"), ("/astro/t/d2", "counter-differs"),
    ]  # fmt: skip
    assert "files said 99, and there are 10" in told[0].reason
    await check_sums(world.db, files=30)
