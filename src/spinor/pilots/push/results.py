"""What a pilot without network has left, handed on to the server and the storages."""

import contextlib
import json
from pathlib import Path
from typing import Any

from spinor_pilot import inputs, offline, outputs
from spinor_pilot.endings import STALE, take_back, tell_end
from spinor_pilot.faults import DataFault, Fault, told
from spinor_pilot.reports import ENDED, Reports
from spinor_pilot.server import CHUNK, Refused, Server


def unpack(archive: Path, directory: Path) -> None:
    """Raises Fault for an archive that a pilot would not write."""
    directory.mkdir(parents=True)
    with open(archive, "rb") as file:
        inputs.unpack(file, directory, "what the pilot left")


def has_ended(directory: Path, job: dict[str, Any]) -> bool:
    return (_home(directory, job) / f"{ENDED}.json").exists()


def hand_on(server: Server, reports: Reports, job: dict[str, Any], directory: Path) -> str:
    """Send a job's logs, output sandbox, outputs and last report, in this order; what became of it.

    Raises Refused where the attempt is not ours any more.
    """
    home = _home(directory, job)
    report: dict[str, Any] = json.loads((home / f"{ENDED}.json").read_text(encoding="utf-8"))
    report.pop("at", None)
    uploaded: list[dict[str, Any]] = []
    try:
        for stream in ("stdout", "stderr"):
            _send_log(server, job, home / stream, stream)
        _send_sandbox(server, job, home / offline.SANDBOX, report)
        report["outputs"] = _deliver(job, home / offline.OUTPUTS, report, uploaded)
    except Fault as fault:
        take_back(uploaded)
        report.update(outputs=[], error=str(fault), error_class=fault.error_class)
    return tell_end(reports, report, uploaded, _never)


def _deliver(
    job: dict[str, Any], directory: Path, report: dict[str, Any], uploaded: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Bring the outputs to their real places; each must still be what the node has measured."""
    measured = {each["lfn"]: each["sha256"] for each in report["outputs"]}
    if not measured:
        return []
    delivered: list[dict[str, Any]] = []
    for number, output in enumerate(job["output_data"]):
        here = directory / str(number)
        if not here.is_dir() or not any(here.iterdir()):
            continue
        name = "*" if any("{file}" in place["url"] for place in output["places"]) else Path(output["path"]).name
        asked = {**output, "path": name}
        delivered += outputs.deliver(asked, str(here), [], lambda: None, uploaded)
    for each in delivered:
        if measured.get(each["lfn"]) != each["sha256"]:
            raise DataFault(f"The output {each['lfn']} was damaged on its way from the node.")
    if missing := measured.keys() - {each["lfn"] for each in delivered}:
        raise DataFault(f"These outputs were lost on their way from the node: {', '.join(sorted(missing))}.")
    return delivered


def _never() -> bool:
    return False


def _send_log(server: Server, job: dict[str, Any], file: Path, stream: str) -> None:
    with contextlib.suppress(FileNotFoundError), open(file, "rb") as text:
        position = 0
        while data := text.read(CHUNK):
            path = f"/api/pilot/jobs/{job['job_id']}/log?attempt={job['attempt']}&stream={stream}&position={position}"
            server.send("POST", path, data)
            position += len(data)


def _send_sandbox(server: Server, job: dict[str, Any], archive: Path, report: dict[str, Any]) -> None:
    if report.get("output_sandbox_id") is None or not archive.exists():
        report["output_sandbox_id"] = None
        return
    path = f"/api/pilot/sandboxes?job_id={job['job_id']}&attempt={job['attempt']}"
    try:
        with open(archive, "rb") as file:
            report["output_sandbox_id"] = server.send("PUT", path, file)["sandbox_id"]
    except Refused as refused:
        if refused.code in STALE:
            raise
        report["output_sandbox_id"] = None
        report["missing"].append(f"output sandbox: {refused}")
    except OSError as error:
        raise Fault(told("reading the output sandbox", error)) from error


def _home(directory: Path, job: dict[str, Any]) -> Path:
    return directory / f"{job['job_id']}.{job['attempt']}"
