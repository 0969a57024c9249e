"""A whole service on this machine: real processes, started once, used through the command line as a person would."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import secrets

SPINOR = str(Path(sys.executable).with_name("spinor"))


@dataclass
class Done:
    """What a finished command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def models(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


@dataclass
class Service:
    """One service and the person who started it."""

    work: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, stdin: str | None = None, **environ: str) -> Done:
        done = subprocess.run(
            [SPINOR, *words],
            env={**self.environ, **environ},
            input=stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=120,
            cwd=self.work,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, stdin: str | None = None, **environ: str) -> Done:
        done = self.run(*words, stdin=stdin, **environ)
        assert done.code == 0, f"{words}: {done.code}\n{done.out}\n{done.err}"
        return done

    @property
    def url(self) -> str:
        book = json.loads((self.work / "config" / "client.json").read_text())
        return str(book["current"])


def start_service(work: Path) -> Service:
    """Start a service whose every file lies below `work`."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("SPINOR_", "BEARER_"))}
    environ |= {
        "SPINOR_CONFIG_DIR": str(work / "config"),
        "SPINOR_DATA_DIR": str(work / "data"),
        "BEARER_TOKEN_FILE": str(work / "token"),
    }
    service = Service(work, environ)
    service.ok("up")
    return service


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A running service, signed in."""
    work = Path(tempfile.mkdtemp(prefix="spinor-acceptance-"))
    work.chmod(0o711)
    made = start_service(work)
    try:
        yield made
        secrets.check_processes()
    finally:
        made.run("down")
        secrets.check_files(work)
        shutil.rmtree(work, ignore_errors=True)
