"""Streams of events: everything once and in order, and after a break of the connection from where it broke."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from spinor.access import Caller
from spinor.blobs import Blobs
from spinor.jobs import service
from spinor.jobs.logs import events, store
from spinor.jobs.logs.keeping import keep_logs
from spinor.jobs.models import JobStatus
from tests.asgi import Http

from .test_logs import append
from .workbench import Workbench, echo


class Heard:
    """A stream as a browser reads it: events with their ids, until it breaks off or ends."""

    def __init__(self, http: Http) -> None:
        self.http = http
        self.events: list[tuple[str, str, Any]] = []
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw = b""
        self._changed = asyncio.Event()
        self.ended = False

    @asynccontextmanager
    async def listening(self, caller: Caller, path: str, last: str = "") -> AsyncIterator["Heard"]:
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": "GET", "path": path, "query_string": query.encode(), "caller_of_test": caller,
            "headers": [(b"last-event-id", last.encode())] if last else [], "path_params": {}, "http_version": "1.1",
        }  # fmt: skip
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                self.raw += message.get("body", b"")
                self.ended = not message.get("more_body", False)
            self._read()
            self._changed.set()

        task = asyncio.create_task(self.http._service(scope, receive, send))
        try:
            yield self
        finally:
            gone.set()
            await task

    def _read(self) -> None:
        self.events = []
        for block in self.raw.split(b"\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":"))
            if "event" in fields:
                self.events.append((fields["event"], fields["id"], json.loads(fields["data"])))

    @property
    def states(self) -> list[tuple[int, str]]:
        return [(data["job_id"], data["status"]) for event, _, data in self.events if event == "state"]

    @property
    def text(self) -> str:
        return "".join(data["text"] for event, _, data in self.events if event == "log")

    async def until(self, is_there: Any) -> None:
        async with asyncio.timeout(30):
            while not is_there(self):
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def heard(http: Http) -> Heard:
    return Heard(http)


async def test_a_job_is_followed_to_its_end(bench: Workbench, heard: Heard) -> None:
    job_id = await bench.submit_one()
    async with heard.listening(bench.world.ada, f"/api/jobs/events?job_id={job_id}"):
        [job] = await bench.match()
        await bench.run(service.start_job, bench.pilot(), job.job_id, job.attempt)
        await heard.until(lambda h: (job_id, "running") in h.states)
        await bench.finish(job)
        await heard.until(lambda h: h.ended)
    assert heard.headers["content-type"].startswith("text/event-stream")
    assert [status for _, status in heard.states] == ["waiting", "matched", "running", "done"]
    assert [status for _, status in heard.states] == await bench.history(job_id)
    assert heard.events[-1][:2] == ("end", "end")
    # 204 makes a browser stop asking.
    again = Heard(heard.http)
    async with again.listening(bench.world.ada, f"/api/jobs/events?job_id={job_id}", "end"):
        await again.until(lambda h: h.ended)
    assert again.status == 204


async def test_the_last_change_is_told_whenever_it_comes(
    bench: Workbench, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the job ends between a look at its changes and the question whether it has ended."""
    job = await bench.running()
    have_ended = store.have_ended

    async def just_ended(*asking: Any) -> bool:
        if await bench.status(job.job_id) is JobStatus.RUNNING:
            await bench.finish(job)
        return await have_ended(*asking)

    monkeypatch.setattr(store, "have_ended", just_ended)
    async with heard.listening(bench.world.ada, f"/api/jobs/events?job_id={job.job_id}"):
        await heard.until(lambda h: h.ended)
    assert [status for _, status in heard.states] == ["waiting", "matched", "running", "done"]


async def test_who_comes_back_goes_on_after_the_last_event(bench: Workbench, heard: Heard, http: Http) -> None:
    job = await bench.running()
    path = f"/api/jobs/events?job_id={job.job_id}"
    async with heard.listening(bench.world.ada, path):
        await heard.until(lambda h: len(h.states) == 3)
    await bench.run(service.release_jobs_of_pilot, 1, "gone")
    [again] = await bench.match(2)
    await bench.finish(again, 2)
    for given in ({"last": heard.events[-1][1]}, {}):
        second = Heard(http)
        query = "" if given else f"&since={heard.events[-1][1]}"
        async with second.listening(bench.world.ada, path + query, **given):
            await second.until(lambda h: h.ended)
        statuses = [status for _, status in second.states]
        assert statuses == ["stalled", "rescheduled", "waiting", "matched", "running", "done"]


async def test_a_retry_does_not_end_the_stream(bench: Workbench, heard: Heard) -> None:
    job = await bench.running(echo())
    async with heard.listening(bench.world.ada, f"/api/jobs/events?job_id={job.job_id}"):
        await bench.run(service.release_jobs_of_pilot, 1, "gone")
        await heard.until(lambda h: (job.job_id, "waiting") in h.states)
        [again] = await bench.match(2)
        await bench.finish(again, 2)
        await heard.until(lambda h: h.ended)
    assert heard.states[-1] == (job.job_id, "done")


@pytest.mark.parametrize("few", [1, 200])
async def test_an_array_and_the_vo_are_followed_each_event_once(
    bench: Workbench, http: Http, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_FEW", few)
    array = (await bench.submit(echo(parameters={"n": list(range(5))}))).arrays[0]
    other = await bench.submit_one()
    of_array, of_vo = Heard(http), Heard(http)
    async with (
        of_array.listening(bench.world.ada, f"/api/jobs/events?array_id={array.array_id}"),
        of_vo.listening(bench.world.ada, "/api/jobs/events"),
    ):
        await of_array.until(lambda h: h.status)
        await of_vo.until(lambda h: h.status)
        for job in await bench.match(max_jobs=10):
            await bench.run(service.start_job, bench.pilot(), job.job_id, job.attempt)
            await bench.finish(job)
        await of_array.until(lambda h: h.ended)
        await of_vo.until(lambda h: len(h.states) >= 18)
    expected = [(job_id, status) for job_id in array.ids for status in ("matched", "running", "done")]
    # Of few jobs one hears all from the beginning.
    before = [(job_id, "waiting") for job_id in array.ids] if few == 200 else []
    assert sorted(of_array.states) == sorted([*before, *expected])
    assert sorted(of_vo.states) == sorted([*expected, *((other, status) for status in ("matched", "running", "done"))])
    assert not of_vo.ended or of_vo.events[-1][0] != "end"


async def test_a_change_that_is_committed_late_is_not_lost(bench: Workbench, heard: Heard) -> None:
    """Of two changes the one that began first may be seen last."""
    await bench.submit(echo(), echo())
    first, second = await bench.match(max_jobs=2)
    async with heard.listening(bench.world.ada, "/api/jobs/events"):
        await heard.until(lambda h: h.status)
        async with bench.db.transaction() as slow:
            await service.start_job(slow, bench.pilot(), first.job_id, first.attempt)
            await bench.run(service.start_job, bench.pilot(), second.job_id, second.attempt)
            await heard.until(lambda h: (second.job_id, "running") in h.states)
        await heard.until(lambda h: (first.job_id, "running") in h.states)
    assert len(heard.states) == len(set(heard.states))


async def test_nobody_follows_jobs_of_another_vo(bench: Workbench, heard: Heard, http: Http) -> None:
    job = await bench.running()
    for path in (f"/api/jobs/events?job_id={job.job_id}", f"/api/jobs/{job.job_id}/log/events"):
        assert (await http(bench.world.bea, "GET", path)).status == 404
    async with heard.listening(bench.world.bea, "/api/jobs/events"):
        await heard.until(lambda h: h.status)
        await bench.finish(job)
        await bench.submit_one(caller=bench.world.bea)
        await bench.match(3, caller=bench.world.bea)
        await heard.until(lambda h: h.states)
    assert {status for _, status in heard.states} == {JobStatus.MATCHED}
    assert job.job_id not in {job_id for job_id, _ in heard.states}


async def test_a_wrong_id_is_refused(bench: Workbench, http: Http) -> None:
    job_id = await bench.submit_one()
    for path in (f"/api/jobs/events?job_id={job_id}&since=x", f"/api/jobs/{job_id}/log/events?since=1"):
        answer = await http(bench.world.ada, "GET", path)
        assert (answer.status, answer.json["code"]) == (422, "bad-event-id")


async def test_a_log_is_followed_and_whole_characters_come(bench: Workbench, heard: Heard, http: Http) -> None:
    job = await bench.running()
    text = "ä<script>&\x1b[31mö"
    data = text.encode()
    path = f"/api/jobs/{job.job_id}/log/events"
    async with heard.listening(bench.world.ada, path):
        await append(bench, job, 0, data[:1])
        await heard.until(lambda h: h.events)
        await append(bench, job, 1, data[1:-1])
        await heard.until(lambda h: "script" in h.text)
        assert heard.events[-1][1] == f"1.{len(data) - 2}"
    second = Heard(http)
    async with second.listening(bench.world.ada, path, heard.events[-1][1]):
        await append(bench, job, len(data) - 1, data[-1:])
        await second.until(lambda h: "ö" in h.text)
        await bench.finish(job)
        await second.until(lambda h: h.ended)
    assert heard.text + second.text == text
    assert second.events[-1][0] == "end"
    # Harmless also where somebody shows the raw stream as HTML.
    assert not {b"<", b">", b"&"} & {bytes([c]) for c in heard.raw}


async def test_the_log_of_the_next_attempt_follows(bench: Workbench, heard: Heard) -> None:
    job = await bench.running()
    async with heard.listening(bench.world.ada, f"/api/jobs/{job.job_id}/log/events"):
        await append(bench, job, 0, b"one")
        await heard.until(lambda h: h.text == "one")
        await bench.run(service.release_jobs_of_pilot, 1, "gone")
        [again] = await bench.match()
        await append(bench, again, 0, b"two")
        await heard.until(lambda h: h.text == "onetwo")
        await bench.finish(again)
        await heard.until(lambda h: h.ended)
    assert [data["attempt"] for event, _, data in heard.events if event == "log"] == [1, 2]


async def test_a_long_log_has_its_end_too(bench: Workbench, heard: Heard, http: Http) -> None:
    """More than is read at once: of the rows that a pilot writes, and of the frames of a log that is kept."""
    job = await bench.running()
    path = f"/api/jobs/{job.job_id}/log/events"
    sizes = [1] * 20 + [1024 * 1024] * 5
    async with heard.listening(bench.world.ada, path):
        for n, size in enumerate(sizes):
            await append(bench, job, sum(sizes[:n]), b"x" * size)
        await bench.finish(job)
        await heard.until(lambda h: h.ended)
    assert heard.events[-1][0] == "end"
    assert len(heard.text) == sum(sizes)
    assert await keep_logs(bench.db, http.state[Blobs]) == 1
    kept = Heard(http)
    async with kept.listening(bench.world.ada, path):
        await kept.until(lambda h: h.ended)
    assert kept.events[-1][0] == "end"
    assert kept.text == heard.text


async def test_a_stream_ends_after_a_while_so_that_tokens_are_asked_for_again(
    bench: Workbench, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LONGEST_S", 0.0)
    job_id = await bench.submit_one()
    async with heard.listening(bench.world.ada, f"/api/jobs/events?job_id={job_id}"):
        await heard.until(lambda h: h.ended)
    assert not heard.events
    assert heard.raw.startswith(b"retry: ")


async def test_silence_is_filled(bench: Workbench, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUIET_S", 0.0)
    job_id = await bench.submit_one()
    async with heard.listening(bench.world.ada, f"/api/jobs/events?job_id={job_id}"):
        await heard.until(lambda h: b": quiet" in h.raw)


async def test_so_many_streams_are_open_and_no_more(bench: Workbench, http: Http, heard: Heard) -> None:
    job_id = await bench.submit_one()
    path = f"/api/jobs/events?job_id={job_id}"
    streams = http.state[events.Streams]
    async with heard.listening(bench.world.ada, path):
        await heard.until(lambda h: h.events)
        assert streams.open == 1
        streams.open = events.MOST_STREAMS
        refused = await http(bench.world.ada, "GET", path)
        assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (
            503,
            "too-many-followers",
            "2",
        )
        streams.open = 1
    assert streams.open == 0
