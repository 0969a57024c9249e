"""A dead database, a dead server, a database of the community's own, other people's eyes: what a service survives."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from spinor.embedded.layout import Layout
from spinor.embedded.postgres import Cluster

from .conftest import Service, start_service

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def fragile() -> Iterator[Service]:
    """A service that its tests may hurt."""
    work = Path(tempfile.mkdtemp(prefix="spinor-fragile-"))
    work.chmod(0o711)
    service = start_service(work)
    try:
        yield service
    finally:
        service.run("down")
        shutil.rmtree(work, ignore_errors=True)


def pid_of(service: Service, part: str) -> int:
    return next(int(each["pid"]) for each in service.run("status", "--json").models if each["name"] == part)


def until(service: Service, *words: str, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while service.run(*words).code != 0:
        assert time.monotonic() < deadline, service.run("status").out
        time.sleep(0.5)


def test_a_frozen_database_is_one_sentence(fragile: Service) -> None:
    postmaster = pid_of(fragile, "postgres")
    children = subprocess.run(
        ["pgrep", "-P", str(postmaster)], capture_output=True, text=True, check=True
    ).stdout.split()
    pids = [postmaster, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        status = fragile.run("status", "--json")
        assert status.code == 1
        assert any(part["health"] != "healthy" for part in status.models)
        assert fragile.run("doctor").code == 1
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    until(fragile, "job", "list")


@pytest.mark.parametrize("part", ["server", "worker", "postgres", "supervisor"])
def test_a_killed_part_comes_back_and_nothing_is_lost(fragile: Service, part: str) -> None:
    job = fragile.ok("job", "submit", "-q", "--", "sh", "-c", "sleep 3; echo survived").out.strip()
    os.kill(pid_of(fragile, part), signal.SIGKILL)
    if part == "supervisor":
        fragile.ok("up")
    until(fragile, "status")
    assert fragile.run("job", "wait", job).code == 0, fragile.run("job", "explain", job).out
    assert fragile.ok("job", "log", job).out == "survived\n"


def test_a_killed_payload_fails_its_job_and_no_other(fragile: Service) -> None:
    marker = f"sleep 100.{os.getpid()}"
    job = fragile.ok("job", "submit", "-q", "--", *marker.split()).out.strip()
    deadline = time.monotonic() + 30
    found = ""
    while not found:
        assert time.monotonic() < deadline
        time.sleep(0.3)
        found = subprocess.run(["pgrep", "-fx", marker], capture_output=True, text=True).stdout.strip()
    os.kill(int(found.split()[0]), signal.SIGKILL)
    assert fragile.run("job", "wait", job).code == 1
    assert "signal" in fragile.ok("job", "explain", job).out.lower() or "137" in fragile.ok("job", "explain", job).out


def test_nobody_else_can_read_secrets(fragile: Service) -> None:
    secret = re.compile(rb"PRIVATE KEY|\"d\":|eyJ[\w-]+\.eyJ|password", re.IGNORECASE)
    for path in (fragile.work).rglob("*"):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 5_000_000 or "postgres" in path.parts:
            continue
        if path.stat().st_mode & 0o044 and secret.search(path.read_bytes()):
            pytest.fail(f"{path.relative_to(fragile.work)} holds a secret and others may read it")


def test_no_log_holds_a_token(fragile: Service) -> None:
    token = (fragile.work / "token").read_text().strip()
    book = json.loads((fragile.work / "config" / "client.json").read_text())
    secrets = [token, *(server["refresh_token"] for server in book["servers"].values())]
    for log in (fragile.work / "data" / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), log
        assert not re.search(r"eyJ[\w-]{10,}\.eyJ", text), log


def test_a_database_of_the_communitys_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    work = Path(tempfile.mkdtemp(prefix="spinor-own-database-"))
    work.chmod(0o711)
    layout = Layout(work / "elsewhere")
    layout.make()
    cluster = Cluster(layout)
    cluster.start()
    service = Service(work, {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SPINOR_", "BEARER_"))},
        "SPINOR_CONFIG_DIR": str(work / "config"), "SPINOR_DATA_DIR": str(work / "data"),
        "BEARER_TOKEN_FILE": str(work / "token"), "SPINOR_DATABASE_URL": cluster.url(),
    })  # fmt: skip
    try:
        service.ok("up")
        job = service.ok("job", "submit", "-q", "--", "echo", "elsewhere").out.strip()
        assert service.run("job", "wait", job).code == 0
        assert not (work / "data" / "postgres" / "data").exists()
        service.ok("down")
        assert cluster.is_running
    finally:
        service.run("down")
        cluster.stop()
        shutil.rmtree(work, ignore_errors=True)


PACKAGES = Path(msgspec.__file__).parents[1]
ROOT = Path(__file__).parents[2]


def public_python() -> str | None:
    """A Python of this version that every user may run: this one's own home may be closed to others."""
    again = "subprocess.run([sys.executable, '-c', ''], check=True)"
    for name in (f"/usr/bin/python3.{sys.version_info.minor}", sys.executable):
        code = f"import subprocess, sys; {again}; sys.path.insert(0, {str(PACKAGES)!r}); import msgspec, psycopg"
        tried = subprocess.run([*AS_NOBODY, name, "-c", code], capture_output=True)
        if tried.returncode == 0:
            return name
    return None


AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else; every other test ran as one")
def test_an_ordinary_user_can_start_it() -> None:
    python = public_python()
    if python is None:
        pytest.skip("no Python of this version, or not this checkout, is open to an ordinary user here")
    work = Path(tempfile.mkdtemp(prefix="spinor-ordinary-"))
    os.chown(work, 65534, 65534)
    environ = {
        "PATH": "/usr/bin:/bin", "HOME": str(work), "PYTHONPATH": f"{PACKAGES}:{ROOT / 'src'}",
        "SPINOR_CONFIG_DIR": f"{work}/config", "SPINOR_DATA_DIR": f"{work}/data", "BEARER_TOKEN_FILE": f"{work}/token",
    }  # fmt: skip

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*AS_NOBODY, python, "-m", "spinor", *words],
            env=environ, cwd=work, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    try:
        up = run("up")
        assert up.returncode == 0, up.stderr
        job = run("job", "submit", "-q", "--", "id", "-u").stdout.strip()
        assert run("job", "wait", job).returncode == 0
        assert run("job", "log", job).stdout == "65534\n"
    finally:
        run("down")
        shutil.rmtree(work, ignore_errors=True)
