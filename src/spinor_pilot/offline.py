"""A pilot on a node that sees no network: its jobs came with it, and what it has to say leaves with it.

Its bundle has a directory `parcel` beside the pilot, with the assignments and all that they need. In the place of the
server there is a mailbox, which answers what can be known here and keeps the rest. At the end everything is packed into
one file beside the launch file, for `spinor.pilots.push`, which can reach the server.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import threading
import time
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional

from spinor_pilot.main import main as run_pilot
from spinor_pilot.server import CHUNK, Body, GivenUp, Refused, Server

PARCEL, RESULTS = "parcel", "spinor-results.tar"
ASSIGNMENTS, SANDBOXES, DATA = "assignments.json", "sandboxes", "data"
OUTPUTS, SANDBOX = "outputs", "sandbox.tar"
HEARTBEAT_S = 1.0
_FOREVER_S = 1e9


class Mailbox(Server):
    """In the server's place: a parcel for what comes, and a spool for what goes."""

    def __init__(self, parcel: Path, spool: Path) -> None:
        super().__init__("https://offline.invalid")
        self.parcel, self.spool = parcel, spool
        self._given = False
        self._silent: set[tuple[int, int]] = set()  # Of the jobs given, those of which nothing was heard yet.
        self._writing = threading.Lock()
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)

    def json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        wait_s: float = 0,
        given_up: Optional[Callable[[], bool]] = None,
        patience_s: float = 0,
    ) -> dict[str, Any]:
        """Answer in the server's place."""
        address = urllib.parse.urlsplit(path).path
        if address == "/api/pilot/enrol":
            return {"token": "", "expires_in": _FOREVER_S, "heartbeat_s": HEARTBEAT_S, "lease_s": _FOREVER_S}
        if address == "/api/pilot/match":
            return {"jobs": self._jobs(wait_s, given_up)}
        if address == "/api/pilot/heartbeat":
            _wait(wait_s, given_up)
            # Nothing comes after what came with it. But a pilot that is to drain gives back what it has not begun.
            return {"lost": [], "drain": self._given and not self._silent}
        if address == "/api/pilot/reports":
            return {kind: [self._keep_report(kind, report) for report in reports] for kind, reports in body.items()}
        return {}

    def send(
        self,
        method: str,
        path: str,
        body: Body,
        *,
        kind: str = "application/octet-stream",
        wait_s: float = 0,
        given_up: Optional[Callable[[], bool]] = None,
        patience_s: float = 0,
    ) -> dict[str, Any]:
        """Keep a part of a log, or an output sandbox."""
        address = urllib.parse.urlsplit(path)
        asked = dict(urllib.parse.parse_qsl(address.query))
        parts = address.path.strip("/").split("/")
        if parts[-1] == "log":
            assert isinstance(body, bytes)
            is_jobs = parts[2] == "jobs"
            home = self._home(parts[3], asked["attempt"]) if is_jobs else self.spool
            return {"position": _write_at(home / (asked["stream"] if is_jobs else "log"), int(asked["position"]), body)}
        if parts[-1] == "sandboxes":
            assert body is not None
            assert not isinstance(body, bytes)
            with open(self._home(asked["job_id"], asked["attempt"]) / SANDBOX, "wb") as out:
                shutil.copyfileobj(body, out, CHUNK)
            return {"sandbox_id": 0}  # It gets a number when the server has it.
        return {}

    def download(self, path: str, target: BinaryIO, given_up: Optional[Callable[[], bool]] = None) -> None:
        """An input sandbox, from the parcel."""
        number = urllib.parse.urlsplit(path).path.rpartition("/")[2]
        file = self.parcel / SANDBOXES / number
        if not number.isdigit() or not file.exists():
            raise Refused(404, "not-found", f"the parcel has no sandbox {number}", {})
        with open(file, "rb") as source:
            shutil.copyfileobj(source, target, CHUNK)

    def close(self) -> None:
        """There is no connection."""

    def pack(self, target: Path) -> None:
        """All that was kept, complete or not at all."""
        hidden = target.with_name(f".{target.name}.part")
        with tarfile.open(hidden, "w") as archive:
            for path in sorted(self.spool.rglob("*")):
                archive.add(path, str(path.relative_to(self.spool)), recursive=False)
        hidden.rename(target)

    # ------------------------------------------------------------------------------------------------------ details

    def _jobs(self, wait_s: float, given_up: Optional[Callable[[], bool]]) -> list[dict[str, Any]]:
        if self._given:
            _wait(wait_s, given_up)
            return []
        jobs: list[dict[str, Any]] = json.loads((self.parcel / ASSIGNMENTS).read_text(encoding="utf-8"))
        self._silent = {(job["job_id"], job["attempt"]) for job in jobs}
        self._given = True
        return [self._at_home(job) for job in jobs]

    def _at_home(self, job: dict[str, Any]) -> dict[str, Any]:
        """The assignment with addresses of this node: inputs from the parcel, outputs to the spool."""
        for number, one in enumerate(job["input_data"]):
            for replica in one["replicas"]:
                replica["url"] = (self.parcel / DATA / f"{job['job_id']}-{number}").as_uri()
        home = self._home(str(job["job_id"]), str(job["attempt"]))
        for number, output in enumerate(job["output_data"]):
            first = output["places"][0]
            directory = home / OUTPUTS / str(number)
            directory.mkdir(parents=True, exist_ok=True)
            # The braces are part of an address that stands for any file's name, so they are not written as %7B.
            name = "{file}" if "{file}" in first["url"] else urllib.parse.quote(os.path.basename(output["path"]))
            output["places"], output["failover"] = [{**first, "url": f"{directory.as_uri()}/{name}"}], []
        return job

    def _home(self, job_id: str, attempt: str) -> Path:
        home = self.spool / f"{int(job_id)}.{int(attempt)}"
        home.mkdir(mode=0o700, exist_ok=True)
        return home

    def _keep_report(self, kind: str, report: dict[str, Any]) -> dict[str, Any]:
        with self._writing:
            target = self._home(str(report["job_id"]), str(report["attempt"])) / f"{kind}.json"
            hidden = target.with_suffix(".new")
            hidden.write_text(json.dumps({**report, "at": time.time()}), encoding="utf-8")
            hidden.rename(target)
            self._silent.discard((report["job_id"], report["attempt"]))
        return {"status": "done"}


def main() -> int:
    """The entry point of a bundle with a parcel, which is started in the launch file's directory."""
    here = Path.cwd()
    with zipfile.ZipFile(sys.argv[0]) as bundle:
        for name in bundle.namelist():
            if name.startswith(f"{PARCEL}/"):
                bundle.extract(name, here / ".spinor")
    mailbox = Mailbox(here / ".spinor" / PARCEL, here / ".spinor" / "spool")
    try:
        return run_pilot(lambda _: mailbox)
    finally:
        mailbox.pack(here / RESULTS)
        shutil.rmtree(here / ".spinor", ignore_errors=True)


def _write_at(path: Path, position: int, data: bytes) -> int:
    """A position beyond the end leaves no gap: what is in between was left out on purpose, and stays out."""
    with open(path, "r+b" if path.exists() else "w+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(min(position, end))
        file.write(data)
    return position + len(data)


def _wait(wait_s: float, given_up: Optional[Callable[[], bool]]) -> None:
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        if given_up is not None and given_up():
            raise GivenUp
        time.sleep(min(0.2, max(0.0, end - time.monotonic())))
