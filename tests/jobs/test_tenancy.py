"""Nobody sees or touches a job, a log or a sandbox of another VO, and only an administrator another user's job."""

import io
import tarfile

import pytest

from spinor.access import Caller, Scope
from spinor.errors import SpinorError
from spinor.jobs import service
from spinor.jobs.models import CommandJobs, FinishReport, Held, JobStatus, LogChunk, LogStream
from tests.asgi import Http

from .workbench import Workbench, echo, pilot_of


def archive(content: bytes = b"x", name: str = "f") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


async def test_every_address_hides_what_is_another_vos(bench: Workbench, http: Http) -> None:
    ada, bea = bench.world.ada, bench.world.bea
    sandbox = (await http(ada, "PUT", "/api/sandboxes", archive())).json["sandbox_id"]
    job = await bench.running(echo(input_sandboxes=[sandbox]))
    await bench.finish(job, exit_code=1, output_sandbox_id=sandbox)
    job_id = job.job_id
    reads = [f"/api/jobs/{job_id}{part}" for part in ("", "/history", "/explain", "/log", "/output")]
    for path in [*reads, f"/api/sandboxes/{sandbox}"]:
        assert (await http(ada, "GET", path)).status == 200, path
        answer = await http(bea, "GET", path)
        assert answer.status == 404, path
        assert str(job_id) in answer.json["detail"] or "job" not in path
    assert (await http(bea, "POST", "/api/jobs/search", {})).json == {"rows": [], "next": None}
    assert (await http(bea, "POST", "/api/jobs/summary", {})).json == {"groups": [], "total": 0}
    for ids in ({"job_ids": [job_id]}, {"array_ids": [1]}):
        assert (await http(bea, "POST", "/api/jobs/wait", ids)).status == 404
    for verb in ("kill", "reschedule"):
        outcome = (await http(bea, "POST", f"/api/jobs/{verb}", {"job_ids": [job_id]})).json
        assert (outcome["done"], outcome["refused"][0]["code"]) == ([], "unknown-job")
        assert (await http(bea, "POST", f"/api/jobs/{verb}", {"array_ids": [1]})).status == 404
    refused = await http(bea, "POST", "/api/jobs", {"specs": [{"executable": "x", "input_sandboxes": [sandbox]}]})
    assert refused.status == 404
    assert await bench.status(job_id) is JobStatus.FAILED


async def test_a_pilot_of_another_vo_holds_nothing(bench: Workbench) -> None:
    job = await bench.running()
    stranger = pilot_of(bench.world.bea, 1)  # The same number, which belongs to another VO here.
    chunk = LogChunk(job_id=job.job_id, attempt=1, stream=LogStream.STDOUT, position=0, data=b"x")
    for verb, arguments in (
        (service.append_log, (chunk,)),
        (service.start_job, (job.job_id, 1)),
        (service.finish_job, (job.job_id, FinishReport(attempt=1, exit_code=0))),
    ):
        with pytest.raises(SpinorError) as caught:
            await bench.run(verb, stranger, *arguments)
        assert caught.value.code == "stale-report"
    assert await bench.run(service.renew_leases, stranger, [Held(job_id=job.job_id, attempt=1)])
    assert await bench.status(job.job_id) is JobStatus.RUNNING


async def test_only_an_administrator_changes_another_users_job(bench: Workbench) -> None:
    job_id = await bench.submit_one()
    refused = (await bench.kill(job_id, caller=bench.world.alan)).refused
    assert [each.code for each in refused] == ["denied"]
    assert Scope.JOBS_MANAGE.value in refused[0].detail
    assert (await bench.kill(job_id, caller=bench.world.ada_admin)).done_ids == [job_id]
    assert (await bench.reschedule(job_id, caller=bench.world.ada_admin)).done_ids == [job_id]
    monitor = Caller(**{name: getattr(bench.world.ada, name) for name in ("vo_id", "vo", "user_id", "user")},
                     group_id=0, group="monitors", scopes=frozenset({Scope.JOBS_READ.value}))  # fmt: skip
    assert (await bench.kill(job_id, caller=monitor)).refused[0].code == "denied"


async def test_a_command_answers_for_each_id(bench: Workbench) -> None:
    done = await bench.running()
    await bench.finish(done)
    waiting = await bench.submit_one()
    outcome = await bench.kill(waiting, done.job_id, 999)
    assert outcome.done_ids == [waiting]
    assert [(each.ids, each.code) for each in outcome.refused] == [
        ([done.job_id], "transition-refused"), ([999], "unknown-job"),
    ]  # fmt: skip
    assert "is done" in outcome.refused[0].detail
    again = await bench.reschedule(waiting)
    assert again.done_ids == [waiting]


async def test_an_array_is_killed_as_a_whole(bench: Workbench) -> None:
    [array] = (await bench.submit(echo(parameters={"n": list(range(30))}))).arrays
    await bench.match(max_jobs=5)
    command = CommandJobs(array_ids=[array.array_id], reason="wrong input")
    outcome = await service.kill_jobs(bench.db, bench.world.ada, command)
    assert outcome.done_ids == array.ids
    assert await bench.rows("SELECT DISTINCT reason FROM jobs.job_history WHERE status = 'killed'") == [
        ("wrong input",)
    ]
