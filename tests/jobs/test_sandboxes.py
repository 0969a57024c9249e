"""Sandboxes: stored once per owner and content, bounded, and swept when nothing names them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spinor.blobs import Blobs, Directory
from spinor.db import execute
from spinor.jobs import service
from spinor.jobs.models import Assignment, CommandJobs, SandboxRef
from tests.asgi import Http

from .test_tenancy import archive
from .workbench import Workbench, echo


def blob_store(folder: Path) -> Blobs:
    return Blobs(Directory(folder / "blob_dir"), folder / "blob_dir" / "incoming")


async def receive_output(bench: Workbench, folder: Path, job: Assignment, data: bytes) -> SandboxRef:
    async def body() -> AsyncIterator[bytes]:
        yield data

    attempt = (job.job_id, job.attempt)
    return await service.receive_sandbox_of_attempt(bench.db, blob_store(folder), bench.pilot(), attempt, body())


async def use_of(bench: Workbench, http: Http) -> tuple[int, int]:
    """What the VO's sandboxes take, and ada's."""
    found = (await http(bench.world.ada, "GET", "/api/sandboxes/use")).json
    return found["used_bytes"], found["user_used_bytes"]


def blobs(folder: Path) -> list[Path]:
    return sorted((folder / "blob_dir").rglob("*.tar"))


async def test_the_same_content_is_stored_once_per_owner(bench: Workbench, http: Http, tmp_path: Path) -> None:
    put = [await http(caller, "PUT", "/api/sandboxes", archive()) for caller in (bench.world.ada,) * 2]
    assert put[0].json == put[1].json
    other = await http(bench.world.alan, "PUT", "/api/sandboxes", archive())
    assert other.json["sandbox_id"] != put[0].json["sandbox_id"]
    assert len(blobs(tmp_path)) == 2
    got = await http(bench.world.ada, "GET", f"/api/sandboxes/{put[0].json['sandbox_id']}")
    assert got.body == archive()
    assert got.headers["etag"] == f'"{put[0].json["sha256"]}"'
    assert not list((tmp_path / "blob_dir" / "incoming").iterdir())


@pytest.mark.parametrize("body", [b"", b"no tar", b"\x1f\x8b" * 400])
async def test_only_tar_archives_are_taken(bench: Workbench, http: Http, body: bytes) -> None:
    answer = await http(bench.world.ada, "PUT", "/api/sandboxes", body)
    assert (answer.status, answer.json["code"]) == (422, "not-a-tar")
    assert await use_of(bench, http) == (0, 0)  # Nor is anything reserved.


async def test_a_job_takes_its_sandboxes_along_and_leaves_one(bench: Workbench, http: Http, tmp_path: Path) -> None:
    ids = [
        (await http(bench.world.ada, "PUT", "/api/sandboxes", archive(name=name))).json["sandbox_id"] for name in "ba"
    ]
    job = await bench.running(echo(input_sandboxes=ids[::-1], output_sandbox=["*.txt"]))
    assert [ref.sandbox_id for ref in job.input_sandboxes] == ids[::-1]
    attempt = (job.job_id, job.attempt)
    found = await bench.run(service.find_sandbox_of_attempt, bench.pilot(), attempt, ids[0])
    assert found.sha256 == job.input_sandboxes[1].sha256
    for pilot, sandbox in ((bench.pilot(2), ids[0]), (bench.pilot(), ids[0] + 100)):
        with pytest.raises(service.StaleReport):
            await bench.run(service.find_sandbox_of_attempt, pilot, attempt, sandbox)
    left = await receive_output(bench, tmp_path, job, archive(b"42", "result.txt"))
    await bench.finish(job, output_sandbox_id=left.sandbox_id, missing=["*.txt"])
    got = await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}/output")
    assert got.body == archive(b"42", "result.txt")
    shown = (await http(bench.world.ada, "GET", f"/api/jobs/{job.job_id}")).json
    assert shown["output_sandbox"]["missing"] == ["*.txt"]


async def test_a_job_without_output_says_so(bench: Workbench, http: Http) -> None:
    job_id = await bench.submit_one()
    answer = await http(bench.world.ada, "GET", f"/api/jobs/{job_id}/output")
    assert answer.status == 404
    assert "waiting" in answer.json["detail"]


async def test_the_sweep_takes_only_what_nothing_names(bench: Workbench, http: Http, tmp_path: Path) -> None:
    used, _ = [
        (await http(bench.world.ada, "PUT", "/api/sandboxes", archive(name=name))).json for name in ("used", "unused")
    ]
    await bench.submit(echo(input_sandboxes=[used["sandbox_id"]]))
    store = blob_store(tmp_path)
    later = datetime.now(UTC) + timedelta(days=16)
    assert await service.sweep_sandboxes(bench.db, store) == (0, 0)
    assert await service.sweep_sandboxes(bench.db, store, later) == (1, 1)
    assert [path.stem for path in blobs(tmp_path)] == [used["sha256"]]
    assert await use_of(bench, http) == (used["size_bytes"], used["size_bytes"])


async def test_a_blob_without_a_row_stays_for_a_day(bench: Workbench, http: Http, tmp_path: Path) -> None:
    await http(bench.world.ada, "PUT", "/api/sandboxes", archive())
    await bench.run(execute, "DELETE FROM jobs.sandbox")
    assert await service.sweep_sandboxes(bench.db, blob_store(tmp_path)) == (0, 0)
    tomorrow = datetime.now(UTC) + timedelta(days=1, minutes=1)
    assert await service.sweep_sandboxes(bench.db, blob_store(tmp_path), tomorrow) == (0, 1)


async def test_sandboxes_go_with_the_last_job_that_names_them(bench: Workbench, http: Http, tmp_path: Path) -> None:
    put = (await http(bench.world.ada, "PUT", "/api/sandboxes", archive())).json
    job = await bench.running(echo(input_sandboxes=[put["sandbox_id"]]))
    left = await receive_output(bench, tmp_path, job, archive(b"42", "result.txt"))
    await bench.finish(job, output_sandbox_id=left.sandbox_id)
    assert await service.sweep_sandboxes(bench.db, blob_store(tmp_path)) == (0, 0)
    await service.delete_jobs(bench.db, bench.world.ada, CommandJobs(job_ids=[job.job_id]))
    assert await service.sweep_sandboxes(bench.db, blob_store(tmp_path)) == (2, 0)
    assert await use_of(bench, http) == (0, 0)


async def test_bytes_that_vanished_are_told(bench: Workbench, http: Http, tmp_path: Path) -> None:
    put = await http(bench.world.ada, "PUT", "/api/sandboxes", archive())
    blobs(tmp_path)[0].unlink()
    assert (await http(bench.world.ada, "GET", f"/api/sandboxes/{put.json['sandbox_id']}")).status == 410
