"""Sandboxes: stored once per owner and content, bounded, and swept when nothing names them."""

import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spinor.jobs import service
from spinor.jobs.sandboxes import service as sandboxes
from tests.asgi import Http

from .test_tenancy import archive
from .workbench import Workbench, echo


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


async def test_what_is_too_large_is_refused_and_leaves_nothing(
    bench: Workbench, http: Http, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxes, "MAX_SANDBOX_BYTES", 1_000_000)
    answer = await http(bench.world.ada, "PUT", "/api/sandboxes", archive(b"x" * 3_000_000))
    assert (answer.status, answer.json["code"]) == (413, "sandbox-too-large")
    assert "input_data" in answer.json["detail"]
    assert not blobs(tmp_path)
    assert not list((tmp_path / "blob_dir" / "incoming").iterdir())
    assert await bench.rows("SELECT count(*) FROM jobs.sandbox") == [(0,)]


@pytest.mark.parametrize("body", [b"", b"no tar", b"\x1f\x8b" * 400])
async def test_only_tar_archives_are_taken(bench: Workbench, http: Http, body: bytes) -> None:
    answer = await http(bench.world.ada, "PUT", "/api/sandboxes", body)
    assert (answer.status, answer.json["code"]) == (422, "not-a-tar")


async def test_a_job_takes_its_sandboxes_along_and_leaves_one(bench: Workbench, http: Http, tmp_path: Path) -> None:
    ids = [
        (await http(bench.world.ada, "PUT", "/api/sandboxes", archive(name=name))).json["sandbox_id"] for name in "ba"
    ]
    job = await bench.running(echo(input_sandboxes=ids[::-1], output_sandbox=["*.txt"]))
    assert [ref.sandbox_id for ref in job.input_sandboxes] == ids[::-1]
    attempt = (job.job_id, job.attempt)
    blob_dir = tmp_path / "blob_dir"
    found, path = await bench.run(service.find_sandbox_of_attempt, bench.pilot(), blob_dir, attempt, ids[0])
    assert path.stat().st_size == found.size_bytes
    for pilot, sandbox in ((bench.pilot(2), ids[0]), (bench.pilot(), ids[0] + 100)):
        with pytest.raises(service.StaleReport):
            await bench.run(service.find_sandbox_of_attempt, pilot, blob_dir, attempt, sandbox)

    async def body() -> AsyncIterator[bytes]:
        yield archive(b"42", "result.txt")

    left = await service.receive_sandbox_of_attempt(bench.db, blob_dir, bench.pilot(), attempt, body())
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
    blob_dir = tmp_path / "blob_dir"
    later = datetime.now(UTC) + timedelta(days=16)
    assert await service.sweep_sandboxes(bench.db, blob_dir) == (0, 0)
    # The row goes first; a blob younger than a day stays, since its upload may still be on its way.
    assert await service.sweep_sandboxes(bench.db, blob_dir, later) == (1, 0)
    two_days_ago = time.time() - 2 * 86_400
    for path in blobs(tmp_path):
        os.utime(path, (two_days_ago, two_days_ago))
    assert await service.sweep_sandboxes(bench.db, blob_dir, later) == (0, 1)
    assert [path.stem for path in blobs(tmp_path)] == [used["sha256"]]


async def test_bytes_that_vanished_are_told(bench: Workbench, http: Http, tmp_path: Path) -> None:
    put = await http(bench.world.ada, "PUT", "/api/sandboxes", archive())
    blobs(tmp_path)[0].unlink()
    assert (await http(bench.world.ada, "GET", f"/api/sandboxes/{put.json['sandbox_id']}")).status == 410
