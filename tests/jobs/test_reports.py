"""Reports of many jobs in one request: each has its own answer, and none is counted twice."""

from typing import Any

import pytest

from spinor.errors import BadInput
from spinor.jobs import service
from spinor.jobs.models import (
    Assignment,
    AttemptRef,
    EndReport,
    ErrorClass,
    JobStatus,
    OutputData,
    OutputFile,
    Reported,
    Reports,
)

from .workbench import Workbench, echo


def ref(job: Assignment, attempt: int | None = None) -> AttemptRef:
    return AttemptRef(job_id=job.job_id, attempt=attempt or job.attempt)


def end(job: Assignment, **fields: Any) -> EndReport:
    return EndReport(**{"job_id": job.job_id, "attempt": job.attempt, "exit_code": 0, **fields})


async def tell(bench: Workbench, pilot_id: int = 1, **reports: Any) -> Reported:
    return await bench.run(service.take_reports, bench.pilot(pilot_id), Reports(**reports))


async def held(bench: Workbench, count: int) -> list[Assignment]:
    await bench.submit(echo(parameters={"n": list(range(count))}))
    return await bench.match(max_jobs=count)


async def counted(bench: Workbench) -> dict[str, tuple[int, int]]:
    rows = await bench.rows("SELECT status::text, sum(jobs)::int, sum(cores)::int FROM jobs.tally_now GROUP BY 1")
    return {status: (jobs, cores) for status, jobs, cores in rows if jobs or cores}


async def test_each_report_has_its_own_answer(bench: Workbench) -> None:
    well, badly, starts, unused, elsewhere = await held(bench, 5)
    told = await tell(
        bench,
        started=[ref(starts), AttemptRef(job_id=elsewhere.job_id, attempt=7)],
        ended=[
            end(well, cpu_s=0.5, wall_s=1.0),
            EndReport(job_id=10**9, attempt=1, exit_code=0),
            end(badly, exit_code=3),
        ],
        returned=[ref(unused)],
    )
    assert [answer.status for answer in told.ended] == [JobStatus.DONE, None, JobStatus.FAILED]
    assert told.ended[1].refused is not None
    assert told.ended[1].refused.code == "stale-report"
    assert [answer.status for answer in told.started] == [JobStatus.RUNNING, None]
    assert [answer.status for answer in told.returned] == [JobStatus.WAITING]
    assert await bench.status(elsewhere.job_id) is JobStatus.MATCHED
    assert await bench.history(well.job_id) == ["waiting", "matched", "running", "done"]
    assert await counted(bench) == {
        "done": (1, 0), "failed": (1, 0), "matched": (1, 1), "running": (1, 1), "waiting": (1, 0),
    }  # fmt: skip


async def test_a_repeated_request_changes_nothing(bench: Workbench) -> None:
    jobs = await held(bench, 3)
    first = await tell(bench, ended=[end(job) for job in jobs])
    assert await tell(bench, ended=[end(job) for job in jobs]) == first
    assert await bench.rows("SELECT count(*) FROM jobs.ended_attempt") == [(3,)]
    assert await counted(bench) == {"done": (3, 0)}


async def test_another_pilot_reports_nothing(bench: Workbench) -> None:
    first, second, third = await held(bench, 3)
    told = await tell(bench, 2, started=[ref(first)], ended=[end(second)], returned=[ref(third)])
    for answer in (*told.started, *told.ended, *told.returned):
        assert answer.refused is not None
        assert answer.refused.status == 409
    assert {await bench.status(job.job_id) for job in (first, second, third)} == {JobStatus.MATCHED}


async def test_what_was_given_back_counts_as_no_retry(bench: Workbench) -> None:
    [job] = await held(bench, 1)
    await tell(bench, returned=[ref(job)])
    assert await bench.rows("SELECT retried, reschedules FROM jobs.job") == [(None, 0)]
    [again] = await bench.match(2)
    assert (again.job_id, again.attempt) == (job.job_id, job.attempt + 1)
    # The old attempt is over: nothing that its pilot says now counts.
    [late] = (await tell(bench, ended=[end(job)])).ended
    assert late.refused is not None
    assert await bench.status(job.job_id) is JobStatus.MATCHED


async def test_a_payload_that_runs_is_not_given_back(bench: Workbench) -> None:
    job = await bench.running()
    [answer] = (await tell(bench, returned=[ref(job)])).returned
    assert answer.refused is not None
    assert await bench.status(job.job_id) is JobStatus.RUNNING


async def test_outputs_that_are_refused_harm_no_other_report(bench: Workbench) -> None:
    data = [OutputData(path="a.root", lfn="/astro/a.root", se="local-se")]
    await bench.submit(echo(output_data=data), echo())
    first, second = await bench.match(max_jobs=2)
    wrong = OutputFile(lfn="/astro/other.root", se="local-se", pfn="other", size_bytes=1, adler32="00000001")
    told = await tell(bench, ended=[end(first, outputs=[wrong]), end(second)])
    assert told.ended[0].refused is not None
    assert told.ended[0].refused.code == "unwanted-output"
    assert told.ended[1].status is JobStatus.DONE


async def test_a_text_that_no_database_can_hold_is_kept_as_far_as_it_can(bench: Workbench) -> None:
    first, second = await held(bench, 2)
    told = await tell(
        bench, ended=[end(first, error="a\0b", error_class=ErrorClass.PAYLOAD, missing=["\0"]), end(second)]
    )
    assert [answer.status for answer in told.ended] == [JobStatus.FAILED, JobStatus.DONE]


async def test_a_job_is_told_of_once_in_a_request(bench: Workbench) -> None:
    [job] = await held(bench, 1)
    with pytest.raises(BadInput):
        await tell(bench, started=[ref(job)], ended=[end(job)])
