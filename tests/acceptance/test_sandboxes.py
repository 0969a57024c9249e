"""A real service whose server is killed while a sandbox is on its way."""

import hashlib
import io
import os
import random
import shutil
import signal
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinor.client import Client
from spinor.jobs.sandboxes.client import download, upload
from tests.acceptance.conftest import Service, start_service
from tests.acceptance.test_broken_worlds import pid_of, until

pytestmark = pytest.mark.acceptance
MIB = 1024**2


@pytest.fixture(scope="module")
def fragile() -> Iterator[Service]:
    """A service that its tests may hurt."""
    work = Path(tempfile.mkdtemp(prefix="spinor-sandboxes-"))
    work.chmod(0o711)
    service = start_service(work)
    try:
        yield service
    finally:
        service.run("down")
        shutil.rmtree(work, ignore_errors=True)


def archive(size_bytes: int) -> bytes:
    data = random.Random(7).randbytes(size_bytes)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("data.bin")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def client(fragile: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for name in ("SPINOR_CONFIG_DIR", "BEARER_TOKEN_FILE"):
        monkeypatch.setenv(name, fragile.environ[name])
    with Client.from_environment() as client:
        yield client


def test_an_upload_outlives_the_server_that_took_its_first_half(fragile: Service, client: Client) -> None:
    data = archive(40 * MIB)
    reached: list[int] = []

    def progress(position: int) -> None:
        if position >= 16 * MIB and max(reached) < 16 * MIB:
            os.kill(pid_of(fragile, "server"), signal.SIGKILL)
        reached.append(position)

    sandbox = upload(client, data, progress)
    until(fragile, "status")
    assert sandbox.sha256 == hashlib.sha256(data).hexdigest()
    # What the killed server had taken was not sent again.
    assert reached == sorted(reached)
    assert download(client, f"/api/sandboxes/{sandbox.sandbox_id}") == data
    again: list[int] = []
    assert upload(client, data, again.append) == sandbox
    assert again == [len(data)]


def test_a_job_takes_a_large_sandbox_along_and_brings_one_back(fragile: Service, tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(random.Random(8).randbytes(20 * MIB))
    description = tmp_path / "job.yaml"
    description.write_text(
        "executable: sh\narguments: [-c, 'sha256sum large.bin > sum; tac large.bin > back.bin; sleep 1']\n"
        f"input_sandbox: [{source}]\noutput_sandbox: [sum, back.bin]\n"
    )
    job = fragile.ok("job", "submit", "-q", str(description)).out.strip()
    assert fragile.run("job", "wait", job).code == 0, fragile.run("job", "explain", job).out
    fragile.ok("job", "output", job, "-o", str(tmp_path / "out"))
    assert (tmp_path / "out" / "sum").read_text().split()[0] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (tmp_path / "out" / "back.bin").stat().st_size == 20 * MIB
    [attempt] = fragile.ok("job", "attempts", job, "--json").models
    assert (attempt["status"], attempt["exit_code"], attempt["cores"]) == ("done", 0, 1)
    assert attempt["node"]
    assert "site" in fragile.ok("job", "attempts", job).lines[0]
