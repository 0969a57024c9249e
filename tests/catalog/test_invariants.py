"""Each invariant of the catalog is silent while all is well, and speaks when the tables are damaged."""

from pathlib import Path

import psycopg
import pytest

from spinor.catalog import service as catalog
from spinor.catalog.errors import UnknownDirectory
from spinor.catalog.invariants import service, store
from spinor.catalog.invariants.models import InvariantsRequest, Recountable, RecountRequest, Violation
from spinor.catalog.models import MetadataChange
from spinor.db import Database, fetch_rows, fetch_value

from .workbench import World, check_sums, register

INSERT_FILE = """INSERT INTO catalog.file (file_id, directory_id, size_bytes, guid, access_id, vo_id, name, se_ids)
    SELECT file_id + {id}, directory_id, size_bytes, {guid}, access_id, vo_id, {name}, se_ids FROM catalog.file
    WHERE name = 'one'"""
NO_NAME = "ALTER TABLE catalog.file DROP CONSTRAINT file_name_unique"
NO_GUID = "ALTER TABLE catalog.file DROP CONSTRAINT file_guid_unique"
NO_ID = "ALTER TABLE catalog.file DROP CONSTRAINT file_id_unique"

# invariant -> what damages the tables so that it is broken.
DAMAGES = [
    ("directories_out_of_place", "UPDATE catalog.directory SET path = '/astro/elsewhere' WHERE path = '/astro/a/b'"),
    ("directories_out_of_place", "UPDATE catalog.directory SET name = 'x' WHERE path = '/astro'"),
    (
        "directories_out_of_place",
        """ALTER TABLE catalog.directory DROP CONSTRAINT directory_parent_id_fkey;
           UPDATE catalog.directory SET parent_id = 999 WHERE path = '/astro/a/b'""",
    ),
    ("directories_out_of_place", "UPDATE catalog.directory SET vo_id = 2 WHERE path = '/astro/a/b'"),
    (
        "directories_twice",
        """ALTER TABLE catalog.directory DROP CONSTRAINT directory_name_unique;
           INSERT INTO catalog.directory (parent_id, vo_id, access_id, gate_id, name, path)
           SELECT parent_id, vo_id, access_id, gate_id, name, path FROM catalog.directory WHERE path = '/astro/a/b'""",
    ),
    (
        "directories_of_strange_access",
        """UPDATE catalog.directory SET access_id = (SELECT min(access_id) FROM catalog.access WHERE vo_id = 2)
           WHERE path = '/astro/a'""",
    ),
    (
        "gates_that_disagree",
        """INSERT INTO catalog.gate (vo_id, access_ids) SELECT vo_id, array_agg(access_id) || 999
           FROM catalog.access WHERE vo_id = 1 GROUP BY vo_id;
           UPDATE catalog.directory SET gate_id = (SELECT max(gate_id) FROM catalog.gate) WHERE path = '/astro/a'""",
    ),
    ("metadata_that_disagree", "UPDATE catalog.directory SET effective = '{\"run\": 2}' WHERE path = '/astro/a'"),
    ("metadata_that_disagree", "UPDATE catalog.directory SET effective = NULL WHERE path = '/astro/a/b'"),
    ("directories_that_count_wrong", "UPDATE catalog.directory SET file_count = 9 WHERE path = '/astro/a'"),
    ("directories_that_count_wrong", "UPDATE catalog.directory SET size_bytes = 0 WHERE path = '/astro/a'"),
    ("directories_that_count_wrong", "UPDATE catalog.directory SET annotated_files = 0 WHERE path = '/astro/a'"),
    (
        "directories_that_count_wrong",
        """ALTER TABLE catalog.directory DROP CONSTRAINT directory_bytes_positive;
           UPDATE catalog.directory SET size_bytes = -5 WHERE path = '/astro/a'""",
    ),
    ("usage_that_counts_wrong", "UPDATE catalog.directory_usage SET files = files + 1 WHERE vo_id = 1"),
    ("usage_that_counts_wrong", "UPDATE catalog.directory_usage SET vo_id = 2 WHERE vo_id = 1"),
    ("usage_that_counts_wrong", "DELETE FROM catalog.directory_usage WHERE vo_id = 1"),
    ("usage_that_counts_wrong", "UPDATE catalog.directory_usage SET owner_id = owner_id + 1 WHERE vo_id = 1"),
    ("usage_without_directory", "INSERT INTO catalog.directory_usage VALUES (999, 1, 1, 1, 0, 0)"),
    (
        "locations_without_directory",
        """INSERT INTO catalog.directory_location
           SELECT 999, se_id, 'astro' FROM resources.storage_element WHERE name = 'local-se'""",
    ),
    ("locations_without_directory", "UPDATE catalog.directory_location SET se_id = 99"),
    ("files_without_directory", "UPDATE catalog.file SET directory_id = 999 WHERE name = 'one'"),
    ("files_of_another_vo", "UPDATE catalog.file SET vo_id = 2 WHERE name = 'one'"),
    ("files_that_are_directories", "UPDATE catalog.file SET name = 'b' WHERE name = 'one'"),
    (
        "files_of_strange_access",
        """UPDATE catalog.file SET access_id = (SELECT max(access_id) FROM catalog.access WHERE vo_id = 2)
           WHERE name = 'one'""",
    ),
    (
        "files_of_strange_access",
        """UPDATE catalog.file SET access_id = (SELECT min(access_id) FROM catalog.access WHERE owner_id IS NULL)
           WHERE name = 'one'""",
    ),
    ("files_of_strange_access", "UPDATE catalog.file SET access_id = 999 WHERE name = 'one'"),
    (
        "replicas_that_disagree",
        """ALTER TABLE catalog.file DROP CONSTRAINT file_replicas_distinct;
           UPDATE catalog.file SET se_ids = '{1,1}' WHERE name = 'one'""",
    ),
    (
        "replicas_that_disagree",
        """ALTER TABLE catalog.file DROP CONSTRAINT file_pfns_aligned;
           UPDATE catalog.file SET pfns = '{a,b}' WHERE name = 'one'""",
    ),
    (
        "replicas_that_disagree",
        """ALTER TABLE catalog.file DROP CONSTRAINT file_statuses_aligned;
           UPDATE catalog.file SET statuses = '{suspect,suspect}' WHERE name = 'one'""",
    ),
    ("replicas_that_disagree", "UPDATE catalog.file SET statuses = '{NULL}' WHERE name = 'one'"),
    ("replicas_without_place", "UPDATE catalog.file SET se_ids = '{99}' WHERE name = 'one'"),
    ("replicas_without_place", "DELETE FROM catalog.directory_location"),
    ("names_twice", f"{NO_NAME}; {INSERT_FILE.format(id=10**6, guid='gen_random_uuid()', name='name')}"),
    ("guids_twice", f"{NO_GUID}; {INSERT_FILE.format(id=10**6, guid='guid', name=repr('two'))}"),
    ("file_ids_twice", f"{NO_ID}; {INSERT_FILE.format(id=0, guid='gen_random_uuid()', name=repr('two'))}"),
    ("ancestors_without_file", "INSERT INTO catalog.file_ancestor VALUES (998, 999, 1)"),
    (
        "removals_without_storage",
        """ALTER TABLE catalog.removal DROP CONSTRAINT removal_se_id_fkey;
           INSERT INTO catalog.removal (vo_id, se_id, path, names) VALUES (1, 99, 'astro', '{x}')""",
    ),
    (
        "quotas_of_another_vo",
        """INSERT INTO catalog.quota (vo_id, directory_id, max_files)
           SELECT 2, directory_id, 5 FROM catalog.directory WHERE path = '/astro/a'""",
    ),
    (
        "datasets_that_disagree",
        """INSERT INTO catalog.dataset (vo_id, access_id, name, path, query, files, size_bytes, digest)
           SELECT 1, access_id, 'set', '/astro', '', 0, 0, '' FROM catalog.access WHERE vo_id = 1 LIMIT 1;
           INSERT INTO catalog.dataset_version (dataset_id, version, vo_id, query, frozen_by, files, size_bytes, digest)
           SELECT dataset_id, 1, 2, '', 1, 0, 0, '' FROM catalog.dataset""",
    ),
]


@pytest.fixture
async def full(world: World) -> World:
    """Files of two VOs, with and without metadata."""
    await register(world.db, world.ada, "/astro/a/one", metadata={"run": 1})
    await register(world.db, world.ada, "/astro/a/b/two", "/astro/c/three")
    await register(world.db, world.bea, "/bio/x", se="bio-se")
    async with world.db.transaction() as tx:
        await catalog.set_metadata(tx, world.ada, MetadataChange(paths=["/astro/a"], set={"year": 2026}))
    return world


async def broken(db: Database) -> list[Violation]:
    async with db.transaction() as tx:
        return await service.all_violations(tx)


async def damage(world: World, database_url: str, statements: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(statements.encode())


async def proved(world: World, path: str | None = None) -> list[Violation]:
    """All slices, as a service tells them."""
    found, after = [], None
    while True:
        async with world.db.transaction() as tx:
            answer = await service.check_slice(tx, world.ada_admin, InvariantsRequest(path=path, after=after))
        found += answer.violations
        after = answer.next
        if after is None:
            return found


def test_every_invariant_is_damaged_here() -> None:
    assert {name for name, _ in DAMAGES} == {*store.SLICED, *store.RANGED, *store.PARTED, *store.WHOLE}


def test_every_invariant_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/catalog-invariants.md").read_text()
    for name, statement in store.Q:
        comment = " ".join(line[3:] for line in statement.splitlines() if line.startswith("-- "))
        assert f"| `{name}` | {comment} |" in page


@pytest.mark.parametrize(("invariant", "statements"), DAMAGES)
async def test_each_damage_is_found(full: World, database_url: str, invariant: str, statements: str) -> None:
    assert await broken(full.db) == []
    assert await proved(full) == []
    await damage(full, database_url, statements)
    assert invariant in {violation.invariant for violation in await broken(full.db)}
    assert invariant in {violation.invariant for violation in await proved(full)}


async def test_slices_see_everything_once(full: World, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await damage(full, database_url, "UPDATE catalog.directory SET file_count = file_count + 1")
    await damage(full, database_url, "UPDATE catalog.file SET directory_id = 999 WHERE name = 'three'")
    await damage(full, database_url, f"{NO_ID}; {INSERT_FILE.format(id=0, guid='gen_random_uuid()', name=repr('two'))}")
    at_once = await proved(full)
    monkeypatch.setattr(service, "SLICE_DIRECTORIES", 2)
    monkeypatch.setattr(service, "PART_FILES", 1)
    in_slices = await proved(full)
    assert sorted(map(repr, in_slices)) == sorted(map(repr, at_once))
    assert {violation.invariant for violation in at_once} >= {
        "directories_that_count_wrong", "files_without_directory", "file_ids_twice",
    }  # fmt: skip
    assert not any(violation.path.startswith("/bio") for violation in at_once)


async def test_a_path_narrows_it_down(full: World, database_url: str) -> None:
    await damage(full, database_url, "UPDATE catalog.directory SET file_count = file_count + 1")
    assert {violation.path for violation in await proved(full, "/astro/a")} == {"/astro/a", "/astro/a/b"}
    with pytest.raises(UnknownDirectory):
        await proved(full, "/astro/nowhere")


@pytest.mark.parametrize("after", ["x", "d.x", "p.6.2", "p.1", "d.1.2.3", "d.99999999999999999999"])
async def test_a_strange_slice_is_refused(full: World, after: str) -> None:
    async with full.db.transaction() as tx:
        with pytest.raises(service.BadSlice):
            await service.check_slice(tx, full.ada_admin, InvariantsRequest(after=after))


async def test_more_than_can_be_told_is_said(full: World, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await damage(full, database_url, "UPDATE catalog.directory SET file_count = file_count + 1")
    monkeypatch.setattr(service, "MOST_ROWS", 2)
    async with full.db.transaction() as tx:
        answer = await service.check_slice(tx, full.ada_admin, InvariantsRequest())
    assert answer.more == ["directories_that_count_wrong"]
    assert len(answer.violations) == 2


@pytest.mark.parametrize("invariant", list(Recountable))
async def test_what_was_counted_wrong_is_counted_again(full: World, database_url: str, invariant: Recountable) -> None:
    for name, statements in DAMAGES:
        if name == invariant.value and "DROP" not in statements:
            await damage(full, database_url, statements)
    found = [violation for violation in await proved(full) if violation.invariant == invariant.value]
    assert found
    ids = sorted({violation.directory_id for violation in found})
    async with full.db.transaction() as tx:
        assert await service.recount(tx, full.ada_admin, RecountRequest(invariant=invariant, directory_ids=[999])) == []
        done = await service.recount(tx, full.ada_admin, RecountRequest(invariant=invariant, directory_ids=ids))
    assert "/astro/a" in {each.path for each in done} <= {violation.path for violation in found}
    assert all(each.before != each.after for each in done)
    async with full.db.transaction() as tx:
        assert await service.recount(tx, full.ada_admin, RecountRequest(invariant=invariant, directory_ids=ids)) == []
        told = await fetch_value(tx, "SELECT count(*) FROM catalog.change WHERE detail ->> 'by' = 'fsck'")
    assert (told > 0) == (invariant in (Recountable.GATES, Recountable.METADATA))
    await check_sums(full.db)


async def test_another_vo_is_not_counted_again(full: World, database_url: str) -> None:
    await damage(full, database_url, "UPDATE catalog.directory SET file_count = file_count + 1 WHERE vo_id = 2")
    assert await proved(full) == []
    async with full.db.transaction() as tx:
        ids = [row[0] for row in await fetch_rows(tx, "SELECT directory_id FROM catalog.directory")]
        request = RecountRequest(invariant=Recountable.COUNTERS, directory_ids=ids)
        assert await service.recount(tx, full.ada_admin, request) == []
    assert len(await broken(full.db)) == 1
