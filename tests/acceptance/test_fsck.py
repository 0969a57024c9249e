"""`spinor file fsck` against a running service and a directory: what is planted is found, mended, and taken back."""

import json
import os
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from .conftest import SPINOR, Service

pytestmark = pytest.mark.acceptance
MANY = 3000  # Enough for a repair of several batches.
OLD_S = 1_700_000_000


@pytest.fixture
def managing(service: Service) -> Iterator[Service]:
    """Signed in as one who may manage files."""
    service.ok("login", "--group", "demo_admins")
    yield service
    service.ok("login", "--group", "demo_users")


@pytest.fixture
def root(service: Service) -> Path:
    return service.work / "data" / "storage"


@pytest.fixture
def dump(managing: Service, root: Path, tmp_path: Path) -> Path:
    """Files of every kind of fault below /demo/fsck, and the dump that the site makes of them."""
    lines = []
    registered = []

    def plant(name: str, content: bytes | None, registered_as: bytes | None, adler32: str | None = "true") -> None:
        pfn = f"demo/fsck/{name}"
        if content is not None:
            (root / pfn).parent.mkdir(parents=True, exist_ok=True)
            (root / pfn).write_bytes(content)
            os.utime(root / pfn, (OLD_S, OLD_S))
            lines.append(f"{root}/{pfn} {len(content)} {zlib.adler32(content):08x}")
        if registered_as is not None:
            sums = f"{zlib.adler32(registered_as):08x}" if adler32 == "true" else ""
            registered.append(f"/demo/fsck/{name},{len(registered_as)},{sums}")

    plant("good", b"good", b"good")
    plant("size", b"cut", b"as registered")
    plant("checksum", b"content", b"CONTENT")
    plant("unsummed", b"unsummed", b"unsummed", None)
    for n in range(MANY):
        plant(f"dark/{n}", b"dark", None)
        plant(f"lost/{n}", None, b"lost")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["lfn,size_bytes,adler32", *registered]) + "\n")
    managing.ok("file", "register-manifest", str(manifest), "--se", "local")
    database_url = json.loads((managing.work / "data" / "state.json").read_text())["database_url"]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE catalog.file SET created_at = now() - interval '2 days'")
    target = tmp_path / "dump.txt"
    target.write_text("\n".join(lines) + "\n")
    return target


def check(service: Service, dump: Path, report: Path) -> dict[str, int]:
    """The dump is of this moment, and nobody else writes."""
    dump.touch()
    words = ("--se", "local", "--dump", str(dump), "--margin", "0", "--report", str(report), "--json")
    done = service.run("file", "fsck", "/demo/fsck", *words)
    answer = done.models[0]
    assert done.code == int(answer["findings"] > 0), done.err
    kinds = ("dark", "lost", "size", "checksum", "no-checksum")
    return {kind: answer["counts"][kind] for kind in kinds if answer["counts"].get(kind)}


PLANTED = {"dark": MANY, "lost": MANY, "size": 1, "checksum": 1, "no-checksum": 1}


def test_planted_faults_are_found_mended_and_taken_back(managing: Service, dump: Path, tmp_path: Path) -> None:
    report = tmp_path / "first.ndjson"
    assert check(managing, dump, report) == PLANTED
    repair = ("file", "fsck", "--repair", str(report), "--dark", "adopt", "--lost", "remove")
    _killed_in_the_middle(managing, repair, report)
    managing.ok(*repair)
    assert check(managing, dump, tmp_path / "second.ndjson") == {}
    assert managing.run("file", "fsck", "/demo/fsck", "--report", str(tmp_path / "proof.ndjson")).code == 0
    managing.ok("file", "fsck", "--undo", str(report))
    assert check(managing, dump, tmp_path / "third.ndjson") == PLANTED
    assert managing.run("file", "fsck", "/demo/fsck", "--report", str(tmp_path / "proof.ndjson")).code == 0
    managing.ok("file", "rm", "-r", "/demo/fsck")


def _killed_in_the_middle(service: Service, words: tuple[str, ...], report: Path) -> None:
    """SIGKILL as soon as the first batch of changes has been asked for."""
    log = report.with_name("first.repair-1.ndjson")
    process = subprocess.Popen([SPINOR, *words], env=service.environ, cwd=service.work, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (log.exists() and log.stat().st_size > 10_000):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the repair was over before it could be killed"
