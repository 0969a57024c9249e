"""A parcel: jobs with everything that they need, in the file that a pilot on a node without network is started from."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spinor.pilots import bundle
from spinor_pilot import inputs, offline
from spinor_pilot.faults import Fault
from spinor_pilot.server import Server

_MAIN = b"from spinor_pilot.offline import main\n\nraise SystemExit(main())\n"
CHUNK = 1 << 20

Lost = Callable[[], bool]


def collect(server: Server, job: dict[str, Any], directory: Path, lost: Lost) -> None:
    """Fetch a job's sandboxes and input data into `directory`, checked. Raises Fault, which is the job's own."""
    for sandbox in job["input_sandboxes"]:
        _fetch_sandbox(server, job, sandbox, directory / offline.SANDBOXES, lost)
    for number, one in enumerate(job["input_data"]):
        aside = directory / f"{job['job_id']}-{number}"
        aside.mkdir()
        (told,) = inputs.fetch_data([one], aside, lambda: None)
        target = directory / offline.DATA / f"{job['job_id']}-{number}"
        target.parent.mkdir(exist_ok=True)
        (aside / told["path"]).rename(target)
        aside.rmdir()


def build(directory: Path, jobs: Sequence[dict[str, Any]], target: Path) -> None:
    """Write the bundle: the pilot, and what `collect` has put into `directory`. No token is in it."""
    plain = [{**job, "token": ""} for job in jobs]
    data = bundle.content(_MAIN)
    with open(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
        file.write(data)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(f"{offline.PARCEL}/{offline.ASSIGNMENTS}", json.dumps(plain))
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    archive.write(path, f"{offline.PARCEL}/{path.relative_to(directory)}")


def _fetch_sandbox(server: Server, job: dict[str, Any], sandbox: dict[str, Any], directory: Path, lost: Lost) -> None:
    """Its checksum is compared here and once more on the node."""
    directory.mkdir(exist_ok=True)
    number = int(sandbox["sandbox_id"])
    with open(directory / str(number), "w+b") as file:
        path = f"/api/pilot/sandboxes/{number}?job_id={job['job_id']}&attempt={job['attempt']}"
        server.download(path, file, lost)
        file.flush()
        if sandbox.get("sha256") and _sha256(file) != sandbox["sha256"]:
            raise Fault(f"Input sandbox {number} arrived damaged.")


def _sha256(file: io.BufferedRandom) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
