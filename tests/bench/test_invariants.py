"""The invariants of chaos find what they are there to find: no sentence for a healthy service, one for each damage."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench.chaos import invariants
from bench.chaos.ledger import ExpectedFile, ExpectedJob, Ledger
from spinor.catalog import service as catalog
from spinor.catalog.models import NewFile
from spinor.jobs import service as jobs
from spinor.jobs.models import JobSpec, Offer, OutputData, Slot
from spinor.types import LFN, PFN, SEName
from tests.conftest import World

CONTENT = b"counted and compared"
LFN_OF_FILE = "/astro/kept/file.dat"


@pytest.fixture
async def healthy(world: World) -> World:
    """A job that waits, one that runs, and a file with its bytes."""
    spec = JobSpec(
        executable="true", output_data=[OutputData(path="x", lfn="/astro/out/{index}.x", se="local-se")],
        parameters={"n": [1, 2]},
    )  # fmt: skip
    path = world.storage_root / "arrived" / "file.dat"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    expected = ExpectedFile.of(CONTENT)
    new = NewFile(
        lfn=LFN(LFN_OF_FILE), se=SEName("local-se"), pfn=PFN("arrived/file.dat"), size_bytes=expected.size_bytes,
        adler32=expected.adler32, sha256=expected.sha256,
    )  # fmt: skip
    async with world.db.transaction() as tx:
        matcher = jobs.Matcher()
        await jobs.submit_jobs(tx, world.ada, matcher.elements, [spec])
        await catalog.register_files(tx, world.ada, [new])
        cursor = await tx.execute(
            """INSERT INTO pilots.pilot (vo_id, ce_id, secret_hash, status)
               SELECT %s, ce_id, '', 'running' FROM resources.computing_element RETURNING pilot_id""",
            (world.ada.vo_id,),
        )
        row = await cursor.fetchone()
        assert row is not None
        offer = Offer(cores=1, memory_bytes=10**10, disk_bytes=10**10, wall_s=10**5)
        slot = Slot(pilot_id=row[0], site="LOCAL", site_id=1, ce="local-ce", ce_id=1, offer=offer)
        assert await jobs.match_jobs(tx, matcher, world.ada, slot, 1)
    return world


def sentences(url: str, *statements: str) -> list[str]:
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())
        return [*invariants.broken_tables(conn), *invariants.broken_bytes(invariants.read_files(conn))]


UNFINISHED = "is still"  # The two jobs of the healthy service have not ended, which only chaos has to wait for.


def test_a_healthy_service_breaks_nothing(healthy: World, database_url: str) -> None:
    found = [sentence for sentence in sentences(database_url) if UNFINISHED not in sentence]
    assert found == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE jobs.job SET status = 'done' WHERE status = 'waiting'", "its history ends with waiting"),
        (
            """INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, source)
               SELECT job_id, vo_id, 0, 'done', '' FROM jobs.job WHERE status = 'waiting'""",
            "went from waiting to done, which the state machine does not know",
        ),
        (
            """INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, source)
               SELECT job_id, vo_id, 0, 'done', '' FROM jobs.job, generate_series(1, 2)""",
            "was done 2 times",
        ),
        ("UPDATE jobs.job SET attempt = 5 WHERE status = 'matched'", "has attempt 5, and was matched 1 times"),
        ("DELETE FROM jobs.waiting", "is in no task queue"),
        ("UPDATE jobs.waiting SET priority = 1", "waits in another queue or place"),
        ("UPDATE jobs.job SET status = 'killed' WHERE status = 'waiting'", "is killed, and is in a task queue"),
        ("DELETE FROM jobs.running", "no pilot has a lease on it"),
        ("UPDATE jobs.running SET attempt = 7", "is for attempt 7"),
        ("UPDATE pilots.pilot SET status = 'done', ended_at = now()", "has a lease on job"),
        ("UPDATE jobs.job_array SET size = 3", "has 2 jobs of 3"),
        (
            "INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, source) VALUES (999, 1, 0, 'waiting', '')",
            "belong to job 999, which does not exist",
        ),
        ("UPDATE jobs.job SET status = 'done' WHERE status = 'matched'", "has 0 registered outputs of 1"),
        ("UPDATE catalog.directory SET file_count = 9 WHERE path = '/astro/kept'", "counts 9 files"),
        ("UPDATE catalog.directory_usage SET files = 4", "by its usage 4 replicas"),
        ("DELETE FROM catalog.directory_usage", "by its usage 0 replicas of 0 bytes, and holds 1 of 20"),
        ("UPDATE catalog.file SET directory_id = 99", "which does not exist"),
        (
            """INSERT INTO catalog.directory (vo_id, path, name, parent_id, access_id, gate_id)
               SELECT vo_id, path || '/file.dat', 'file.dat', directory_id, access_id, gate_id
                 FROM catalog.directory WHERE path = '/astro/kept'""",
            "is both a file and a directory",
        ),
        (
            """INSERT INTO catalog.removal (vo_id, se_id, path, names)
               SELECT 1, se_id, '', '{gone}' FROM resources.storage_element WHERE name = 'local-se'""",
            "the bytes at gone were to be deleted",
        ),
        ("UPDATE catalog.file SET size_bytes = 7", "has 7 bytes, and its replica 20"),
        ("UPDATE catalog.file SET adler32 = 5", "has the adler32 00000005, and its replica another"),
        ("UPDATE catalog.file SET sha256 = sha256('x')", ", and its replica another"),
        ("UPDATE catalog.file SET pfns = '{nowhere}'", "which cannot be read"),
    ],
)
def test_each_damage_is_found(healthy: World, database_url: str, damage: str, words: str) -> None:
    assert any(words in sentence for sentence in sentences(database_url, damage)), words


def test_an_output_of_a_stale_attempt_is_found(healthy: World, database_url: str) -> None:
    found = sentences(
        database_url,
        "UPDATE jobs.job SET status = 'done' WHERE status = 'matched'",
        f"""INSERT INTO jobs.output_file (job_id, vo_id, lfn)
            SELECT job_id, vo_id, '{LFN_OF_FILE}' FROM jobs.job WHERE status = 'done'""",
    )
    assert any("with bytes of another attempt" in sentence for sentence in found)


def promises(url: str, ledger: Ledger) -> invariants.Broken:
    with psycopg.connect(url, autocommit=True) as conn:
        return invariants.broken_promises(conn, ledger, invariants.read_files(conn))


def test_a_kept_ledger_is_content(healthy: World, database_url: str) -> None:
    ledger = Ledger()
    ledger.there({LFN_OF_FILE: ExpectedFile.of(CONTENT)})
    broken = promises(database_url, ledger)
    assert (broken.lost, broken.doubled, broken.sentences) == (0, 0, [])


@pytest.mark.parametrize(
    ("lfn", "content", "words"),
    [
        ("/astro/kept/other.dat", CONTENT, "is not in the catalog"),
        (LFN_OF_FILE, CONTENT + b"!", "and has others"),
    ],
)
def test_a_lost_file_is_counted(healthy: World, database_url: str, lfn: str, content: bytes, words: str) -> None:
    ledger = Ledger()
    ledger.there({lfn: ExpectedFile.of(content)})
    broken = promises(database_url, ledger)
    assert broken.lost == 1
    assert words in broken.sentences[0]


def test_a_removed_file_that_comes_back_is_counted(healthy: World, database_url: str) -> None:
    ledger = Ledger()
    ledger.gone.add(LFN_OF_FILE)
    assert promises(database_url, ledger).doubled == 1


def test_a_lost_job_is_counted(healthy: World, database_url: str) -> None:
    ledger = Ledger()
    ledger.jobs[10**9] = ExpectedJob(fails=False, outputs={})
    broken = promises(database_url, ledger)
    assert broken.lost == 1
    assert "does not exist" in broken.sentences[0]


@pytest.mark.parametrize(
    ("status", "reason", "job", "explained"),
    [
        ("done", "", ExpectedJob(fails=False, outputs={}), True),
        ("done", "", ExpectedJob(fails=True, outputs={}), False),
        ("failed", "exit code 3", ExpectedJob(fails=True, outputs={}), True),
        ("failed", "exit code 3", ExpectedJob(fails=False, outputs={}), False),
        ("failed", "The payload was ended by signal 9 (SIGKILL).", ExpectedJob(fails=False, outputs={}), True),
        ("killed", "", ExpectedJob(fails=False, outputs={}), False),
        ("killed", "", ExpectedJob(fails=False, outputs={}, killed=True), True),
        ("done", "", ExpectedJob(fails=False, outputs={}, killed=True), False),
    ],
)
def test_ends_are_explained(
    healthy: World, database_url: str, status: str, reason: str, job: ExpectedJob, explained: bool
) -> None:
    ledger = Ledger()
    with psycopg.connect(database_url, autocommit=True) as conn:
        row: Any = conn.execute("SELECT job_id FROM jobs.job WHERE status = 'waiting'").fetchone()
        ledger.jobs[row[0]] = job
        conn.execute(
            "UPDATE jobs.job SET status = %s::jobs.job_status, exit_code = 3 WHERE job_id = %s", (status, row[0])
        )
        conn.execute(
            """INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, source, reason)
               SELECT job_id, vo_id, attempt, status, '', %s FROM jobs.job""",
            (reason,),
        )
    odd = [sentence for sentence in promises(database_url, ledger).sentences if "nothing explains" in sentence]
    assert (odd == []) == explained


def test_stray_bytes_are_counted(healthy: World, database_url: str, tmp_path: Path) -> None:
    (healthy.storage_root / "litter").write_bytes(b"x")
    with psycopg.connect(database_url, autocommit=True) as conn:
        assert invariants.stray_bytes(conn, invariants.read_files(conn), healthy.storage_root) == 1
