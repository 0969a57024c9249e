"""Looking at jobs: lists, counts, one in full, its history."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from psycopg import sql

from spinor.access import Caller
from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.errors import UnknownJob
from spinor.jobs.looking import store
from spinor.jobs.models import (
    HistoryEntry,
    Job,
    JobIds,
    JobPage,
    JobStatus,
    JobSummary,
    SummariseJobs,
    Waited,
)
from spinor.jobs.rows import StoredJob
from spinor.jobs.rules import named
from spinor.jobs.sandboxes import store as sandboxes
from spinor.jobs.specs import spec_of
from spinor.search import parse
from spinor.search.expression import BadQuery
from spinor.search.fields import Field, FieldKind, Fields
from spinor.search.models import Search
from spinor.search.page import compile_page
from spinor.search.summary import compile_summary
from spinor.search.where import compile_where

_STATES = tuple(status.value for status in JobStatus)


def _fields() -> Fields:
    integer, text, seconds, instant = FieldKind.INTEGER, FieldKind.TEXT, FieldKind.SECONDS, FieldKind.TIMESTAMP
    declared = [
        Field("job_id", sql.SQL("j.job_id"), integer, summable=False),
        Field("array_id", sql.SQL("j.array_id"), integer),
        Field("array_index", sql.SQL("j.array_index"), integer),
        Field("name", sql.SQL("j.name"), text),
        Field("job_group", sql.SQL("j.job_group"), text),
        Field("job_type", sql.SQL("j.job_type"), text),
        Field("status", sql.SQL("j.status"), FieldKind.ENUM, values=_STATES),
        Field("minor_status", sql.SQL("j.minor_status"), text),
        Field("application_status", sql.SQL("j.application_status"), text),
        Field("owner", sql.SQL("j.owner"), text),
        Field("group", sql.SQL('j."group"'), text),
        Field("site", sql.SQL("j.site"), text, nullable=True),
        Field("computing_element", sql.SQL("j.computing_element"), text, nullable=True),
        Field("priority", sql.SQL("j.priority"), integer),
        Field("attempt", sql.SQL("j.attempt"), integer),
        Field("pilot_id", sql.SQL("j.pilot_id"), integer, nullable=True),
        Field("exit_code", sql.SQL("j.exit_code"), integer, nullable=True),
        Field("submitted_at", sql.SQL("j.submitted_at"), instant, summable=False),
        Field("started_at", sql.SQL("j.started_at"), instant, nullable=True, summable=False),
        Field("ended_at", sql.SQL("j.ended_at"), instant, nullable=True, summable=False),
        Field("updated_at", sql.SQL("j.updated_at"), instant, summable=False),
        Field("cpu_s", sql.SQL("j.cpu_s"), seconds, nullable=True, summable=False),
        Field("wall_s", sql.SQL("j.wall_s"), seconds, nullable=True, summable=False),
        Field("max_rss_bytes", sql.SQL("j.max_rss_bytes"), FieldKind.BYTES, nullable=True, summable=False),
    ]
    by_name = {field.name: field for field in declared}
    # `submitted>-1d` reads better than `submitted_at>-1d`; both are understood.
    short = {name.removesuffix("_at"): field for name, field in by_name.items() if name.endswith("_at")}
    return Fields({**by_name, **short})


FIELDS = _fields()

# What the counters know of jobs.
COUNTED = Fields(
    [
        Field("status", sql.SQL("t.status"), FieldKind.ENUM, values=_STATES),
        Field("owner", sql.SQL("u.name"), FieldKind.TEXT),
        Field("group", sql.SQL("g.name"), FieldKind.TEXT),
        Field("site", sql.SQL("s.name"), FieldKind.TEXT, nullable=True),
        Field("computing_element", sql.SQL("c.name"), FieldKind.TEXT, nullable=True),
        Field("job_type", sql.SQL("coalesce(q.wants ->> 'job_type', 'user')"), FieldKind.TEXT),
    ]
)


async def search_jobs(tx: Tx, caller: Caller, search: Search, now: datetime | None = None) -> JobPage:
    """A page of the VO's jobs, the newest first unless the search says otherwise. Raises BadQuery."""
    if not search.sort:
        search = msgspec.structs.replace(search, sort=["-job_id"])
    page = compile_page(search, FIELDS, "job_id", now or datetime.now(UTC))
    rows, token = page.split(await store.search_jobs(tx, caller.vo_id, page))
    return JobPage(rows=rows, next=token)


async def summarise_jobs(tx: Tx, caller: Caller, asked: SummariseJobs, now: datetime | None = None) -> JobSummary:
    """The VO's jobs counted by some fields, the largest group first. Raises BadQuery.

    What the counters know is read from them, however many jobs there are.
    """
    expression = parse(asked.where)
    instant = now or datetime.now(UTC)
    try:
        where, parameters = compile_where(expression, COUNTED, instant)
        summary = compile_summary(asked.by, COUNTED, sql.SQL("sum(t.jobs)::bigint"))
    except BadQuery:
        where, parameters = compile_where(expression, FIELDS, instant)
        summary = compile_summary(asked.by, FIELDS)
        rows = await store.summarise_jobs(tx, caller.vo_id, summary, where, parameters)
    else:
        rows = await store.summarise_tally(tx, caller.vo_id, summary, where, parameters)
    groups = [group for group in summary.groups(rows) if group["count"]]
    return JobSummary(groups=groups, total=sum(group["count"] for group in groups))


async def stored_job(tx: Tx, caller: Caller, job_id: int) -> StoredJob:
    job = await store.find_job(tx, caller.vo_id, job_id)
    if job is None:
        raise UnknownJob(f"There is no job {job_id} in your VO.", job_id=job_id)
    return job


async def show_job(tx: Tx, caller: Caller, job_id: int) -> Job:
    """One job in full."""
    job = await stored_job(tx, caller, job_id)
    output = await sandboxes.find_output_sandbox(tx, caller.vo_id, job_id)
    known = {name: getattr(job, name) for name in StoredJob.__struct_fields__ if name in Job.__struct_fields__}
    return Job(**known, description=spec_of(job), output_sandbox=output)


async def job_history(tx: Tx, caller: Caller, job_id: int) -> list[HistoryEntry]:
    """Every change of a job's state, the oldest first."""
    await stored_job(tx, caller, job_id)
    return await store.list_history(tx, caller.vo_id, job_id)


async def arrays_of(tx: Tx, caller: Caller, ids: JobIds) -> set[int]:
    """The arrays of these jobs; UnknownJob when one of the ids is not the VO's."""
    found = await store.list_known_ids(tx, caller.vo_id, ids.job_ids, ids.array_ids)
    _check("job", ids.job_ids, {row.id for row in found if row.kind == "job"})
    _check("array", ids.array_ids, {row.id for row in found if row.kind == "array"})
    return {row.array_id for row in found}


def _check(kind: str, asked: Sequence[int], known: set[int]) -> None:
    missing = sorted(set(asked) - known)
    if missing:
        raise UnknownJob(f"There is no {kind} {named([str(each) for each in missing])} in your VO.", ids=missing[:100])


async def count_jobs(tx: Tx, caller: Caller, ids: JobIds) -> Waited:
    """The jobs by their status."""
    counts = await store.count_jobs(tx, caller.vo_id, ids.job_ids, ids.array_ids)
    total = sum(counts.values())
    ended = sum(count for status, count in counts.items() if JobStatus(status) in rules.FINAL)
    return Waited(counts=counts, total=total, ended=ended, all_ended=ended == total)
