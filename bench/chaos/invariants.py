"""What must be true after any fault: of the tables, of the bytes, and of everything that was acknowledged.

`broken_tables` and `broken_bytes` ask nothing but a connection, so that any test can call them; `broken_promises` holds
the service to a ledger.
"""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from bench.chaos.ledger import ExpectedFile, ExpectedJob, Ledger
from spinor.db import Queries
from spinor.jobs.rules import TRANSITIONS

Q = Queries("bench.chaos", "invariants.sql")
CATALOG = Queries("spinor.catalog.invariants")
LAST_ID = 2**63 - 1
READING = ("read_files", "read_jobs")
MOST_SENTENCES = 20  # Of one invariant; a broken one usually breaks often.
# Why a payload that does not fail by itself may fail under these faults: it was killed.
EXPLAINED = ("ended by signal 9",)

Connection = psycopg.Connection[Any]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of a file: as the catalog says, and as the bytes are (None: there are none)."""

    size_bytes: int
    adler32: str | None
    sha256: str | None
    replicas: list[Path]


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """Promises that were not kept: how many acknowledged things are lost, and how many happened twice."""

    lost: int
    doubled: int
    sentences: list[str]


def broken_tables(conn: Connection) -> list[str]:
    """Every sentence of every statement of invariants.sql, and of the catalog's invariants."""
    pairs = [(old.value, new.value) for old, targets in TRANSITIONS.items() for new in targets]
    parameters = {
        "first": ["submitting", "received", "waiting"],
        "olds": [old for old, _ in pairs],
        "news": [new for _, new in pairs],
    }
    sentences: list[str] = []
    for name, statement in Q:
        if name not in READING:
            # Without parameters a % is nothing special, and most of the statements format their sentence with it.
            rows = conn.execute(statement.encode(), parameters if "%(" in statement else None).fetchall()
            sentences += [str(row[0]) for row in rows[:MOST_SENTENCES]]
            if len(rows) > MOST_SENTENCES:
                sentences.append(f"{name.replace('_', ' ')}: {len(rows) - MOST_SENTENCES:,} more")
    return sentences + _broken_catalog(conn)


def _broken_catalog(conn: Connection) -> list[str]:
    ids = [row[0] for row in conn.execute("SELECT directory_id FROM catalog.directory").fetchall()]
    parameters = {"vo_id": None, "directory_ids": ids, "low": -LAST_ID, "high": LAST_ID, "part": 0, "parts": 1}
    sentences: list[str] = []
    for name, statement in CATALOG:
        rows = conn.execute(statement.encode(), parameters).fetchall()
        sentences += [f"{path} {sentence}" for _, path, sentence in rows[:MOST_SENTENCES]]
        if len(rows) > MOST_SENTENCES:
            sentences.append(f"{name.replace('_', ' ')}: {len(rows) - MOST_SENTENCES:,} more")
    return sentences


def broken_bytes(files: dict[str, Found]) -> list[str]:
    """Every registered replica has bytes of the registered size and checksums."""
    return [sentence for lfn, found in files.items() for sentence in _broken_replicas(lfn, found)]


def _broken_replicas(lfn: str, found: Found) -> Iterator[str]:
    for path in found.replicas:
        try:
            content = path.read_bytes()
        except OSError as error:
            yield f"{lfn} has a replica at {path}, which cannot be read: {error.strerror}"
            continue
        if len(content) != found.size_bytes:
            yield f"{lfn} has {found.size_bytes} bytes, and its replica {len(content)}"
        if found.adler32 not in (None, f"{zlib.adler32(content):08x}"):
            yield f"{lfn} has the adler32 {found.adler32}, and its replica another"
        if found.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            yield f"{lfn} has the sha256 {found.sha256}, and its replica another"


def read_files(conn: Connection) -> dict[str, Found]:
    """All files of the catalog by LFN."""
    files: dict[str, Found] = {}
    for lfn, size_bytes, adler32, sha256, root, pfn in conn.execute(Q.read_files).fetchall():
        found = files.setdefault(lfn, Found(size_bytes=size_bytes, adler32=adler32, sha256=sha256, replicas=[]))
        if root is not None:
            found.replicas.append(Path(root) / pfn)
    return files


def broken_promises(conn: Connection, ledger: Ledger, files: dict[str, Found]) -> Broken:
    """Compare the end with everything that was acknowledged."""
    missing = [*_missing_files(ledger, files), *_missing_outputs(conn, ledger, files)]
    lost_jobs = list(_lost_jobs(conn, ledger))
    doubled = conn.execute(Q.jobs_done_twice).fetchall()
    returned = [f"{lfn} was removed or renamed, and is there again" for lfn in ledger.gone if lfn in files]
    return Broken(
        lost=len(missing) + len(lost_jobs),
        doubled=len(doubled) + len(returned),
        sentences=[*missing, *lost_jobs, *returned, *_odd_ends(conn, ledger), *ledger.surprises],
    )


def _missing_files(ledger: Ledger, files: dict[str, Found]) -> Iterator[str]:
    for lfn, expected in ledger.files.items():
        yield from _missing(lfn, expected, files.get(lfn), "was acknowledged")


def _missing(lfn: str, expected: ExpectedFile, found: Found | None, why: str) -> Iterator[str]:
    if found is None:
        yield f"{lfn} {why}, and is not in the catalog"
    elif not found.replicas:
        yield f"{lfn} {why}, and has no replica"
    elif (found.size_bytes, found.adler32) != (expected.size_bytes, expected.adler32):
        yield f"{lfn} {why} with {expected.size_bytes} bytes of adler32 {expected.adler32}, and has others"
    elif expected.sha256 is not None and found.sha256 != expected.sha256:
        yield f"{lfn} {why} with the sha256 {expected.sha256}, and has another"


def _missing_outputs(conn: Connection, ledger: Ledger, files: dict[str, Found]) -> Iterator[str]:
    done = {job_id for job_id, status, _, _ in conn.execute(Q.read_jobs).fetchall() if status == "done"}
    for job_id, job in ledger.jobs.items():
        for lfn, content in job.outputs.items():
            if job_id in done:
                yield from _missing(lfn, ExpectedFile.of(content), files.get(lfn), f"is an output of job {job_id}")
            elif lfn in files:
                yield f"{lfn} is registered, and job {job_id}, which should have made it, is not done"


def _lost_jobs(conn: Connection, ledger: Ledger) -> Iterator[str]:
    known = {row[0] for row in conn.execute(Q.read_jobs).fetchall()}
    for job_id in ledger.jobs.keys() - known:
        yield f"job {job_id} was acknowledged, and does not exist"


def _odd_ends(conn: Connection, ledger: Ledger) -> Iterator[str]:
    """Jobs that ended otherwise than what was done to them explains."""
    for job_id, status, exit_code, reason in conn.execute(Q.read_jobs).fetchall():
        job = ledger.jobs.get(job_id)
        if job is not None and not _explained(job, status, exit_code, reason):
            yield f"job {job_id} is {status} (exit code {exit_code}; {reason or 'no reason'}), which nothing explains"


def _explained(job: ExpectedJob, status: str, exit_code: int, reason: str) -> bool:
    if status == "killed" or job.killed:
        return status == "killed" and job.killed
    if status == "done":
        return not job.fails
    killed = any(words in reason for words in EXPLAINED)
    return status == "failed" and (killed or (job.fails and exit_code == 3))


def stray_bytes(conn: Connection, files: dict[str, Found], storage_root: Path) -> int:
    """Files on the storage that nothing in the catalog names: litter of attempts that were lost on the way."""
    named = {path for found in files.values() for path in found.replicas}
    named |= {
        storage_root / pfn
        for (pfn,) in conn.execute(
            "SELECT concat_ws('/', nullif(path, ''), name) FROM catalog.removal, unnest(names) AS name"
        ).fetchall()
    }
    return sum(1 for path in storage_root.rglob("*") if path.is_file() and path not in named)
