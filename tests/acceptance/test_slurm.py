"""Jobs on a real Slurm cluster, through its login node: from the command line to the payload and back."""

import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests import secrets
from tests.acceptance.conftest import Service, start_service
from tests.servers.slurm import USER, SlurmCluster

pytestmark = [pytest.mark.acceptance, pytest.mark.peer("slurm")]
WAIT_S = 90


@pytest.fixture(scope="module")
def on_slurm(slurm_cluster: SlurmCluster) -> Iterator[Service]:
    """A service whose only computing element is the cluster."""
    work = Path(tempfile.mkdtemp(prefix="spinor-on-slurm-"))
    work.chmod(0o711)
    service = start_service(work)
    try:
        slurm_cluster.ssh.files_for_clients(work / "data" / "secrets" / "computing", slurm_cluster.login)
        operations = yaml.safe_load(service.ok("config", "show").out)
        del operations["sites"]["LOCAL"]["computing_elements"]
        operations["sites"]["CLUSTER"] = {"computing_elements": {"cluster": described(slurm_cluster)}}
        service.ok("config", "apply", "-", stdin=yaml.safe_dump(operations))
        yield service
        secrets.check_processes()
    finally:
        service.run("down")
        secrets.check_files(work)
        shutil.rmtree(work, ignore_errors=True)


def described(cluster: SlurmCluster) -> dict[str, object]:
    return {
        "plugin": "slurm", "cores": 2, "memory_bytes": "1GB", "wall_s": "1h", "max_pilots": 4, "vos": ["demo"],
        "options": {
            "host": f"localhost:{cluster.login.port}",
            "ssh": {"user": USER, "key_file": "id"},
            "partition": "short",
            "directory": str(cluster.home / "pilots"),
            "idle_s": 3,
        },
    }  # fmt: skip


def test_a_job_runs_there_and_its_output_comes_back(on_slurm: Service, tmp_path: Path) -> None:
    payload = 'echo "$SLURM_JOB_NAME" >name.txt; id -un; env | grep -c SPINOR_LAUNCH'
    job = on_slurm.ok("job", "submit", "-q", "--output-sandbox", "name.txt", "--", "sh", "-c", payload).out.strip()
    ended = on_slurm.run("job", "wait", job)
    assert ended.code == 1, on_slurm.run("job", "explain", job).out  # grep has found no such variable.
    assert on_slurm.ok("job", "log", job).out == f"{USER}\n0\n"


def test_a_kill_reaches_the_payload(on_slurm: Service) -> None:
    mark = f"{random.randrange(10**6, 10**7)}.5"
    job = begun(on_slurm, f"exec sleep {mark}")[0]
    assert sleeping(mark)
    on_slurm.ok("job", "kill", job)
    until(lambda: not sleeping(mark), "the payload still runs")
    assert on_slurm.ok("job", "show", job, "--json").models[0]["status"] == "killed"


def test_scancel_gives_the_job_back(on_slurm: Service, slurm_cluster: SlurmCluster) -> None:
    """An administrator of the cluster ends the pilot; its job runs again in another one."""
    job, number = begun(on_slurm, '[ "$SPINOR_ATTEMPT" != 1 ] || sleep 300')
    slurm_cluster.run("scancel", "--batch", "--signal=TERM", number)
    assert on_slurm.run("job", "wait", job).code == 0, on_slurm.run("job", "explain", job).out
    assert on_slurm.ok("job", "log", job).out == "attempt 2\n"


def test_a_cancelled_pilot_leaves_the_queue(on_slurm: Service, slurm_cluster: SlurmCluster) -> None:
    job, number = begun(on_slurm, "sleep 300")
    pilots = on_slurm.ok("pilot", "list", "--json", "--where", "status=running").models
    (pilot,) = [each["pilot_id"] for each in pilots if each["external_id"] == number]
    on_slurm.ok("job", "kill", job)
    on_slurm.ok("login", "--group", "demo_admins")
    on_slurm.ok("pilot", "cancel", str(pilot), "--reason", "a test")
    ended = ("CANCELLED", "COMPLETED", "FAILED")
    until(lambda: slurm_cluster.run("squeue", "-h", "-t", "all", "-j", number, "-o", "%T").strip() in ended, "it runs")


def begun(service: Service, payload: str) -> tuple[str, str]:
    """A job that runs; its number here, and that of the pilot's job on the cluster."""
    job = service.ok("job", "submit", "-q", "--", "sh", "-c", f"echo attempt $SPINOR_ATTEMPT; {payload}").out.strip()
    until(lambda: service.run("job", "log", job).out.strip() == "attempt 1", "the payload does not start")
    pilot = service.ok("job", "show", job, "--json").models[0]["pilot_id"]
    return job, service.ok("pilot", "show", str(pilot), "--json").models[0]["external_id"]


def sleeping(mark: str) -> bool:
    """Whether a process sleeps for this long."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and mark.encode() in (entry / "cmdline").read_bytes().split(b"\0")[1:2]:
                return True
    return False


def until(condition: Callable[[], bool], message: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.2)
