"""`spinor file fsck` from the words on the command line to rows and bytes: check, repair, check again, undo."""

import json
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from spinor.catalog.models import RemoveRequest
from spinor.catalog.service import remove_files
from spinor.db import fetch_rows, fetch_value

from .direct import Commands
from .workbench import World, check_sums, register

OLD_S = 1_700_000_000


class Storage:
    """A storage element's bytes, and the dump that its site makes of them."""

    def __init__(self, world: World, work: Path) -> None:
        self.world = world
        self.root = world.storage_root
        self.work = work
        self.sums: dict[str, str] = {}  # Instead of the true ones.

    def write(self, pfn: str, content: bytes, *, age_s: int | None = OLD_S) -> None:
        path = self.root / pfn
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if age_s is not None:
            os.utime(path, (age_s, age_s))

    async def put(self, lfn: str, content: bytes, *, adler32: bool = True, **facts: Any) -> None:
        self.write(lfn[1:], content)
        known = {"adler32": f"{zlib.adler32(content):08x}"} if adler32 else {}
        await register(self.world.db, self.world.ada, lfn, size_bytes=len(content), **known, **facts)

    def dump(self) -> str:
        lines = ["pfn,size_bytes,adler32,modified_at"]
        for path in sorted(path for path in self.root.rglob("*") if path.is_file()):
            pfn, content = str(path.relative_to(self.root)), path.read_bytes()
            sums = self.sums.get(pfn, f"{zlib.adler32(content):08x}")
            lines.append(f"{pfn},{len(content)},{sums},{int(path.stat().st_mtime)}")
        target = self.work / "dump.csv"
        target.write_text("\n".join(lines) + "\n")
        return str(target)


@pytest.fixture
def spinor(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(world.db, monkeypatch)


@pytest.fixture
async def storage(world: World, tmp_path: Path, database_url: str) -> Storage:
    """One file of every kind of fault, and one without any."""
    storage = Storage(world, tmp_path)
    await storage.put("/astro/run/good", b"good")
    await storage.put("/astro/run/size", b"as registered")
    storage.write("astro/run/size", b"cut")
    await storage.put("/astro/run/checksum", b"content")
    storage.sums["astro/run/checksum"] = "00000bad"
    await storage.put("/astro/run/unsummed", b"unsummed", adler32=False)
    await storage.put("/astro/run/lost", b"lost")
    (storage.root / "astro/run/lost").unlink()
    storage.write("astro/run/dark", b"dark")
    storage.write("astro/run/young", b"young", age_s=None)
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE catalog.file SET created_at = now() - interval '2 days'")
    await register(world.db, world.ada, "/astro/run/just-registered")
    return storage


EXPECTED = {
    ("size", "astro/run/size"), ("checksum", "astro/run/checksum"), ("no-checksum", "astro/run/unsummed"),
    ("lost", "astro/run/lost"), ("dark", "astro/run/dark"),
}  # fmt: skip
# A check without a margin tells of these too; and only such a check tells of replicas that were changed just now.
YOUNG = {("dark", "astro/run/young"), ("lost", "astro/run/just-registered")}


def found(report: Path) -> set[tuple[str, str]]:
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    return {(row["kind"], row["pfn"]) for row in rows if row["record"] == "finding"}


async def check(spinor: Commands, storage: Storage, report: Path, *words: str) -> int:
    where = () if "--list" in words else ("--dump", storage.dump())
    return await spinor(
        storage.world.ada_admin, "file", "fsck", "--se", "local-se", *where, "--report", str(report), *words
    )


async def test_exactly_what_was_planted_is_found(storage: Storage, spinor: Commands, tmp_path: Path) -> None:
    report = tmp_path / "first.ndjson"
    assert await check(spinor, storage, report) == 1
    assert found(report) == EXPECTED
    footer = json.loads(report.read_text().splitlines()[-1])
    assert footer["counts"]["too-young"] == 2
    assert footer["counts"]["equal"] == 1
    async with storage.world.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM catalog.removal") == 0, "a check changed something"


async def test_a_walk_finds_the_same_but_checksums(storage: Storage, spinor: Commands, tmp_path: Path) -> None:
    report = tmp_path / "walk.ndjson"
    assert await check(spinor, storage, report, "--list") == 1
    told = {(kind, pfn) for kind, pfn in EXPECTED if kind not in ("checksum", "no-checksum")}
    assert found(report) == told


@pytest.mark.parametrize("suffix", ["ndjson", "parquet"])
async def test_repair_then_clean_then_undo(
    storage: Storage, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    admin, report = storage.world.ada_admin, tmp_path / f"first.{suffix}"
    assert await check(spinor, storage, report) == 1
    repair = ("file", "fsck", "--repair", str(report), "--dark", "adopt", "--lost", "remove")
    assert await spinor(admin, *repair) == 0
    await check_sums(storage.world.db)
    assert await check(spinor, storage, tmp_path / "second.ndjson") == 0
    assert await spinor(admin, *repair) == 0, "what was done already is no refusal"
    capsys.readouterr()
    assert await spinor(admin, "file", "fsck", "--undo", str(report), "--json") == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sum(first["counts"].values()) == 5
    await check_sums(storage.world.db)
    assert await check(spinor, storage, tmp_path / "third.ndjson", "--margin", "0") == 1
    assert found(tmp_path / "third.ndjson") == EXPECTED | YOUNG


async def test_deleted_dark_files_wait_and_can_be_kept(storage: Storage, spinor: Commands, tmp_path: Path) -> None:
    admin, report = storage.world.ada_admin, tmp_path / "first.ndjson"
    await check(spinor, storage, report)
    assert await spinor(admin, "file", "fsck", "--repair", str(report), "--dark", "delete", "--lost", "keep") == 0
    async with storage.world.db.transaction() as tx:
        rows = await fetch_rows(tx, "SELECT names, not_before > now() + interval '23 hours' FROM catalog.removal")
    assert rows == [(["dark"], True)]
    await check(spinor, storage, tmp_path / "second.ndjson")
    assert found(tmp_path / "second.ndjson") == {("lost", "astro/run/lost")}
    log = tmp_path / "first.repair-1.ndjson"
    assert await spinor(admin, "file", "fsck", "--undo", str(log)) == 0
    async with storage.world.db.transaction() as tx:
        assert await fetch_value(tx, "SELECT count(*) FROM catalog.removal") == 0
    await check(spinor, storage, tmp_path / "third.ndjson", "--margin", "0")
    assert found(tmp_path / "third.ndjson") == EXPECTED | YOUNG


async def test_marked_replicas_come_back(storage: Storage, spinor: Commands, tmp_path: Path) -> None:
    report = tmp_path / "first.ndjson"
    await check(spinor, storage, report)
    assert await spinor(storage.world.ada_admin, "file", "fsck", "--repair", str(report)) == 0
    storage.write("astro/run/lost", b"lost")
    await check(spinor, storage, tmp_path / "second.ndjson", "--margin", "0")
    assert found(tmp_path / "second.ndjson") >= {("returned", "astro/run/lost"), ("dark", "astro/run/dark")}
    repair = ("file", "fsck", "--repair", str(tmp_path / "second.ndjson"))
    assert await spinor(storage.world.ada_admin, *repair) == 0
    await check(spinor, storage, tmp_path / "third.ndjson", "--margin", "0")
    assert ("returned", "astro/run/lost") not in found(tmp_path / "third.ndjson")
    await check_sums(storage.world.db)


async def test_a_repair_that_is_broken_off_is_taken_back(storage: Storage, spinor: Commands, tmp_path: Path) -> None:
    """The second kind of change is refused by the wire: what was done before is in the log, and what may have been."""
    admin, report = storage.world.ada_admin, tmp_path / "first.ndjson"
    await check(spinor, storage, report)
    asked = Counter[str]()

    def disturb(_method: str, what: str) -> None:
        asked[what] += 1
        if what == "after /api/files/repairs" and asked[what] == 2:
            raise KeyboardInterrupt

    repair = ("file", "fsck", "--repair", str(report), "--dark", "adopt", "--lost", "remove")
    assert await spinor(admin, *repair, disturb=disturb) != 0
    assert await spinor(admin, *repair) == 0
    assert await check(spinor, storage, tmp_path / "second.ndjson") == 0
    assert await spinor(admin, "file", "fsck", "--undo", str(report)) == 0
    await check(spinor, storage, tmp_path / "third.ndjson", "--margin", "0")
    assert found(tmp_path / "third.ndjson") == EXPECTED | YOUNG
    await check_sums(storage.world.db)


async def test_what_has_moved_on_is_refused(storage: Storage, spinor: Commands, tmp_path: Path) -> None:
    report = tmp_path / "first.ndjson"
    await check(spinor, storage, report)
    await register(storage.world.db, storage.world.ada, "/astro/other", pfn="astro/run/dark", size_bytes=4)
    async with storage.world.db.transaction() as tx:
        await remove_files(tx, storage.world.ada, RemoveRequest(paths=["/astro/run/lost", "/astro/run/size"]))
    repair = ("file", "fsck", "--repair", str(report), "--lost", "remove", "--dark")
    assert await spinor(storage.world.ada_admin, *repair, "delete") == 1
    assert await spinor(storage.world.ada_admin, *repair, "adopt") == 1
    async with storage.world.db.transaction() as tx:
        names = await fetch_rows(tx, "SELECT unnest(names) FROM catalog.removal ORDER BY 1")
    assert names == [("lost",), ("size",)]
    await check_sums(storage.world.db)


async def test_bytes_of_another_vo_are_not_dark(
    storage: Storage, spinor: Commands, tmp_path: Path, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            """INSERT INTO resources.storage_access (se_id, vo_id)
               SELECT se_id, 2 FROM resources.storage_element WHERE name = 'local-se'"""
        )
    storage.write("bio/theirs", b"theirs")
    await register(storage.world.db, storage.world.bea, "/bio/theirs", size_bytes=6)
    report = tmp_path / "first.ndjson"
    assert await check(spinor, storage, report) == 1
    assert found(report) == EXPECTED
    assert json.loads(report.read_text().splitlines()[-1])["counts"]["sieved"] == 1


async def test_a_path_narrows_the_report(storage: Storage, spinor: Commands, tmp_path: Path) -> None:
    await storage.put("/astro/other/lost", b"x")
    (storage.root / "astro/other/lost").unlink()
    storage.write("astro/other/dark", b"x")
    report = tmp_path / "narrow.ndjson"
    assert await check(spinor, storage, report, "--margin", "0", "--path", "/astro/other") == 1
    assert found(report) == {("lost", "astro/other/lost"), ("dark", "astro/other/dark")}


async def test_who_may_not_manage_checks_nothing(storage: Storage, spinor: Commands, tmp_path: Path) -> None:
    for caller in (storage.world.ada, storage.world.bea):
        words = ("file", "fsck", "--se", "local-se", "--dump", storage.dump(), "--report", str(tmp_path / "x.ndjson"))
        assert await spinor(caller, *words) in (3, 4)
        assert await spinor(caller, "file", "fsck") == 4


async def test_the_catalog_against_itself(
    storage: Storage, spinor: Commands, tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = storage.world.ada_admin
    report = tmp_path / "invariants.ndjson"
    assert await spinor(admin, "file", "fsck", "--report", str(report)) == 0
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE catalog.directory SET file_count = file_count + 3 WHERE path = '/astro/run'")
        conn.execute("DELETE FROM catalog.directory_usage")
        conn.execute("UPDATE catalog.file SET access_id = 999 WHERE name = 'lost'")
    assert await spinor(admin, "file", "fsck", "/astro/run", "--report", str(report), "--json") == 1
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])["counts"]
    assert counts["directories_that_count_wrong"] == 1
    assert counts["files_of_strange_access"] == 1
    assert await spinor(admin, "file", "fsck", "--repair", str(report)) == 0
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            """UPDATE catalog.file SET access_id = (SELECT access_id FROM catalog.file WHERE name = 'good')
               WHERE name = 'lost'"""
        )
    again = tmp_path / "again.ndjson"
    await spinor(admin, "file", "fsck", "--report", str(again))
    assert await spinor(admin, "file", "fsck", "--repair", str(again)) == 0
    assert await spinor(admin, "file", "fsck", "--report", str(again)) == 0
    log = tmp_path / "invariants.repair-1.ndjson"
    assert '"before":{"files":' in log.read_text()
    for one in (report, log):
        assert await spinor(admin, "file", "fsck", "--undo", str(one)) == 5
    assert "is not taken back" in capsys.readouterr().err
    await check_sums(storage.world.db)


@pytest.mark.parametrize(
    "words",
    [
        ("--se", "local-se"), ("--list",), ("--se", "local-se", "--list", "--dump", "x"), ("--repair", "x", "/astro"),
        ("--se", "local-se", "--list", "--undo", "x"), ("--se", "local-se", "--list", "--margin", "soon"),
        ("--se", "local-se", "--dump", "x", "--dump-time", "noon"), ("/astro", "--path", "/astro/run"),
    ],
)  # fmt: skip
async def test_what_does_not_go_together(world: World, spinor: Commands, words: tuple[str, ...]) -> None:
    assert await spinor(world.ada_admin, "file", "fsck", *words) == 2
