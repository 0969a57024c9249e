"""Commands over many jobs, what keeps jobs from their queue, and who is told of the end."""

import asyncio
import email
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from spinor.db import Database, DatabaseUnavailable, execute
from spinor.errors import SpinorError
from spinor.jobs import service
from spinor.jobs.attempts import grace
from spinor.jobs.control import gates, notifications
from spinor.jobs.models import (
    After,
    CommandJobs,
    Condition,
    ErrorClass,
    FinishReport,
    Held,
    JobStatus,
    Notify,
    OutputData,
    PrioritiseJobs,
    Retries,
    SummariseJobs,
)
from spinor.settings import Settings
from tests.pilots.conftest import until
from tests.servers.authority import Authority

from .test_attempts import produced
from .workbench import Workbench, echo

S = JobStatus


async def test_commands_take_sets_and_queries(bench: Workbench) -> None:
    ada = bench.world.ada
    await bench.submit(echo(job_group="scan", parameters={"n": [1, 2, 3]}), echo(job_group="scan"), echo(name="other"))
    held = await service.hold_jobs(bench.db, ada, CommandJobs(job_groups=["scan"]))
    assert held.done_ids == [1, 2, 3, 4]
    again = await service.hold_jobs(bench.db, ada, CommandJobs(where="status = checking"))
    assert [(each.ids, each.detail) for each in again.refused] == [([1, 2, 3, 4], "It is held already.")]
    released = await service.release_jobs(bench.db, ada, CommandJobs(where="job_id >= 4"))
    assert (released.done_ids, [each.ids for each in released.refused]) == ([4], [[5]])
    killed = await service.kill_jobs(bench.db, ada, CommandJobs(where="status = checking"))
    assert killed.done_ids == [1, 2, 3]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (CommandJobs(), "bad-input"),
        (CommandJobs(where="no_such_field = 1"), "bad-query"),
        (CommandJobs(job_groups=["none"]), "unknown-job"),
        (CommandJobs(array_ids=[77]), "unknown-job"),
    ],
)
async def test_what_names_no_jobs_is_refused(bench: Workbench, command: CommandJobs, code: str) -> None:
    with pytest.raises(SpinorError) as caught:
        await service.kill_jobs(bench.db, bench.world.ada, command)
    assert caught.value.code == code


async def test_a_held_job_is_not_matched_and_a_running_one_stops(bench: Workbench) -> None:
    job = await bench.running()
    outcome = await service.hold_jobs(bench.db, bench.world.ada, CommandJobs(job_ids=[job.job_id], reason="wait"))
    assert outcome.done_ids == [job.job_id]
    [lost] = await bench.run(service.renew_leases, bench.pilot(), [Held(job_id=job.job_id, attempt=1)])
    assert lost.reason == "the job is checking"
    assert not await bench.match()
    await service.release_jobs(bench.db, bench.world.ada, CommandJobs(job_ids=[job.job_id]))
    [again] = await bench.match()
    assert again.attempt == 2


async def test_a_job_can_be_submitted_as_held(bench: Workbench) -> None:
    job_id = await bench.submit_one(echo(hold=True))
    assert await bench.status(job_id) is S.CHECKING
    assert await bench.history(job_id) == [S.CHECKING]
    await service.release_jobs(bench.db, bench.world.ada, CommandJobs(job_ids=[job_id]))
    assert await bench.match()


async def test_priority_changes_the_place_at_once(bench: Workbench) -> None:
    await bench.submit(echo(parameters={"n": [1, 2, 3]}))
    outcome = await service.prioritise_jobs(bench.db, bench.world.ada, PrioritiseJobs(job_ids=[3], priority=9))
    assert outcome.done_ids == [3]
    [job] = await bench.match()
    assert job.job_id == 3


async def test_a_done_job_runs_again_only_without_its_outputs(bench: Workbench) -> None:
    job = await bench.running(
        echo(output_data=[OutputData(path="out", lfn="/astro/again/{job_id}", se="local-se")], name="x")
    )
    await bench.finish(job, outputs=[produced(job)])
    refused = await bench.reschedule(job.job_id)
    assert refused.refused[0].code == "has-outputs"
    plain = await bench.running(echo(cores=2))
    await bench.finish(plain)
    assert (await bench.reschedule(plain.job_id)).done_ids == [plain.job_id]


async def test_a_command_that_waited_for_a_job_sees_all_that_changed(bench: Workbench) -> None:
    job = await bench.running(
        echo(output_data=[OutputData(path="out", lfn="/astro/late/{job_id}", se="local-se")], name="x")
    )
    report = FinishReport(attempt=job.attempt, exit_code=0, outputs=[produced(job)])
    async with bench.db.transaction() as tx:
        await service.finish_job(tx, bench.pilot(), job.job_id, report)
        command = asyncio.create_task(bench.reschedule(job.job_id))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while await bench.rows(waits) == [(0,)]:
            assert not command.done()
    assert [each.code for each in (await command).refused] == ["has-outputs"]


async def test_memory_grows_with_each_retry(bench: Workbench) -> None:
    job = await bench.running(echo(memory_bytes=1000, retries=Retries(memory=2, memory_growth=2, delay_s=10)))
    for attempt, memory in ((2, 2000), (3, 4000)):
        assert await bench.finish(job, exit_code=None, error="too much", error_class=ErrorClass.MEMORY) is S.FAILED
        assert await bench.status(job.job_id) is S.CHECKING
        assert not await bench.match()
        await bench.run(execute, "UPDATE jobs.delayed SET until = now()")
        assert await bench.run(gates.end_pauses) == 1
        [demand] = await bench.run(service.demand)
        assert demand.wants.memory_bytes == memory
        [job] = await bench.match()
        assert (job.attempt, job.memory_bytes) == (attempt, memory)
        await bench.run(service.start_job, bench.pilot(), job.job_id, job.attempt)
    await bench.finish(job, exit_code=None, error="too much", error_class=ErrorClass.MEMORY)
    assert await bench.status(job.job_id) is S.FAILED
    records = await bench.rows("SELECT attempt, status, error_class FROM jobs.ended_attempt ORDER BY attempt")
    assert records == [(n, "failed", "memory") for n in (1, 2, 3)]


async def test_a_chain_of_jobs_runs_in_order(bench: Workbench) -> None:
    submitted = await bench.submit(
        echo(name="prepare", parameters={"n": [1, 2]}), echo(name="run", cores=2, after=[After(name="prepare")])
    )
    last = submitted.arrays[1].ids[0]
    for _ in range(2):
        await bench.run(gates.open_gates)
        assert await bench.status(last) is S.CHECKING
        [job] = await bench.match()
        await bench.finish(job)
    assert await bench.run(gates.open_gates) == 1
    assert await bench.status(last) is S.WAITING


async def test_elements_wait_for_their_own_element(bench: Workbench) -> None:
    first, second = (
        await bench.submit(
            echo(name="a", parameters={"n": [1, 2]}, retries=Retries(payload=0)),
            echo(name="b", cores=2, parameters={"n": [1, 2]}, after=[After(name="a", each=True)]),
        )
    ).arrays
    jobs = await bench.match(max_jobs=2)
    await bench.finish(jobs[1])
    await bench.run(gates.open_gates)
    assert [await bench.status(job_id) for job_id in second.ids] == [S.CHECKING, S.WAITING]
    await bench.finish(jobs[0], exit_code=1)
    await bench.run(gates.open_gates)
    assert await bench.status(second.ids[0]) is S.FAILED
    told = (await bench.run(service.job_history, bench.world.ada, second.ids[0]))[-1]
    assert told.reason == f"it waits for job {first.ids[0]} to be done, and that is failed"


async def test_what_can_never_come_true_fails(bench: Workbench) -> None:
    before = await bench.submit_one()
    after = await bench.submit_one(echo(after=[After(job_id=before)]))
    clean = await bench.submit_one(echo(after=[After(job_id=before, condition=Condition.ENDED)]))
    await bench.kill(before)
    await bench.run(gates.open_gates)
    assert [await bench.status(after), await bench.status(clean)] == [S.FAILED, S.WAITING]


async def test_nobody_waits_for_another_vos_jobs(bench: Workbench) -> None:
    other = await bench.submit_one(caller=bench.world.bea)
    with pytest.raises(SpinorError) as caught:
        await bench.submit(echo(after=[After(job_id=other)]))
    assert caught.value.code == "unknown-job"
    assert await bench.rows("SELECT count(*) FROM jobs.job") == [(1,)]


async def test_a_held_job_that_comes_after_others_waits_for_them_too(bench: Workbench) -> None:
    before = await bench.submit_one()
    job_id = await bench.submit_one(echo(hold=True, after=[After(job_id=before)]))
    await service.release_jobs(bench.db, bench.world.ada, CommandJobs(job_ids=[job_id]))
    assert await bench.status(job_id) is S.CHECKING
    await bench.finish((await bench.match())[0])
    await bench.run(gates.open_gates)
    assert await bench.status(job_id) is S.WAITING


async def test_a_deadline_ends_what_has_not_started(bench: Workbench) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    late = await bench.submit_one(echo(deadline=soon))
    started = await bench.running(echo(cores=2, deadline=soon, priority=9))
    await bench.run(execute, "UPDATE jobs.job_array SET deadline_at = now()")
    assert await bench.run(gates.fail_late) == 1
    assert [await bench.status(late), await bench.status(started.job_id)] == [S.FAILED, S.RUNNING]
    assert not await bench.match()


async def test_no_lease_ends_while_nobody_could_renew_it(bench: Workbench) -> None:
    job = await bench.running()
    assert not await bench.run(grace.service_answers)
    await bench.run(grace.mark)
    assert await bench.run(grace.service_answers)
    await bench.run(execute, "UPDATE jobs.service_mark SET marked_at = now() - interval '1 hour'")
    await bench.run(execute, "UPDATE jobs.running SET lease_expires_at = now() - interval '59 minutes'")
    assert not await bench.run(grace.service_answers)
    assert await bench.run(grace.mark) == 1
    assert await bench.run(service.expire_leases) == []
    assert await bench.status(job.job_id) is S.RUNNING


async def test_marks_go_on_after_the_database_was_read_only(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As it is for a moment when another server takes over: without marks, no lease would ever end again."""
    monkeypatch.setattr(grace, "MARK_S", 0.01)

    async def warned() -> bool:
        return "mark-not-written" in caplog.text

    async def answers() -> bool:
        return await bench.run(grace.service_answers)

    async with Database.open(bench.db.url, size=1) as one:
        async with one.statements() as conn:
            await conn.execute("SET default_transaction_read_only = on")
        with pytest.raises(DatabaseUnavailable):
            async with one.transaction() as tx:
                await grace.mark(tx)
        marking = asyncio.create_task(grace.keep_marking(one))
        try:
            await until(warned)
            async with one.statements() as conn:
                await conn.execute("SET default_transaction_read_only = off")
            await until(answers)
            assert not marking.done()
        finally:
            marking.cancel()
            await asyncio.gather(marking, return_exceptions=True)


async def test_summaries_come_out_of_the_counters(bench: Workbench) -> None:
    ada = bench.world.ada
    await bench.submit(echo(parameters={"n": list(range(20))}))
    for job in await bench.match(max_jobs=3):
        await bench.run(service.start_job, bench.pilot(), job.job_id, job.attempt)
    for asked in (SummariseJobs(by=["status", "owner"]), SummariseJobs(by=["status"], where="owner = ada")):
        summary = await bench.run(service.summarise_jobs, ada, asked)
        assert summary.total == 20
        assert {group["status"]: group["count"] for group in summary.groups} == {"waiting": 17, "running": 3}
    slow = await bench.run(service.summarise_jobs, ada, SummariseJobs(by=["status"], where="array_index < 100"))
    assert slow.total == 20
    assert not (await bench.run(service.summarise_jobs, bench.world.bea, SummariseJobs())).groups


@pytest.fixture
async def received(bench: Workbench) -> AsyncIterator[tuple[int, list[bytes]]]:
    """The port of a server that takes mail in the simplest way, and what came."""
    mails: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        while line := await reader.readline():
            word = line[:4].upper()
            if word == b"DATA":
                writer.write(b"354 go on\r\n")
                mails.append((await reader.readuntil(b"\r\n.\r\n"))[:-5])
            writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            await writer.drain()
            if word == b"QUIT":
                break
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], mails
    server.close()


def settings(path: Path, **changes: Any) -> Settings:
    return Settings(
        database_url="", data_dir=path, url="https://localhost", keys_dir=path, blob_dir=path, storage_dir=path,
        ce_dir=path, **changes,
    )  # fmt: skip


async def test_the_end_of_an_array_is_mailed_once(
    bench: Workbench, received: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    port, mails = received
    told = [Notify(on=[Condition.ENDED, Condition.FAILED], email="ada@example.org")]
    await bench.submit(echo(name="scan é", notify=told, parameters={"n": [1, 2]}))
    for job in await bench.match(max_jobs=2):
        assert await bench.run(notifications.find_due) == 0
        await bench.finish(job)
    assert await bench.run(notifications.find_due) == 1
    for _ in range(2):
        await notifications.send_due(bench.db, settings(tmp_path, smtp_host="127.0.0.1", smtp_port=port))
    [mail] = [email.message_from_bytes(each) for each in mails]
    assert mail["To"] == "ada@example.org"
    assert b"2 done" in mail.get_payload(decode=True)
    # That one failed cannot come true any more.
    assert await bench.rows("SELECT condition, sent_at IS NOT NULL FROM jobs.notification") == [("ended", True)]


async def test_what_cannot_be_mailed_is_kept_for_later(bench: Workbench, tmp_path: Path) -> None:
    await bench.submit(echo(notify=[Notify(on=[Condition.FAILED], email="ada@example.org")], retries=Retries()))
    [job] = await bench.match()
    await bench.finish(job, exit_code=1)
    assert await bench.run(notifications.find_due) == 1
    await notifications.send_due(bench.db, settings(tmp_path))
    rows = await bench.rows("SELECT tries, error, sent_at, due_at > now() FROM jobs.notification")
    assert rows == [(1, "this service sends no mail: SPINOR_SMTP_HOST is not set", None, True)]


async def test_a_webhook_gets_the_counts(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[dict[str, Any]] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    authority = Authority(tmp_path)
    credential = authority.host()
    server = HTTPServer(("127.0.0.1", 0), Taking)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.hostname_checks_common_name = False
    context.load_cert_chain(credential.certificate, credential.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    address = f"https://localhost:{server.server_port}/hook"
    try:
        [array] = (await bench.submit(echo(name="scan", notify=[Notify(webhook=address)]))).arrays
        await bench.finish((await bench.match())[0])
        await bench.run(notifications.find_due)
        await notifications.send_due(bench.db, settings(tmp_path))
        assert posted == []
        [(error,)] = await bench.rows("SELECT error FROM jobs.notification")
        assert error == "webhook at localhost: its address is not a public one"
        await bench.run(execute, "UPDATE jobs.notification SET due_at = now()")
        await notifications.send_due(bench.db, settings(tmp_path, local_webhooks=True))
    finally:
        server.shutdown()
        server.server_close()
    assert posted == [
        {
            "event": "array.ended", "vo": "astro", "array_id": array.array_id, "name": "scan", "size": 1,
            "first_job_id": array.ids[0], "jobs": {"done": 1},
        }
    ]  # fmt: skip
