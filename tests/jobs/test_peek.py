"""Peeks: asked by the owner, told to the pilot that holds the job, answered by it alone, not waited for for ever."""

import asyncio
import base64
from typing import Any

import pytest

from spinor.jobs.models import Assignment
from spinor.jobs.service import take_peeks
from tests.asgi import Answer, Http

from .workbench import Workbench


def file(peek_id: int, attempt: int = 1, data: bytes = b"tail", **more: Any) -> dict[str, Any]:
    facts = {"kind": "file", "size_bytes": 100, "position": 96, "data": base64.b64encode(data).decode()}
    return {"peek_id": peek_id, "attempt": attempt, **facts, **more}


class Pilot:
    """What a pilot does about peeks, without the pilot."""

    def __init__(self, bench: Workbench, http: Http) -> None:
        self.bench, self.http = bench, http

    async def asked(self) -> list[dict[str, Any]]:
        """As its heartbeat is told."""
        async with asyncio.timeout(20):
            while True:
                found = await self.bench.run(take_peeks, self.bench.pilot())
                if found:
                    return [{name: getattr(each, name) for name in each.__struct_fields__} for each in found]
                await asyncio.sleep(0.02)

    async def answer(self, job_id: int, body: dict[str, Any], pilot_id: int = 1) -> Answer:
        return await self.http(self.bench.pilot(pilot_id), "PUT", f"/api/pilot/jobs/{job_id}/peek", body)


@pytest.fixture
def pilot(bench: Workbench, http: Http) -> Pilot:
    return Pilot(bench, http)


def look(http: Http, bench: Workbench, job: Assignment, query: str = "") -> "asyncio.Task[Answer]":
    return asyncio.create_task(http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/peek?wait_s=20{query}"))


async def test_the_pilot_is_asked_and_its_answer_shown(bench: Workbench, http: Http, pilot: Pilot) -> None:
    job = await bench.running()
    waiting = look(http, bench, job, "&path=out/./result.log&size_bytes=4")
    [asked] = await pilot.asked()
    assert asked == {
        "peek_id": asked["peek_id"], "job_id": job.job_id, "attempt": 1, "path": "out/result.log", "position": None,
        "size_bytes": 4,
    }  # fmt: skip
    assert (await pilot.answer(job.job_id, file(asked["peek_id"]))).status == 204
    answer = await waiting
    assert answer.status == 200
    assert base64.b64decode(answer.json["data"]) == b"tail"
    assert (answer.json["kind"], answer.json["position"], answer.json["size_bytes"]) == ("file", 96, 100)
    assert await bench.rows("SELECT count(*) FROM jobs.peek") == [(0,)]


async def test_a_directory_is_listed(bench: Workbench, http: Http, pilot: Pilot) -> None:
    job = await bench.running()
    waiting = look(http, bench, job)
    [asked] = await pilot.asked()
    entry = {"name": "a\x1b[31m.txt", "kind": "file", "size_bytes": 5, "modified_at": 1.5}
    body = {"peek_id": asked["peek_id"], "attempt": 1, "kind": "directory", "entries": [entry]}
    assert (await pilot.answer(job.job_id, body)).status == 204
    assert (await waiting).json["entries"] == [entry]


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("no-such-file", 404, "no-such-file"),
        ("outside", 422, "not-readable"),
        ("not-a-file", 422, "not-readable"),
        ("unreadable", 422, "not-readable"),
        ("not-here", 409, "not-running"),
    ],
)
async def test_what_the_pilot_refuses_is_told(
    bench: Workbench, http: Http, pilot: Pilot, code: str, status: int, told: str
) -> None:
    job = await bench.running()
    waiting = look(http, bench, job, "&path=link")
    [asked] = await pilot.asked()
    body = {"peek_id": asked["peek_id"], "attempt": 1, "kind": "refused", "code": code, "detail": "these words"}
    await pilot.answer(job.job_id, body)
    answer = await waiting
    assert (answer.status, answer.json["code"]) == (status, told)
    assert "these words" in answer.json["detail"]


async def test_a_silent_pilot_is_told_as_such(bench: Workbench, http: Http) -> None:
    job = await bench.running()
    answer = await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/peek?wait_s=0")
    assert (answer.status, answer.json["code"], answer.json["retry"]) == (503, "pilot-silent", True)
    assert await bench.rows("SELECT count(*) FROM jobs.peek") == [(0,)]


async def test_only_its_owner_and_who_manages_jobs_may_look(bench: Workbench, http: Http, pilot: Pilot) -> None:
    job = await bench.running()
    path = f"/api/jobs/{job.job_id}/peek?wait_s=0"
    assert (await http(bench.world.alan, "GET", path)).status == 403
    assert (await http(bench.world.bea, "GET", path)).status == 404
    assert (await http(bench.world.ada_admin, "GET", path)).status == 503


async def test_only_what_runs_can_be_looked_at(bench: Workbench, http: Http) -> None:
    job_id = await bench.submit_one()
    answer = await http(bench.world.ada, "GET", f"/api/jobs/{job_id}/peek")
    assert (answer.status, answer.json["code"]) == (409, "not-running")
    assert "waiting" in answer.json["detail"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a%00b"])
async def test_no_path_leads_out(bench: Workbench, http: Http, path: str) -> None:
    job = await bench.running()
    answer = await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/peek?path={path}")
    assert (answer.status, answer.json["code"]) == (422, "bad-path")


async def test_nobody_else_answers_and_nobody_twice(bench: Workbench, http: Http, pilot: Pilot) -> None:
    job = await bench.running()
    waiting = look(http, bench, job)
    [asked] = await pilot.asked()
    for pilot_id, attempt in ((2, 1), (1, 2)):
        answer = await pilot.answer(job.job_id, file(asked["peek_id"], attempt), pilot_id)
        assert (answer.status, answer.json["code"]) == (409, "stale-report")
    assert (await pilot.answer(job.job_id, file(asked["peek_id"]))).status == 204
    again = await pilot.answer(job.job_id, file(asked["peek_id"]))
    assert (again.status, again.json["code"]) == (404, "peek-over")
    assert (await waiting).status == 200


async def test_more_than_was_asked_for_is_refused(bench: Workbench, http: Http, pilot: Pilot) -> None:
    job = await bench.running()
    waiting = look(http, bench, job)
    [asked] = await pilot.asked()
    answer = await pilot.answer(job.job_id, file(asked["peek_id"], data=b"x" * (1024 * 1024 + 1)))
    assert answer.status == 422
    await pilot.answer(job.job_id, file(asked["peek_id"]))
    await waiting
