"""Nobody of one VO sees or touches files of another, by any verb."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa
import pytest

from spinor import types
from spinor.access import Caller, Scope
from spinor.catalog import service
from spinor.catalog.access import service as access
from spinor.catalog.access.models import AccessRequest
from spinor.catalog.annotation import service as annotation
from spinor.catalog.annotation.models import SelectionChange
from spinor.catalog.dumps import service as dumps
from spinor.catalog.dumps.models import DumpRequest, StreamedListing
from spinor.catalog.errors import UnknownKey
from spinor.catalog.feed import service as feed
from spinor.catalog.feed.models import ChangesRequest
from spinor.catalog.invariants.models import InvariantsRequest
from spinor.catalog.invariants.service import check_slice
from spinor.catalog.models import (
    BatchRequest,
    BytesFate,
    DirectoryRequest,
    FileStatus,
    ListRequest,
    MetadataChange,
    MetadataKey,
    MetadataType,
    Move,
    RemoveRequest,
    ReplicaStatus,
)
from spinor.catalog.operations import service as operations
from spinor.catalog.operations.models import Remove
from spinor.catalog.provenance import service as provenance
from spinor.catalog.provenance.models import LineageRequest, SetAncestors
from spinor.catalog.query.models import FacetQuery, Query
from spinor.catalog.quotas import service as quotas
from spinor.catalog.quotas.models import QuotaSetting, QuotaSubject
from spinor.catalog.replicas import service as replicas
from spinor.catalog.replicas.models import Checksums, NewReplica, RemoveReplicas, ReplicaName
from spinor.catalog.routes import routes
from spinor.db import Database, Tx, fetch_rows
from spinor.errors import SpinorError
from spinor.search import Search
from spinor.storage import service as storage
from spinor.storage.models import DirectoryReplicasRequest
from spinor.storage.routes import routes as storage_routes
from spinor.types import LFN as LFN_
from spinor.types import SEName

from .test_batches import body, row
from .workbench import World, check_sums, new_file, register

LFN, DIRECTORY = "/astro/secret/x", "/astro/secret"
DB: list[Database] = []  # That of the running test.
Attempt = Callable[[Tx, Caller], Awaitable[Any]]


async def _batch(tx: Tx, caller: Caller) -> Any:
    request = BatchRequest(directory=DIRECTORY, se=SEName("bio-se"), prefix="")
    return await service.register_batch(
        tx, caller, request, await service.read_batch(caller, request, body([row("", "x")]))
    )


async def _dump(caller: Caller) -> Any:
    """In a transaction of its own."""
    return [piece async for piece in dumps.dump(DB[0], caller, "bio-se", DumpRequest(path=DIRECTORY))]


async def _listing(caller: Caller) -> Any:
    return [piece async for piece in dumps.stream_listing(DB[0], caller, StreamedListing(path=DIRECTORY))]


def lfn() -> types.LFN:
    return types.LFN(LFN)


def names() -> list[ReplicaName]:
    return [ReplicaName(lfn=lfn(), se=SEName("bio-se"))]


# Each route's verb, tried by a caller of the other VO on a path of this one.
ATTEMPTS: dict[str, Attempt] = {
    "register_files": lambda tx, c: service.register_files(tx, c, [new_file(LFN, se="bio-se")]),
    "register_batch": _batch,
    "stat_files": lambda tx, c: service.stat_files(tx, c, [LFN]),
    "list_directory": lambda tx, c: service.list_directory(tx, c, ListRequest(path=DIRECTORY)),
    "find_files": lambda tx, c: service.find_files(tx, c, DIRECTORY, Search(fields=[])),
    "count_files": lambda tx, c: service.count_files(tx, c, DIRECTORY, ""),
    "facets": lambda tx, c: service.facets(tx, c, FacetQuery(path=DIRECTORY, keys=["owner"])),
    "explain": lambda tx, c: service.explain(tx, c, Query(path=DIRECTORY)),
    "describe_selection": lambda tx, c: annotation.describe_selection(
        tx, c, SelectionChange(path=DIRECTORY, unset=["k"])
    ),
    "ask": lambda tx, c: operations.ask(tx, c, Remove(paths=[DIRECTORY])),
    "move_files": lambda tx, c: service.move(tx, c, [Move(source=LFN, target="/bio/stolen")]),
    "set_metadata": lambda tx, c: service.set_metadata(tx, c, MetadataChange(paths=[LFN], set={"k": 1})),
    "show_metadata": lambda tx, c: service.show_metadata(tx, c, [LFN]),
    "usage": lambda tx, c: service.usage(tx, c, [DIRECTORY]),
    "make_directories": lambda tx, c: service.make_directories(tx, c, [f"{DIRECTORY}/d"]),
    "directories_below": lambda tx, c: service.directories_below(tx, c, DirectoryRequest(path=DIRECTORY)),
    "find_ancestors": lambda tx, c: provenance.ancestors(tx, c, LineageRequest(lfns=[LFN_(LFN)])),
    "find_descendants": lambda tx, c: provenance.descendants(tx, c, LineageRequest(lfns=[LFN_(LFN)])),
    "set_ancestors": lambda tx, c: provenance.set_ancestors(tx, c, [SetAncestors(lfn=LFN_(LFN), ancestors=[])]),
    "dump_storage_element": lambda tx, c: _dump(c),
    "stream_listing": lambda tx, c: _listing(c),
    "read_changes": lambda tx, c: feed.changes(tx, c, ChangesRequest(path=DIRECTORY)),
    "show_access": lambda tx, c: access.show_access(tx, c, [LFN]),
    "change_access": lambda tx, c: access.change_access(tx, c, AccessRequest(paths=[LFN], mode="0777")),
    "find_quotas": lambda tx, c: quotas.find_quotas(tx, c, QuotaSubject(directory=DIRECTORY)),
    "set_quotas": lambda tx, c: quotas.set_quotas(tx, c, [QuotaSetting(directory=DIRECTORY, max_files=1)]),
    "remove_quotas": lambda tx, c: quotas.remove_quotas(tx, c, [QuotaSubject(directory=DIRECTORY)]),
    "replicas": lambda tx, c: storage.replicas(tx, c, [LFN]),
    "directory_replicas": lambda tx, c: storage.directory_replicas(tx, c, DirectoryReplicasRequest(path=DIRECTORY)),
    "exists": lambda tx, c: replicas.existing(tx, c, [LFN]),
    "add_replicas": lambda tx, c: replicas.add_replicas(tx, c, [NewReplica(lfn=lfn(), se=SEName("bio-se"))]),
    "remove_replicas": lambda tx, c: replicas.remove_replicas(tx, c, RemoveReplicas(replicas=names())),
    "set_replica_status": lambda tx, c: replicas.set_replica_status(tx, c, names(), ReplicaStatus.SUSPECT),
    "rehost_replicas": lambda tx, c: replicas.rehost_replicas(tx, c, names(), "bio-se"),
    "set_file_status": lambda tx, c: replicas.set_file_status(tx, c, [LFN], FileStatus.SUSPECT),
    "fill_checksums": lambda tx, c: replicas.fill_checksums(tx, c, [Checksums(lfn=lfn(), adler32="00000001")]),
    "check_invariants": lambda tx, c: check_slice(tx, c, InvariantsRequest(path=DIRECTORY)),
    "places": lambda tx, c: storage.places(tx, c, "bio-se", [LFN]),
}
# Tried below in ways of their own: they refuse path by path, or take no path.
APART = {
    "remove_files",
    "metadata_keys",
    "declare_metadata_keys",
    "undeclare_metadata_keys",
    "lfns_of_guids",
    "describe_batch",
    "stream_changes",
}
APART |= {"show", "search", "refusals", "pause", "resume", "cancel"}  # Operations: test_operations.py tries them.
APART |= {"recount", "replicas_on", "removals_on", "queue_removals", "cancel_removals", "unnamed", "make_repairs"}


def everything(caller: Caller) -> Caller:
    """The caller with every scope there is: tenancy does not lean on scopes."""
    facts = {name: getattr(caller, name) for name in caller.__struct_fields__}
    return Caller(**{**facts, "scopes": frozenset(Scope)})


def test_every_verb_with_an_address_is_tried() -> None:
    assert {route.verb.__name__ for route in [*routes.all, *storage_routes.all]} == ATTEMPTS.keys() | APART


@pytest.mark.parametrize("verb", ATTEMPTS)
@pytest.mark.parametrize("top", ["/astro", "/bio/../astro", "/bio//../astro"])
async def test_a_verb_neither_shows_nor_touches_another_vo(
    world: World, verb: str, top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    DB[:] = [world.db]
    await register(world.db, world.ada, LFN)
    monkeypatch.setattr(sys.modules[__name__], "LFN", f"{top}/secret/x")
    monkeypatch.setattr(sys.modules[__name__], "DIRECTORY", f"{top}/secret")
    with pytest.raises(SpinorError) as caught:
        async with world.db.transaction() as tx:
            await ATTEMPTS[verb](tx, everything(world.bea))
    assert caught.value.code == ("path-outside-vo" if top == "/astro" else "bad-lfn")
    if top == "/astro":
        assert "'bio'" in caught.value.message
    await check_sums(world.db, files=1)


async def test_removal_refuses_each_path_of_another_vo(world: World) -> None:
    await register(world.db, world.ada, LFN)
    paths = [LFN, DIRECTORY, "/astro", "/bio/../astro/secret"]
    for recursive in (False, True):
        for fate in BytesFate:
            async with world.db.transaction() as tx:
                request = RemoveRequest(paths=paths, recursive=recursive, bytes=fate)
                outcome = await service.remove_files(tx, everything(world.bea), request)
            assert outcome.done == []
            assert [refusal.code for refusal in outcome.refused] == [*["path-outside-vo"] * 3, "bad-lfn"]
    await check_sums(world.db, files=1)


async def test_a_batch_of_metadata_refuses_each_path_of_another_vo(world: World) -> None:
    await register(world.db, world.ada, LFN)
    table = pa.table({"lfn": [LFN, DIRECTORY, "/bio/../astro/secret"], "metadata": ['{"k": 1}'] * 3})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    async with world.db.transaction() as tx:
        done = await annotation.describe_batch(tx, everything(world.bea), bytes(sink.getvalue()))
    assert (done.changed, len(done.refused)) == (0, 3)
    async with world.db.transaction() as tx:
        (shown, _) = await service.show_metadata(tx, world.ada, [LFN, DIRECTORY])
    assert shown.own == {}


async def test_undeclaring_a_key_touches_ones_own_vo_only(world: World) -> None:
    async with world.db.transaction() as tx:
        await service.declare_keys(tx, world.ada, [MetadataKey(name="k", type=MetadataType.TEXT)])
        with pytest.raises(UnknownKey):
            await service.undeclare_keys(tx, everything(world.bea), ["k"])


async def test_a_search_of_ones_own_vo_finds_ones_own_only(world: World) -> None:
    await register(world.db, world.ada, LFN)
    await register(world.db, world.bea, "/bio/x", se="bio-se")
    async with world.db.transaction() as tx:
        bea = everything(world.bea)
        page = await service.find_files(tx, bea, "/bio", Search(where='lfn like "*" or se exists', fields=[]))
        assert [found["lfn"] for found in page.rows] == ["/bio/x"]
        assert (await service.usage(tx, bea, ["/bio"]))[0].files == 1


async def test_a_feed_tells_of_ones_own_vo_only(world: World) -> None:
    await register(world.db, world.ada, LFN)
    await register(world.db, world.bea, "/bio/x", se="bio-se")
    async with world.db.transaction() as tx:
        page = await feed.changes(tx, everything(world.bea), ChangesRequest(since="start", expand=True))
    assert {row.path for row in page.rows} == {"/bio"}


async def test_a_dump_of_a_shared_storage_tells_of_ones_own_vo_only(world: World) -> None:
    await register(world.db, world.ada, LFN)
    await register(world.db, world.bea, "/bio/x", se="bio-se")
    async with world.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO resources.storage_access "
            "SELECT se_id, 2 FROM resources.storage_element WHERE name = 'local-se'"
        )
    pieces = [piece async for piece in dumps.dump(world.db, everything(world.bea), "local-se", DumpRequest())]
    assert b"secret" not in b"".join(pieces)


async def test_keys_belong_to_a_vo(world: World) -> None:
    keys = [MetadataKey(name="run", type=MetadataType.INTEGER)]
    async with world.db.transaction() as tx:
        await service.declare_keys(tx, world.ada, keys)
        assert await service.metadata_keys(tx, everything(world.bea)) == []
        other = [MetadataKey(name="run", type=MetadataType.TEXT)]
        assert await service.declare_keys(tx, world.bea, other) == other
        assert await service.metadata_keys(tx, world.ada) == keys


async def test_another_vos_storage_is_unknown(world: World) -> None:
    async with world.db.transaction() as tx:
        for verb in (
            service.register_files(tx, world.bea, [new_file("/bio/x", se="local-se")]),
            storage.places(tx, world.bea, "local-se", ["/bio/x"]),
        ):
            with pytest.raises(SpinorError) as caught:
                await verb
            assert caught.value.status == 404


async def test_the_same_guid_may_live_in_two_vos(world: World) -> None:
    import uuid

    guid = uuid.uuid4()
    await register(world.db, world.ada, "/astro/x", guid=guid)
    await register(world.db, world.bea, "/bio/x", se="bio-se", guid=guid)
    async with world.db.transaction() as tx:
        assert len(await fetch_rows(tx, "SELECT FROM catalog.file")) == 2
        for caller, name in ((world.ada, "/astro/x"), (everything(world.bea), "/bio/x")):
            assert [each.lfn for each in await replicas.lfns_of_guids(tx, caller, [guid])] == [name]
