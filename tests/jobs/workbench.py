"""What the tests of jobs work with: two VOs, their pilots, and verbs that each run in a transaction of their own."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from spinor.access import Caller, Scope
from spinor.db import Database, fetch_rows
from spinor.jobs import service
from spinor.jobs.models import (
    Assignment,
    CommandJobs,
    FinishReport,
    JobSpec,
    JobStatus,
    Offer,
    Outcome,
    Slot,
    Submitted,
)
from spinor.jobs.service import Elements, Matcher
from tests.conftest import World

T = TypeVar("T")
GB = 10**9


def offer(cores: int = 8, memory_bytes: int = 64 * GB, wall_s: int = 86_400, tags: Sequence[str] = ()) -> Offer:
    return Offer(cores=cores, memory_bytes=memory_bytes, disk_bytes=1000 * GB, wall_s=wall_s, tags=list(tags))


def pilot_of(caller: Caller, pilot_id: int) -> Caller:
    """A pilot of the caller's VO."""
    return Caller(
        vo_id=caller.vo_id, vo=caller.vo, user_id=0, user="", group_id=0, group="",
        scopes=frozenset({Scope.PILOT_ACT.value}), pilot_id=pilot_id,
    )  # fmt: skip


def echo(**fields: Any) -> JobSpec:
    return JobSpec(**{"executable": "echo", "arguments": ["hello"], **fields})


class Workbench:
    def __init__(self, world: World) -> None:
        self.db: Database = world.db
        self.world = world
        self.matcher = Matcher()
        self.elements = Elements()

    async def run(self, verb: Callable[..., Awaitable[T]], *arguments: Any, **named: Any) -> T:
        async with self.db.transaction() as tx:
            return await verb(tx, *arguments, **named)

    async def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return await self.run(fetch_rows, query, parameters)

    async def submit(self, *specs: JobSpec, caller: Caller | None = None, key: str | None = None) -> Submitted:
        return await self.run(service.submit_jobs, caller or self.world.ada, self.elements, specs or [echo()], key)

    async def submit_one(self, spec: JobSpec | None = None, caller: Caller | None = None) -> int:
        return (await self.submit(spec or echo(), caller=caller)).arrays[0].ids[0]

    async def match(
        self, pilot_id: int = 1, max_jobs: int = 1, what: Offer | None = None, site: str = "LOCAL",
        caller: Caller | None = None,
    ) -> list[Assignment]:  # fmt: skip
        slot = Slot(pilot_id=pilot_id, site=site, site_id=1, ce="local", ce_id=1, offer=what or offer())
        self.matcher.forget()
        pilot = pilot_of(caller or self.world.ada, pilot_id)
        return await self.run(service.match_jobs, self.matcher, pilot, slot, max_jobs)

    async def running(self, spec: JobSpec | None = None, pilot_id: int = 1) -> Assignment:
        """A job that was submitted, matched and started."""
        await self.submit(spec or echo())
        [job] = await self.match(pilot_id)
        await self.run(service.start_job, self.pilot(pilot_id), job.job_id, job.attempt)
        return job

    def pilot(self, pilot_id: int = 1) -> Caller:
        return pilot_of(self.world.ada, pilot_id)

    async def finish(self, job: Assignment, pilot_id: int = 1, **report: Any) -> JobStatus:
        given = {"attempt": job.attempt, "exit_code": 0, **report}
        return await self.run(service.finish_job, self.pilot(pilot_id), job.job_id, FinishReport(**given))

    async def kill(self, *job_ids: int, caller: Caller | None = None) -> Outcome:
        return await service.kill_jobs(self.db, caller or self.world.ada, CommandJobs(job_ids=list(job_ids)))

    async def reschedule(self, *job_ids: int, caller: Caller | None = None) -> Outcome:
        return await service.reschedule_jobs(self.db, caller or self.world.ada, CommandJobs(job_ids=list(job_ids)))

    async def status(self, job_id: int) -> JobStatus:
        [(status,)] = await self.rows("SELECT status FROM jobs.job WHERE job_id = %(job_id)s", job_id=job_id)
        return JobStatus(status)

    async def history(self, job_id: int) -> list[str]:
        return [entry.status for entry in await self.run(service.job_history, self.world.ada, job_id)]
