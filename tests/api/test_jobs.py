"""Jobs as objects, on a real service."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import spinor
from spinor.api import Grid, Job, JobArray, JobFailed, JobSet, NotAllDone, StillRunning
from spinor.jobs.models import JobSpec

pytestmark = pytest.mark.acceptance


def test_one_job_from_its_submission_to_its_result(grid: Grid) -> None:
    job = grid.submit(executable="sh", arguments=["-c", "echo out; echo err >&2"], name="one")
    assert isinstance(job, Job)
    assert job.result(120) == (0, "out\n", "err\n")
    assert job == grid.jobs[job.job_id]
    assert [entry.status for entry in job.history()][-1] == "done"
    assert "ended well" in job.explain()


def test_a_job_that_fails_says_why(grid: Grid) -> None:
    job = grid.submit(JobSpec(executable="sh", arguments=["-c", "exit 4"]))
    assert isinstance(job, Job)
    with pytest.raises(JobFailed, match="exit code 4"):
        job.result(120)


def test_an_array_is_known_without_asking(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "three.yaml").write_text(
        "executable: sh\narguments: [-c, 'echo {n} > {n}.txt; echo {n}']\noutput_sandbox: ['*.txt']\n"
        "parameters: {n: [7, 8, 9]}\n"
    )
    array = grid.submit(tmp_path / "three.yaml")
    assert isinstance(array, JobArray)
    assert len(array) == 3
    assert [job.job_id for job in array] == [array[n].job_id for n in range(3)]
    assert array[-1].job_id == array[2].job_id
    with pytest.raises(IndexError):
        array[3]
    assert array.wait(120).counts == {"done": 3}
    assert [job.log() for job in array[1:]] == ["8\n", "9\n"]
    assert [path.read_text() for path in array[0].output("out")] == ["7\n"]
    assert {row.job_id for row in grid.jobs.array(array.array_id).rows} == {job.job_id for job in array}


def test_several_descriptions_are_one_set(grid: Grid) -> None:
    found = grid.submit({"executable": "true"}, {"executable": "false"})
    assert isinstance(found, JobSet)
    assert found.wait(120).counts == {"done": 1, "failed": 1}
    assert sorted(row.status.value for row in found.refresh().rows) == ["done", "failed"]


def test_lines_come_while_it_runs(grid: Grid) -> None:
    job = grid.submit(executable="sh", arguments=["-c", "echo first; sleep 1; printf last"])
    assert isinstance(job, Job)
    assert list(job.lines()) == ["first", "last"]
    assert list(job.lines()) == ["first", "last"]  # Each iteration begins anew.


async def test_asyncio_goes_on_meanwhile(grid: Grid) -> None:
    job = grid.submit(executable="sh", arguments=["-c", "echo a; sleep 1; echo b"])
    assert isinstance(job, Job)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    other = asyncio.create_task(tick())
    lines = [line async for line in job.lines()]
    assert (await job).status == "done"
    other.cancel()
    assert lines == ["a", "b"]
    assert ticks > 5


def test_threads_share_what_is_connected(grid: Grid) -> None:
    job = grid.submit(executable="sh", arguments=["-c", "for n in 1 2 3; do echo $n; sleep 1; done"])
    assert isinstance(job, Job)
    with ThreadPoolExecutor(8) as threads:
        followed = [threads.submit(list, job.lines()) for _ in range(3)]
        looked = [threads.submit(lambda: (job.wait().status, len(job.history()))) for _ in range(5)]
        assert [each.result() for each in followed] == [["1", "2", "3"]] * 3
        assert {each.result()[0] for each in looked} == {"done"}


def test_commands_are_about_each_job(grid: Grid) -> None:
    held = grid.submit(executable="true", hold=True)
    assert isinstance(held, Job)
    held.prioritise(9)
    assert held.model.priority == 9
    with pytest.raises(StillRunning):
        held.wait(0)
    assert held.release().wait(120).status == "done"
    gone = grid.submit(executable="sleep", arguments=["600"])
    assert isinstance(gone, Job)
    assert gone.kill("not needed").wait(120).status == "killed"
    assert gone.history()[-1].reason == "not needed"
    with pytest.raises(NotAllDone, match="already killed") as caught:
        gone.kill()
    assert [refused.ids for refused in caught.value.outcome.refused] == [[gone.job_id]]
    assert gone.delete().status == "deleted"
    nobody = grid.jobs.where("name=nobody")
    assert len(nobody.kill().wait()) == 0  # A search that has found nothing commands nothing.


def test_events_come_until_all_have_ended(grid: Grid) -> None:
    job = grid.submit(executable="sh", arguments=["-c", "sleep 1; exit 3"])
    assert isinstance(job, Job)
    seen = [(event.job_id, event.status.value) for event in job.events()]
    assert seen[0][0] == job.job_id
    assert [status for _, status in seen][-2:] == ["running", "failed"]
    changes = [entry.status for entry in job.history()]
    assert [event.status for event in job.events()] == changes[len(changes) - len(seen) :]
    both = grid.submit(executable="true", parameters={"n": [1, 2]})
    assert isinstance(both, JobArray)
    ended = [event.job_id for event in both.events() if event.status == "done"]
    assert sorted(ended) == [each.job_id for each in both]


async def test_events_come_while_other_tasks_go_on(grid: Grid) -> None:
    job = grid.submit(executable="true")
    assert isinstance(job, Job)
    assert [event.status async for event in job.events()][-1] == "done"


def test_attempts_and_use_are_kept(grid: Grid) -> None:
    job = grid.submit(executable="sh", arguments=["-c", "exit 1"], cores=1)
    assert isinstance(job, Job)
    job.wait(120).reschedule("once more").wait(120)
    assert [(each.attempt, each.status, each.exit_code) for each in job.attempts()] == [
        (1, "failed", 1),
        (2, "failed", 1),
    ]
    assert job.usage().job_id == job.job_id


def test_connect_is_all_there_is_to_import() -> None:
    assert spinor.connect is not None
    with pytest.raises(AttributeError):
        spinor.disconnect  # noqa: B018
