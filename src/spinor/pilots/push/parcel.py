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
from spinor_pilot import inputs, node, offline
from spinor_pilot.faults import DataFault, SiteFault
from spinor_pilot.limits import RESERVE_BYTES
from spinor_pilot.server import Server

_MAIN = b"from spinor_pilot.offline import main\n\nraise SystemExit(main())\n"
CHUNK = 1 << 20

Lost = Callable[[], bool]


def check_room(job: dict[str, Any], directory: Path, disk_bytes: int) -> None:
    """Raises SiteFault when a job's inputs are too much for a node, or for this machine."""
    wanted = sum(int(one["size_bytes"]) for one in (*job["input_sandboxes"], *job["input_data"]))
    if wanted > disk_bytes:
        raise SiteFault(
            f"The inputs have {wanted:,} bytes, and nodes of this element are taken to have {disk_bytes:,}; "
            "its option disk_bytes tells what they have."
        )
    # All that is collected is written once more, into the bundle.
    collected = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    room = (node.disk_bytes(directory) - RESERVE_BYTES - collected) // 2
    if wanted > room:
        raise SiteFault(
            f"The inputs have {wanted:,} bytes, and the machine that collects them has room for {max(0, room):,}; "
            "free disk space there, or move the worker's directory."
        )


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
            raise DataFault(f"Input sandbox {number} arrived damaged.")


def _sha256(file: io.BufferedRandom) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
