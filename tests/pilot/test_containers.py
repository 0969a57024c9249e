"""Payloads in container images. Apptainer was not at hand: what is tested of it is its command line."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import containers, limits
from spinor_pilot.children import Start
from spinor_pilot.faults import ImageFault
from spinor_pilot.isolation import Home
from spinor_pilot.workplace import Share
from tests.pilot.test_malicious import job

SEES = """
cat /etc/os-release; pwd; ls /usr/bin/python3; echo made >made; cat made "$BEARER_TOKEN_FILE"; echo; id -u; ls /job
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root directory of a tiny image: a shell, three programs, and their libraries."""
    root = tmp_path_factory.mktemp("images") / "tiny"
    for name in ("bin", "etc", "proc", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    for name, source in {"sh": "dash", "cat": "cat", "ls": "ls", "id": "id", "sleep": "sleep", "head": "head"}.items():
        program = shutil.which(source) or shutil.which(name)
        assert program
        shutil.copy(program, root / "bin" / name)
        for line in subprocess.check_output(["ldd", program], text=True).splitlines():
            for library in [word for word in line.split() if word.startswith("/")]:
                (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(os.path.realpath(library), root / library[1:])
    (root / "etc/os-release").write_text("NAME=tiny\n")
    (root / "etc/resolv.conf").touch()
    root.chmod(0o755)
    return root


def run(tmp_path: Path, *jobs: dict[str, Any], **environ: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tests.pilot.runner", str(tmp_path)],
        input=json.dumps({"jobs": jobs, "images": True}), capture_output=True, text=True, timeout=180,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "HOME": "/root", **environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_an_unpacked_image_is_the_payloads_root(image: Path, tmp_path: Path) -> None:
    told = run(tmp_path, job(1, SEES, container_image=str(image)), job(2, SEES, container_image=f"file://{image}"))
    if containers.DIRECTORY not in told["runtimes"]:
        pytest.skip(f"no cells here: {told['why']}")
    for number in ("1", "2"):
        assert told["reports"][number]["exit_code"] == 0, told
        lines = told["logs"][f"{number} stdout"].splitlines()
        assert lines[:4] == ["NAME=tiny", "/job", "made", f"token-of-{number}"]
        assert lines[5:] == ["made"]
        assert "/usr/bin/python3" in told["logs"][f"{number} stderr"]


def test_an_image_that_is_not_there_is_the_sites_fault(tmp_path: Path) -> None:
    told = run(tmp_path, job(1, "true", container_image="/cvmfs/no.such/image"))
    report = told["reports"]["1"]
    assert report["error_class"] == "site"
    assert "/cvmfs/no.such/image" in report["error"]


def test_the_right_runtime_is_chosen(image: Path) -> None:
    choose = containers.runtime_for
    assert choose("", []) == ""
    assert choose(str(image), ["directory", "apptainer"]) == "directory"
    assert choose(str(image), ["apptainer"]) == "apptainer"
    assert choose("docker://rootproject/root:6.32", ["directory", "podman"]) == "podman"
    assert choose("docker://rootproject/root:6.32", ["apptainer", "podman"]) == "apptainer"
    assert choose("oras://registry/image", ["singularity"]) == "singularity"
    with pytest.raises(ImageFault, match="apptainer or singularity or podman; what works on this node: directory"):
        choose("docker://rootproject/root:6.32", ["directory"])
    with pytest.raises(ImageFault, match="is not on this node"):
        choose("/images/gone.sif", ["apptainer"])


def test_apptainer_gets_the_environment_and_not_the_node(tmp_path: Path) -> None:
    start = Start(["./run.sh", "a b"], {"PATH": "/bin", "SPINOR_JOB_ID": "7"}, "/job", "out", "err", "", uid=None)
    share = Share(limits.of(1 << 30, 1 << 30, 2), (), [])
    made = containers.wrapped(start, "apptainer", "docker://python:3.12", Home(tmp_path), share)
    assert made.argv[:4] == ["apptainer", "--silent", "exec", "--containall"]
    assert made.argv[-3:] == ["docker://python:3.12", "./run.sh", "a b"]
    assert f"{tmp_path}/papers:/spinor:ro" in made.argv
    assert made.env["APPTAINERENV_SPINOR_JOB_ID"] == "7"
    (tmp_path / "stderr").write_text("FATAL:   Unable to handle docker://python:3.12 uri: no such host\n")
    assert "no such host" in containers.failure_of(made, Home(tmp_path), 255)
    assert containers.failure_of(made, Home(tmp_path), 1) == ""


@pytest.fixture
def store() -> Iterator[Path]:
    """A directory of a short name, since Podman makes sockets in it."""
    made = Path(tempfile.mkdtemp(prefix="sp-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.peer("containers")
@pytest.mark.skipif(os.geteuid() != 0, reason="podman is tried as root here")
def test_podman_runs_an_image_inside_limits(image: Path, tmp_path: Path, store: Path) -> None:
    options = (
        f"--root {store}/root --runroot {store}/run --storage-driver vfs --events-backend file "
        "--cgroup-manager cgroupfs --runtime runc"
    )
    archive = tmp_path / "tiny.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(image, arcname=".")
    subprocess.run(
        ["podman", *options.split(), "import", str(archive), "localhost/tiny:1"], check=True, capture_output=True
    )
    base = tmp_path / "pilot"
    base.mkdir()
    told = run(
        base,
        job(1, SEES, container_image="localhost/tiny:1"),
        job(2, "head -c 400000000 /dev/zero >/job/../dev/shm/x; x=$(head -c 400000000 /dev/zero | cat -A); sleep 20",
            container_image="localhost/tiny:1", memory_bytes=50_000_000),
        job(3, "sleep 60", container_image="localhost/tiny:1", wall_s=3),
        job(4, "true", container_image="localhost/absent:1"),
        SPINOR_PODMAN_OPTIONS=options,
    )  # fmt: skip
    if "podman" not in told["runtimes"]:
        pytest.skip("podman cannot run a container inside limits here")
    assert told["reports"]["1"]["exit_code"] == 0, told
    lines = told["logs"]["1 stdout"].splitlines()
    assert lines[:4] == ["NAME=tiny", "/job", "made", "token-of-1"]
    assert lines[4] != "0"
    assert told["reports"]["2"]["error_class"] == "memory", told["reports"]["2"]
    assert told["reports"]["3"]["error_class"] == "time", told["reports"]["3"]
    assert told["reports"]["4"]["error_class"] == "site", told
    assert "podman failed" in told["reports"]["4"]["error"]
    left = subprocess.check_output(["podman", *options.split(), "ps", "--all", "--quiet"], text=True)
    assert not left
