"""Sandboxes in parts: nothing is sent twice, what was lost is not believed to be there, quotas hold for all at once."""

import asyncio
import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spinor.access import Caller
from spinor.jobs import service
from spinor.jobs.sandboxes import uploads
from tests.asgi import Answer, Http

from .test_sandboxes import blob_store, receive_output, use_of
from .test_tenancy import archive
from .workbench import Workbench, echo

PART = 64 * 1024


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", PART)


async def begin(http: Http, caller: Caller, data: bytes, size_bytes: int | None = None) -> Answer:
    body = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": size_bytes or len(data)}
    return await http(caller, "POST", "/api/sandboxes/uploads", body)


async def part(http: Http, caller: Caller, upload_id: str, data: bytes, start: int, end: int) -> Answer:
    span = f"bytes {start}-{end - 1}/{len(data)}"
    return await http(caller, "PUT", f"/api/sandboxes/uploads/{upload_id}", data[start:end], content_range=span)


async def send(http: Http, caller: Caller, data: bytes) -> Any:
    """The sandbox, as a client gets it there."""
    state = (await begin(http, caller, data)).json
    while state["sandbox"] is None:
        end = min(state["position"] + state["part_bytes"], len(data))
        state = (await part(http, caller, state["upload_id"], data, state["position"], end)).json
    return state["sandbox"]


async def limit(bench: Workbench, limit_bytes: int = 10**8, quota: int | None = None, user: int | None = None) -> None:
    async with bench.db.transaction() as tx:
        await tx.execute(
            "UPDATE configuration.sandbox_limits SET limit_bytes = %s, quota_bytes = %s, user_quota_bytes = %s",
            (limit_bytes, quota, user),
        )


def parts_left(folder: Path) -> list[Path]:
    return [path for path in (folder / "blob_dir" / "uploads").rglob("*") if path.is_file()]


async def test_parts_become_the_sandbox_and_are_gone(bench: Workbench, http: Http, tmp_path: Path) -> None:
    data = archive(b"x" * 200_000)
    sandbox = await send(http, bench.world.ada, data)
    assert sandbox["sha256"] == hashlib.sha256(data).hexdigest()
    assert (await http(bench.world.ada, "GET", f"/api/sandboxes/{sandbox['sandbox_id']}")).body == data
    assert not parts_left(tmp_path)
    assert await bench.rows("SELECT count(*) FROM jobs.upload") == [(0,)]
    assert await use_of(bench, http) == (len(data), len(data))


async def test_what_the_owner_has_is_not_sent_again(bench: Workbench, http: Http) -> None:
    data = archive(b"x" * 200_000)
    sandbox = await send(http, bench.world.ada, data)
    again = (await begin(http, bench.world.ada, data)).json
    assert again["sandbox"] == sandbox
    # Nobody else learns that it is there.
    assert (await begin(http, bench.world.alan, data)).json["sandbox"] is None
    assert (await begin(http, bench.world.bea, data)).json["sandbox"] is None


async def test_an_upload_goes_on_where_it_was(bench: Workbench, http: Http) -> None:
    data = archive(b"x" * 200_000)
    first = (await begin(http, bench.world.ada, data)).json
    assert (await part(http, bench.world.ada, first["upload_id"], data, 0, PART)).json["position"] == PART
    second = (await begin(http, bench.world.ada, data)).json
    assert (second["upload_id"], second["position"]) == (first["upload_id"], PART)
    # A part that came is harmless; a gap is told with the place to go on from.
    assert (await part(http, bench.world.ada, first["upload_id"], data, 0, PART)).json["position"] == PART
    gap = await part(http, bench.world.ada, first["upload_id"], data, 2 * PART, 3 * PART)
    assert (gap.status, gap.json["code"], gap.json["position"]) == (409, "upload-gap", PART)
    shown = await http(bench.world.ada, "GET", f"/api/sandboxes/uploads/{first['upload_id']}")
    assert shown.json["position"] == PART


async def test_the_same_part_side_by_side_is_kept_once(bench: Workbench, http: Http) -> None:
    data = archive(b"x" * 100_000)
    upload_id = (await begin(http, bench.world.ada, data)).json["upload_id"]
    answers = await asyncio.gather(*(part(http, bench.world.ada, upload_id, data, 0, PART) for _ in range(6)))
    assert {answer.json["position"] for answer in answers} == {PART}
    assert (await send(http, bench.world.ada, data))["size_bytes"] == len(data)


async def test_the_last_part_side_by_side_makes_one_sandbox(bench: Workbench, http: Http) -> None:
    data = archive(b"x" * 30_000)
    upload_id = (await begin(http, bench.world.ada, data)).json["upload_id"]
    answers = await asyncio.gather(
        *(part(http, bench.world.ada, upload_id, data, 0, len(data)) for _ in range(4)), return_exceptions=False
    )
    assert {answer.status for answer in answers} <= {200, 404, 410}
    assert (await begin(http, bench.world.ada, data)).json["sandbox"] is not None
    assert await bench.rows("SELECT count(*) FROM jobs.sandbox") == [(1,)]
    assert await use_of(bench, http) == (len(data), len(data))


async def test_a_wrong_checksum_is_refused_and_thrown_away(bench: Workbench, http: Http, tmp_path: Path) -> None:
    data, other = archive(b"x" * 1000), archive(b"y" * 1000)
    upload_id = (await begin(http, bench.world.ada, data)).json["upload_id"]
    answer = await part(http, bench.world.ada, upload_id, other, 0, len(other))
    assert (answer.status, answer.json["code"]) == (422, "wrong-checksum")
    assert (await part(http, bench.world.ada, upload_id, data, 0, len(data))).json["code"] == "unknown-upload"
    assert not parts_left(tmp_path)
    assert await use_of(bench, http) == (0, 0)
    assert (await send(http, bench.world.ada, data))["size_bytes"] == len(data)


@pytest.mark.parametrize("span", ["bytes 0-99/100", "bytes 5-3/{size}", "0-9", "bytes 0-{size}/{size}", ""])
async def test_a_part_that_does_not_fit_is_refused(bench: Workbench, http: Http, span: str) -> None:
    data = archive(b"x")
    upload_id = (await begin(http, bench.world.ada, data)).json["upload_id"]
    said = span.format(size=len(data))
    answer = await http(bench.world.ada, "PUT", f"/api/sandboxes/uploads/{upload_id}", data, content_range=said)
    assert (answer.status, answer.json["field"]) == (422, "Content-Range")


async def test_nobody_touches_the_upload_of_another(bench: Workbench, http: Http) -> None:
    data = archive(b"x")
    upload_id = (await begin(http, bench.world.ada, data)).json["upload_id"]
    for caller in (bench.world.alan, bench.world.bea):
        assert (await part(http, caller, upload_id, data, 0, len(data))).status == 404
        assert (await http(caller, "GET", f"/api/sandboxes/uploads/{upload_id}")).status == 404
    assert (await http(bench.world.ada, "GET", f"/api/sandboxes/uploads/{uuid.uuid4()}")).status == 404


async def test_an_upload_that_nobody_goes_on_with_ends(bench: Workbench, http: Http, tmp_path: Path) -> None:
    data = archive(b"x" * 200_000)
    upload_id = (await begin(http, bench.world.ada, data)).json["upload_id"]
    await part(http, bench.world.ada, upload_id, data, 0, PART)
    store = blob_store(tmp_path)
    assert await service.sweep_sandboxes(bench.db, store) == (0, 0)
    assert await service.sweep_sandboxes(bench.db, store, datetime.now(UTC) + timedelta(days=2)) == (0, 1)
    assert not parts_left(tmp_path)
    assert await use_of(bench, http) == (0, 0)
    assert (await part(http, bench.world.ada, upload_id, data, PART, 2 * PART)).json["code"] == "unknown-upload"


async def test_bytes_that_were_lost_come_back_with_the_next_upload(
    bench: Workbench, http: Http, tmp_path: Path
) -> None:
    data = archive(b"x" * 1000)
    sandbox = await send(http, bench.world.ada, data)
    next((tmp_path / "blob_dir").rglob("*.tar")).unlink()
    assert (await http(bench.world.ada, "GET", f"/api/sandboxes/{sandbox['sandbox_id']}")).status == 410
    assert await send(http, bench.world.ada, data) == sandbox
    assert (await http(bench.world.ada, "GET", f"/api/sandboxes/{sandbox['sandbox_id']}")).body == data
    assert await use_of(bench, http) == (len(data), len(data))


async def test_one_sandbox_has_a_limit_that_is_told_before_a_byte_is_sent(bench: Workbench, http: Http) -> None:
    await limit(bench, limit_bytes=50_000)
    data = archive(b"x" * 100_000)
    for answer in (
        await begin(http, bench.world.ada, data),
        await http(bench.world.ada, "PUT", "/api/sandboxes", data),
    ):
        assert (answer.status, answer.json["code"]) == (413, "sandbox-too-large")
        assert (answer.json["limit_bytes"], answer.json["size_bytes"]) == (50_000, len(data))
        assert "input_data" in answer.json["detail"]
        assert "sandboxes.limit" in answer.json["detail"]
    assert await use_of(bench, http) == (0, 0)


@pytest.mark.parametrize("whose", ["quota", "user_quota"])
async def test_many_at_once_stay_below_the_quota_together(bench: Workbench, http: Http, whose: str) -> None:
    data = [archive(bytes([65 + n]) * 20_000) for n in range(12)]
    size = len(data[0])
    await limit(bench, **{"quota" if whose == "quota" else "user": 5 * size})
    begun = await asyncio.gather(*(begin(http, bench.world.ada, each) for each in data[:6]))
    in_one_go = await asyncio.gather(*(http(bench.world.ada, "PUT", "/api/sandboxes", each) for each in data[6:]))
    answers = [*begun, *in_one_go]
    assert sorted(answer.status for answer in answers) == [200] * 5 + [413] * 7
    refused = next(answer.json for answer in answers if answer.status == 413)
    assert refused["code"] == "sandbox-quota"
    assert (refused["quota"], refused["quota_bytes"], refused["size_bytes"]) == (whose, 5 * size, size)
    assert "output_data" in refused["detail"]
    for answer, each in zip(begun, data, strict=False):
        if answer.status == 200:
            await send(http, bench.world.ada, each)
    assert await use_of(bench, http) == (5 * size, 5 * size)
    # What one user has does not count for another, but for the VO it does.
    assert (await begin(http, bench.world.alan, data[11])).status == (413 if whose == "quota" else 200)
    assert (await begin(http, bench.world.bea, data[11])).status == 200


async def test_what_is_there_already_needs_no_room(bench: Workbench, http: Http) -> None:
    data = archive(b"x" * 20_000)
    await send(http, bench.world.ada, data)
    await limit(bench, quota=1, user=1)
    assert (await begin(http, bench.world.ada, data)).json["sandbox"] is not None
    assert (await http(bench.world.ada, "PUT", "/api/sandboxes", data)).status == 200


async def test_an_output_that_is_refused_is_told_with_the_job_which_goes_on(
    bench: Workbench, http: Http, tmp_path: Path
) -> None:
    await limit(bench, limit_bytes=50_000)
    job = await bench.running(echo(output_sandbox=["*"]))
    with pytest.raises(Exception, match="one may have"):
        await receive_output(bench, tmp_path, job, archive(b"x" * 100_000))
    assert await bench.status(job.job_id) == "running"
    shown = (await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}")).json
    assert shown["minor_status"] == "output sandbox refused"
    assert await bench.finish(job, missing=["output sandbox: too large"]) == "done"
    history = (await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/history")).json
    assert [entry["minor_status"] for entry in history].count("output sandbox refused") == 1
    [attempt] = (await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/attempts")).json
    assert "50 kB" in attempt["output_refused"]
    answer = await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/output")
    assert answer.status == 404
    assert "was refused" in answer.json["detail"]
    assert "output_data" in answer.json["detail"]
