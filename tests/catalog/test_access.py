"""Every verb of the catalog against what closes a file or directory to a caller."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinor.access import Caller, Scope
from spinor.catalog import rules, service
from spinor.catalog.access import rules as access_rules
from spinor.catalog.access import service as access
from spinor.catalog.access.models import AccessRequest
from spinor.catalog.models import (
    Access,
    BatchRequest,
    DirectoryRequest,
    FileStatus,
    ListRequest,
    MetadataChange,
    Move,
    RemoveRequest,
    ReplicaStatus,
)
from spinor.catalog.provenance import service as provenance
from spinor.catalog.provenance.models import LineageRequest, SetAncestors
from spinor.catalog.query.models import FacetQuery, Query
from spinor.catalog.quotas import service as quotas
from spinor.catalog.quotas.models import QuotaSubject
from spinor.catalog.replicas import service as replicas
from spinor.catalog.replicas.models import Checksums, NewReplica, RemoveReplicas, ReplicaName
from spinor.catalog.routes import routes
from spinor.catalog.service.explaining import explain
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.search import Search
from spinor.storage import service as storage
from spinor.storage.models import DirectoryReplicasRequest
from spinor.storage.routes import routes as storage_routes
from spinor.types import LFN, SEName

from .roles import add_roles, change, entries, shown
from .test_batches import body, row
from .workbench import World, check_sums, new_file, register

# What ada made, and alan tries. Below /astro/ada there is, each with a file f and a directory sub with a file g in it:
# open (0755), hall (0711: reached by name, not listed), wall (0700, closed), vault (0777, its f is 0600), and
# pool (1777, sticky, of which f and sub are ada's).
MODES = {"open": "0755", "hall": "0711", "wall": "0700", "vault": "0777", "pool": "1777"}
Attempt = Callable[[Tx, Caller, str], Awaitable[Any]]
HOME = "/astro/alan"
SECOND = SEName("second-se")


async def furnish(world: World) -> None:
    for name in MODES:
        await register(world.db, world.ada, f"/astro/ada/{name}/f", f"/astro/ada/{name}/sub/g")
    await register(world.db, world.alan, f"{HOME}/own")
    await change(world.db, world.ada, "/astro/ada/vault/f", mode="0600")
    await change(world.db, world.ada, "/astro/ada/vault/sub", mode="0777")
    for name, mode in MODES.items():
        await change(world.db, world.ada, f"/astro/ada/{name}", mode=mode)


async def remove(tx: Tx, caller: Caller, path: str, *, recursive: bool = False) -> None:
    outcome = await service.remove_files(tx, caller, RemoveRequest(paths=[path], recursive=recursive))
    for refusal in outcome.refused:
        error = SpinorError(refusal.reason)
        error.code = refusal.code  # type: ignore[misc]
        raise error


async def batch(tx: Tx, caller: Caller, path: str) -> None:
    directory, _, name = path.rpartition("/")
    request = BatchRequest(directory=directory, se=SEName("local-se"), prefix="elsewhere")
    read = await service.read_batch(caller, request, body([row("", name, 10)]))
    counts = await service.register_batch(tx, caller, request, read)
    for refusal in counts.refused:
        error = SpinorError(refusal.reason)
        error.code = "refused"  # type: ignore[misc]
        raise error


def on(verb: Callable[..., Awaitable[Any]]) -> Attempt:
    return lambda tx, caller, path: verb(tx, caller, [path])


def local(path: str) -> list[ReplicaName]:
    return [ReplicaName(lfn=LFN(path), se=SEName("local-se"))]


def second(path: str) -> Any:
    return new_file(path, se="second-se")


FILE_VERBS: dict[str, Attempt] = {
    "stat": on(service.stat_files),
    "replicas": on(storage.replicas),
    "metadata show": on(service.show_metadata),
    "getfacl": on(access.show_access),
    "list": lambda tx, c, path: service.list_directory(tx, c, ListRequest(path=path)),
    "register again": lambda tx, c, path: service.register_files(tx, c, [new_file(path)]),
    "register other": lambda tx, c, path: service.register_files(tx, c, [new_file(path, size_bytes=11)]),
    "batch again": batch,
    "add replica": lambda tx, c, path: service.register_files(tx, c, [second(path)]),
    "metadata set": lambda tx, c, path: service.set_metadata(tx, c, MetadataChange(paths=[path], set={"k": 1})),
    "exists": on(replicas.existing),
    "replica add": lambda tx, c, path: replicas.add_replicas(tx, c, [NewReplica(lfn=LFN(path), se=SECOND)]),
    "replica rm": lambda tx, c, path: replicas.remove_replicas(tx, c, RemoveReplicas(replicas=local(path), last=True)),
    "replica status": lambda tx, c, path: replicas.set_replica_status(tx, c, local(path), ReplicaStatus.SUSPECT),
    "replica host": lambda tx, c, path: replicas.rehost_replicas(tx, c, local(path), "second-se"),
    "set-status": lambda tx, c, path: replicas.set_file_status(tx, c, [path], FileStatus.SUSPECT),
    "checksums": lambda tx, c, path: replicas.fill_checksums(tx, c, [Checksums(lfn=LFN(path), adler32="00000001")]),
    "ancestors": lambda tx, c, path: provenance.ancestors(tx, c, LineageRequest(lfns=[LFN(path)])),
    "descendants": lambda tx, c, path: provenance.descendants(tx, c, LineageRequest(lfns=[LFN(path)])),
    "set-ancestors": lambda tx, c, path: provenance.set_ancestors(tx, c, [SetAncestors(lfn=LFN(path), ancestors=[])]),
    "remove": remove,
    "move out": lambda tx, c, path: service.move(tx, c, [Move(source=path, target=f"{HOME}/taken")]),
    "chmod": lambda tx, c, path: access.change_access(tx, c, AccessRequest(paths=[path], mode="0777")),
}
# Verb -> what becomes of it for the file f in open, hall, wall, vault and pool; "" is allowed.
FILE_CASES: dict[str, tuple[str, str, str, str, str]] = {
    "stat": ("", "", "directory-denied", "file-denied", ""),
    "replicas": ("", "", "directory-denied", "file-denied", ""),
    "metadata show": ("", "", "directory-denied", "file-denied", ""),
    "getfacl": ("", "", "directory-denied", "", ""),
    "list": ("", "", "directory-denied", "file-denied", ""),
    "register again": ("directory-denied", "directory-denied", "directory-denied", "file-denied", ""),
    "register other": ("directory-denied", "directory-denied", "directory-denied", "file-denied", "file-differs"),
    "batch again": ("refused", "refused", "refused", "refused", ""),
    "add replica": ("directory-denied", "directory-denied", "directory-denied", "file-denied", "file-denied"),
    "metadata set": ("directory-denied",) * 5,
    "exists": ("", "", "directory-denied", "", ""),
    "ancestors": ("", "", "directory-denied", "file-denied", ""),
    "descendants": ("", "", "directory-denied", "file-denied", ""),
    "set-ancestors": ("directory-denied", "directory-denied", "directory-denied", "file-denied", "directory-denied"),
    **dict.fromkeys(
        ("replica add", "replica rm", "replica status", "replica host", "set-status", "checksums"),
        ("file-denied", "file-denied", "directory-denied", "file-denied", "file-denied"),
    ),
    "remove": ("directory-denied", "directory-denied", "directory-denied", "", "directory-denied"),
    "move out": ("directory-denied", "directory-denied", "directory-denied", "", "directory-denied"),
    "chmod": ("access-denied", "access-denied", "directory-denied", "access-denied", "access-denied"),
}

DIRECTORY_VERBS: dict[str, Attempt] = {
    "list": lambda tx, c, path: service.list_directory(tx, c, ListRequest(path=path)),
    "find": lambda tx, c, path: service.find_files(tx, c, path, Search(fields=[])),
    "count": lambda tx, c, path: service.count_files(tx, c, path, ""),
    "facets": lambda tx, c, path: service.facets(tx, c, FacetQuery(path=path, keys=["owner"])),
    "explain": lambda tx, c, path: explain(tx, c, Query(path=path)),
    "directories/search": lambda tx, c, path: service.directories_below(tx, c, DirectoryRequest(path=path)),
    "usage": on(service.usage),
    "replicas in": lambda tx, c, path: storage.directory_replicas(tx, c, DirectoryReplicasRequest(path=path)),
    "metadata show": on(service.show_metadata),
    "getfacl": on(access.show_access),
    "quota show": lambda tx, c, path: quotas.find_quotas(tx, c, QuotaSubject(directory=path)),
    "mkdir in": lambda tx, c, path: service.make_directories(tx, c, [f"{path}/new/deep"]),
    "mkdir there": on(service.make_directories),
    "register in": lambda tx, c, path: service.register_files(tx, c, [new_file(f"{path}/new")]),
    "batch in": lambda tx, c, path: batch(tx, c, f"{path}/new"),
    "places in": lambda tx, c, path: storage.places(tx, c, "local-se", [f"{path}/new"]),
    "move into": lambda tx, c, path: service.move(tx, c, [Move(source=f"{HOME}/own", target=f"{path}/moved")]),
    "metadata set": lambda tx, c, path: service.set_metadata(tx, c, MetadataChange(paths=[path], set={"k": 1})),
    "chmod": lambda tx, c, path: access.change_access(tx, c, AccessRequest(paths=[path], mode="0777")),
    "remove sub": lambda tx, c, path: remove(tx, c, f"{path}/sub", recursive=True),
    "remove tree": lambda tx, c, path: remove(tx, c, path, recursive=True),
    "move tree": lambda tx, c, path: service.move(tx, c, [Move(source=path, target=f"{HOME}/taken")]),
}
DENIED = "directory-denied"
DIRECTORY_CASES: dict[str, tuple[str, str, str, str, str]] = {
    "list": ("", DENIED, DENIED, "", ""),
    **dict.fromkeys(("find", "count", "facets", "explain"), ("", DENIED, DENIED, "", "")),
    "directories/search": ("", DENIED, DENIED, "", ""),
    "usage": ("", DENIED, DENIED, "", ""),
    "replicas in": ("", DENIED, DENIED, "file-denied", ""),
    "metadata show": ("", DENIED, DENIED, "", ""),
    "getfacl": ("", "", "", "", ""),  # Whoever reaches a directory may see why it is closed.
    "quota show": ("", "", DENIED, "", ""),
    "mkdir in": (DENIED, DENIED, DENIED, "", ""),
    "mkdir there": ("", "", "", "", ""),
    "register in": (DENIED, DENIED, DENIED, "", ""),
    "batch in": ("refused", "refused", "refused", "", ""),
    "places in": (DENIED, DENIED, DENIED, "", ""),
    "move into": (DENIED, DENIED, DENIED, "", ""),
    "metadata set": (DENIED, DENIED, DENIED, "", ""),
    "chmod": ("access-denied",) * 5,
    "remove sub": (DENIED, DENIED, DENIED, "", DENIED),
    "remove tree": (DENIED,) * 5,
    "move tree": (DENIED,) * 5,
}


async def code_of(world: World, caller: Caller, attempt: Attempt, path: str) -> tuple[str, str]:
    """What an attempt, of which nothing stays, comes to; and in which words."""
    try:
        async with world.db.statements() as tx, tx.transaction(force_rollback=True):
            await attempt(tx, caller, path)
    except SpinorError as error:
        return error.code, error.message
    return "", ""


@pytest.fixture
async def furnished(world: World) -> World:
    await furnish(world)
    return world


async def test_files_are_open_to_those_to_whom_they_are(furnished: World) -> None:
    found = {
        verb: tuple([(await code_of(furnished, furnished.alan, attempt, f"/astro/ada/{name}/f"))[0] for name in MODES])
        for verb, attempt in FILE_VERBS.items()
    }
    assert found == FILE_CASES
    for verb, attempt in FILE_VERBS.items():
        for name in MODES:
            code, message = await code_of(furnished, furnished.ada_admin, attempt, f"/astro/ada/{name}/f")
            assert code == ("file-differs" if verb == "register other" else ""), (verb, name, message)
    await check_sums(furnished.db)


async def test_directories_are_open_to_those_to_whom_they_are(furnished: World) -> None:
    found = {
        verb: tuple([(await code_of(furnished, furnished.alan, attempt, f"/astro/ada/{name}"))[0] for name in MODES])
        for verb, attempt in DIRECTORY_VERBS.items()
    }
    assert found == DIRECTORY_CASES
    for attempt in DIRECTORY_VERBS.values():
        for name in MODES:
            assert (await code_of(furnished, furnished.ada_admin, attempt, f"/astro/ada/{name}"))[0] == ""
    await check_sums(furnished.db)


async def test_behind_a_closed_gate_what_is_there_and_what_is_not_look_alike(furnished: World) -> None:
    wall = "/astro/ada/wall"
    for verb, attempt in [*FILE_VERBS.items(), *DIRECTORY_VERBS.items()]:
        answers = {
            await code_of(furnished, furnished.alan, attempt, f"{wall}/{name}")
            for name in ("f", "sub", "sub/g", "nothing", "sub/nothing", "nothing/at/all", "f/below")
        }
        assert len(answers) == 1, (verb, answers)
        ((code, message),) = answers
        assert code in ("directory-denied", "refused"), verb
        assert 'may not reach what is in "/astro/ada/wall" (mode 0700)' in message, verb


async def test_every_verb_with_an_address_is_in_a_table() -> None:
    tried = {
        "stat_files", "replicas", "show_metadata", "show_access", "list_directory", "register_files", "register_batch",
        "set_metadata", "remove_files", "move_files", "change_access", "find_files", "directories_below", "usage",
        "find_quotas", "make_directories", "places", "directory_replicas", "exists", "add_replicas", "remove_replicas",
        "set_replica_status", "rehost_replicas", "set_file_status", "fill_checksums",
        "count_files", "facets", "explain", "find_ancestors", "find_descendants", "set_ancestors",
    }  # fmt: skip
    apart = {
        "metadata_keys",
        "declare_metadata_keys",
        "set_quotas",
        "remove_quotas",
        "lfns_of_guids",
        "undeclare_metadata_keys",
        "describe_batch",  # This and the next refuse path by path: test_query_annotation.py tries them.
        "describe_selection",
        "dump_storage_element",  # What is streamed passes the same sieve as a search: test_dumps.py, test_feed.py.
        "stream_listing",
        "read_changes",
        "stream_changes",
        "check_invariants",  # For those who manage files only, or refused one by one: test_repairs.py, test_fsck*.py.
        "recount",
        "replicas_on",
        "removals_on",
        "queue_removals",
        "cancel_removals",
        "unnamed",
        "make_repairs",
        "ask",  # Operations refuse path by path, too: test_operations.py tries them.
        "show",
        "search",
        "refusals",
        "pause",
        "resume",
        "cancel",
    }  # They name no path of files.
    assert {route.verb.__name__ for route in [*routes.all, *storage_routes.all]} == tried | apart


async def test_a_guid_tells_the_name_of_a_readable_file_only(furnished: World) -> None:
    lfns = [f"/astro/ada/{name}/f" for name in MODES]
    async with furnished.db.transaction() as tx:
        guids = [found.guid for found in await service.stat_files(tx, furnished.ada, lfns)]
        told = [owner.lfn for owner in await replicas.lfns_of_guids(tx, furnished.alan, guids)]
    assert [lfn is not None for lfn in told] == [True, True, False, False, True]


async def found_by(world: World, caller: Caller, path: str) -> list[str]:
    async with world.db.transaction() as tx:
        return [r["lfn"] for r in (await service.find_files(tx, caller, path, Search(fields=[]))).rows]


async def test_searches_leave_out_what_cannot_be_read_or_listed(furnished: World) -> None:
    below = "/astro/ada"
    assert await found_by(furnished, furnished.alan, below) == [
        f"{below}/open/f", f"{below}/open/sub/g", f"{below}/pool/f", f"{below}/pool/sub/g", f"{below}/vault/sub/g",
    ]  # fmt: skip
    # Nobody finds the name of sub in a directory that cannot be listed; whoever knows it may start there.
    assert await found_by(furnished, furnished.alan, f"{below}/hall/sub") == [f"{below}/hall/sub/g"]
    async with furnished.db.transaction() as tx:
        page = await service.directories_below(tx, furnished.alan, DirectoryRequest(path=below))
        assert [r.path for r in page.rows] == [
            below, *(f"{below}/{name}" for name in ("open", "open/sub", "pool", "pool/sub", "vault", "vault/sub"))
        ]  # fmt: skip
        (seen,) = await service.usage(tx, furnished.alan, [below])
        (everything,) = await service.usage(tx, furnished.ada, [below])
    assert (seen.files, everything.files) == (6, 10)
    assert (sum(o.files for o in seen.owners), sum(e.files for e in seen.storage_elements)) == (6, 6)


async def test_the_same_unlisted_access_below_the_start_stays_hidden(furnished: World) -> None:
    lfn = "/astro/ada/hall/sub/deeper/h"
    await register(furnished.db, furnished.ada, lfn)
    assert lfn in await found_by(furnished, furnished.alan, "/astro/ada/hall/sub")
    await change(furnished.db, furnished.ada, "/astro/ada/hall/sub/deeper", mode="0711")
    assert lfn not in await found_by(furnished, furnished.alan, "/astro/ada/hall/sub")


async def test_closing_a_directory_closes_all_below_and_opening_opens_it(furnished: World) -> None:
    db, alan = furnished.db, furnished.alan
    stat = FILE_VERBS["stat"]
    await register(db, furnished.ada, "/astro/ada/open/a/b/c/deep")
    for mode, code in (("0700", "directory-denied"), ("0755", ""), ("0750", ""), ("0000", "directory-denied")):
        await change(db, furnished.ada, "/astro/ada/open", mode=mode)
        assert (await code_of(furnished, alan, stat, "/astro/ada/open/a/b/c/deep"))[0] == code, mode
        await check_sums(db)
    # The owner opens again what is closed to themselves too, all in one.
    await change(db, furnished.ada, "/astro/ada/open", mode="u+rwX,go+rX", recursive=True)
    assert (await code_of(furnished, alan, stat, "/astro/ada/open/a/b/c/deep"))[0] == ""
    await check_sums(db)


async def test_sticky_directories_keep_what_is_others_also_in_trees(world: World) -> None:
    await register(world.db, world.alan, "/astro/pool/sub/alans")
    await change(world.db, world.alan, "/astro/pool", "/astro/pool/sub", mode="1777")
    await register(world.db, world.ada, "/astro/pool/adas", "/astro/pool/sub/adas")
    for path in ("/astro/pool/sub/alans", "/astro/pool/sub"):
        assert (await code_of(world, world.ada, lambda t, c, p: remove(t, c, p, recursive=True), path))[0] == DENIED
    async with world.db.transaction() as tx:
        outcome = await service.remove_files(tx, world.ada, RemoveRequest(paths=["/astro/pool/adas"]))
        assert outcome.refused == []
    # The owner of a sticky directory takes away what others put there.
    await register(world.db, world.ada, "/astro/pool/sub/more")
    async with world.db.transaction() as tx:
        outcome = await service.remove_files(tx, world.alan, RemoveRequest(paths=["/astro/pool"], recursive=True))
        assert outcome.refused == []
    await check_sums(world.db, files=0)


async def test_a_tree_with_a_sticky_directory_of_another_stays_whole(world: World) -> None:
    await register(world.db, world.ada, "/astro/t/x")
    await change(world.db, world.ada, "/astro/t", mode="0777")
    await register(world.db, world.alan, "/astro/t/pool/alans")
    await change(world.db, world.alan, "/astro/t/pool", mode="1777")
    code, message = await code_of(world, world.ada, lambda t, c, p: remove(t, c, p, recursive=True), "/astro/t")
    assert code == DENIED and '"/astro/t/pool" is sticky: "/astro/t/pool/alans"' in message
    await check_sums(world.db, files=2)


# ------------------------------------------------------------------------------------------------------ the algorithm


def naive(access: Access, user: int, group: int, wanted: int) -> bool:
    """POSIX.1e draft 17, 23.1.5, as it is written down, for one permission; owner None is nobody, group None is all."""
    acl = access_rules.entries_of(access)
    mask = acl.get("m", 7)
    if access.owner_id == user:
        return bool(acl["u"] & wanted)
    if f"u{user}" in acl:
        return bool(acl[f"u{user}"] & mask & wanted)
    matching = []
    if access.group_id is None or access.group_id == group:
        matching.append(acl["g"])
    if f"g{group}" in acl:
        matching.append(acl[f"g{group}"])
    if matching:
        return any(bits & mask & wanted for bits in matching)
    return bool(acl["o"] & wanted)


bits = st.integers(0, 7)
ids = st.integers(1, 3)
named = st.dictionaries(st.sampled_from(["u1", "u2", "u3", "g1", "g2", "g3"]), bits)


@st.composite
def accesses(draw: st.DrawFn) -> Access:
    extra = draw(st.one_of(st.just({}), named.map(lambda some: {**some, "g": 5})))
    if extra:
        extra["g"] = draw(bits)
    return Access(
        owner_id=draw(st.one_of(st.none(), ids)), group_id=draw(st.one_of(st.none(), ids)),
        mode=draw(st.integers(0, 0o3777)), acl=rules.write_acl(extra),
    )  # fmt: skip


@given(accesses(), ids, ids)
def test_the_bits_are_those_of_posix(thing: Access, user: int, group: int) -> None:
    caller = Caller(
        vo_id=1, vo="astro", user_id=user, user="u", group_id=group, group="g", scopes=frozenset({Scope.FILES_WRITE})
    )
    found = rules.bits_of(thing, caller)
    assert {wanted: bool(found & wanted) for wanted in (1, 2, 4)} == {
        wanted: naive(thing, user, group, wanted) for wanted in (1, 2, 4)
    }


@given(accesses(), st.booleans())
def test_an_acl_survives_being_shown_and_set_again(thing: Access, directory: bool) -> None:
    texts = {who: str(value) for who, value in access_rules.entries_of(thing).items()}
    edit = access_rules.Edit(whole=texts, more={}, drop=frozenset())
    none = access_rules.Edit(whole=None, more={}, drop=frozenset())
    again = access_rules.Change(owner_id=None, group_id=None, mode=None, acl=edit, default_acl=none, giveable=None)
    assert access_rules.changed(thing, again, directory=directory) == thing


async def test_new_entries_inherit_default_acls_and_groups(world: World) -> None:
    roles = await add_roles(world)
    await register(world.db, world.ada, "/astro/run/x")
    text = "g:astro_prod:rwx,g:astro_guests:rx"
    await change(world.db, world.ada, "/astro/run", default_acl_set=entries(text), mode="2755")
    await change(world.db, world.ada, "/astro/run", acl_set=entries(text))
    await register(world.db, roles.alan_prod, "/astro/run/new/y")
    default = "user::rwx,group::r-x,group:astro_guests:r-x,group:astro_prod:rwx,mask::rwx,other::r-x"
    line = ",".join(f"d:{entry}" for entry in default.split(","))
    assert await shown(world.db, world.ada, "/astro/run/new") == f"2775 {default},{line}"
    assert await shown(world.db, world.ada, "/astro/run/new/y") == (
        "0664 user::rw-,group::r-x  #effective:r--,group:astro_guests:r-x  #effective:r--,"
        "group:astro_prod:rwx  #effective:rw-,mask::rw-,other::r--"
    )
    async with world.db.transaction() as tx:
        (stat,) = await service.stat_files(tx, world.ada, ["/astro/run/new/y"])
    assert (stat.owner, stat.group, stat.acl) == ("alan", "astro_users", True)
    assert (await code_of(world, roles.grace, FILE_VERBS["stat"], "/astro/run/new/y"))[0] == ""
    assert (await code_of(world, roles.grace, DIRECTORY_VERBS["register in"], "/astro/run/new"))[0] == DENIED
    assert (await code_of(world, roles.grace_prod, DIRECTORY_VERBS["register in"], "/astro/run/new"))[0] == ""
    await check_sums(world.db)


async def test_accesses_change_while_names_come_in(world: World) -> None:
    await register(world.db, world.ada, *(f"/astro/t/s{n}/first" for n in range(4)))

    async def fill(session: int) -> None:
        for n in range(6):
            await register(world.db, world.ada, f"/astro/t/s{session}/new{n}/f", f"/astro/t/s{session}/g{n}")

    async def close() -> None:
        for n in range(8):
            await change(world.db, world.ada_admin, "/astro/t", mode="u=rwX,go=" if n % 2 else "a+rX", recursive=True)
            await change(world.db, world.ada_admin, "/astro/t/s0", owner=("ada", "alan")[n % 2 == 0], recursive=True)

    async def chown_one() -> None:
        for n in range(10):
            await change(world.db, world.ada_admin, "/astro/t/s1/first", owner=("ada", "alan")[n % 2])

    await asyncio.gather(fill(1), fill(2), fill(3), close(), chown_one())
    await check_sums(world.db, files=4 + 3 * 12)
