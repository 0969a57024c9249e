"""From a submitted command to its output, through every real part."""

import json
import time
import zlib
from pathlib import Path

import pytest

from spinor.embedded import processes

from .conftest import Service

pytestmark = pytest.mark.acceptance


def test_every_part_is_healthy(service: Service) -> None:
    parts = service.ok("status", "--json").models
    assert {part["name"] for part in parts} >= {"postgres", "server", "worker"}
    assert all(part["health"] == "healthy" for part in parts)


def test_doctor_finds_nothing_wrong(service: Service) -> None:
    assert service.run("doctor").code == 0


def test_whoever_started_it_is_signed_in(service: Service) -> None:
    who = service.ok("whoami", "--json").models[0]
    assert who["vo"] == "demo"
    assert "jobs:submit" in who["scopes"]


def test_a_first_job(service: Service) -> None:
    job = service.ok("job", "submit", "-q", "--", "echo", "hello from the grid").out.strip()
    assert service.run("job", "wait", job).code == 0
    assert service.ok("job", "log", job).out == "hello from the grid\n"
    shown = service.ok("job", "show", job, "--json").models[0]
    assert shown["status"] == "done"
    assert shown["exit_code"] == 0


def test_a_failing_job_says_why(service: Service) -> None:
    payload = ["python3", "-c", "import sys; print('nearly', file=sys.stderr); sys.exit(3)"]
    job = service.ok("job", "submit", "-q", "--", *payload).out.strip()
    assert service.run("job", "wait", job).code == 1
    explained = service.ok("job", "explain", job).out
    assert "3" in explained
    assert "nearly" in explained


def test_sandboxes_travel_both_ways(service: Service, tmp_path: Path) -> None:
    script = tmp_path / "double.py"
    script.write_text("import sys, pathlib\npathlib.Path('result.txt').write_text(str(2 * int(sys.argv[1])))\n")
    job = service.ok(
        "job", "submit", "-q", "--input-sandbox", str(script), "--output-sandbox", "result.txt", "--",
        "python3", "double.py", "21",
    ).out.strip()  # fmt: skip
    assert service.run("job", "wait", job).code == 0
    service.ok("job", "output", job, "-o", str(tmp_path / "out"))
    assert next((tmp_path / "out").rglob("result.txt")).read_text() == "42"


def test_data_goes_in_by_lfn_and_comes_out_registered(service: Service, tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("\n".join(map(str, range(1000))))
    service.ok("file", "put", str(tmp_path / "numbers.txt"), "/demo/chain/numbers.txt", "--se", "local")
    job = service.ok(
        "job", "submit", "-q", "--input-data", "/demo/chain/numbers.txt",
        "--output-data", "sum.txt=/demo/chain/sum.txt@local", "--",
        "sh", "-c", "python3 -c \"print(sum(map(int, open('numbers.txt'))))\" > sum.txt",
    ).out.strip()  # fmt: skip
    assert service.run("job", "wait", job).code == 0, service.run("job", "explain", job).out
    service.ok("file", "get", "/demo/chain/sum.txt", str(tmp_path / "sum.txt"))
    assert (tmp_path / "sum.txt").read_text() == "499500\n"
    stat = service.ok("file", "stat", "--json", "/demo/chain/sum.txt").models[0]
    assert stat["adler32"] == f"{zlib.adler32(b'499500' + bytes([10])):08x}"


def test_the_log_is_live(service: Service) -> None:
    payload = ["python3", "-u", "-c", "import time; print('first'); time.sleep(60)"]
    job = service.ok("job", "submit", "-q", "--", *payload).out.strip()
    deadline = time.monotonic() + 30
    while service.run("job", "log", job).out != "first\n":
        assert time.monotonic() < deadline, "the first line did not arrive while the job ran"
        time.sleep(0.3)
    assert service.ok("job", "show", job, "--json").models[0]["status"] == "running"
    service.ok("job", "kill", job)


def test_kill_reaches_the_payload(service: Service) -> None:
    mark = "a-payload-that-goes-on"
    payload = ["python3", "-c", f"import time\nprint('{mark}', flush=True)\nwhile True: time.sleep(0.2)"]
    job = service.ok("job", "submit", "-q", "--", *payload).out.strip()
    deadline = time.monotonic() + 60
    while mark not in service.ok("job", "log", job).out:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert any(mark in " ".join(processes.arguments(pid)) for pid in processes.pids())
    service.ok("job", "kill", job)
    deadline = time.monotonic() + 30
    while any(mark in " ".join(processes.arguments(pid)) for pid in processes.pids()):
        assert time.monotonic() < deadline, "the payload still runs after the kill"
        time.sleep(0.2)
    assert service.ok("job", "show", job, "--json").models[0]["status"] == "killed"


def test_an_array_of_ten_thousand_in_one_call(service: Service, tmp_path: Path) -> None:
    description = {
        "name": "many", "executable": "true", "site": "LOCAL", "cores": 64, "parameters": {"n": list(range(10_000))},
    }  # fmt: skip
    (tmp_path / "many.json").write_text(json.dumps(description))
    ids = service.ok("job", "submit", "-q", str(tmp_path / "many.json")).lines
    assert len(ids) == 10_000
    assert "cores" in service.ok("job", "explain", ids[0]).out
    service.ok("job", "kill", "-q", "-", stdin="\n".join(ids))


def test_list_feeds_reschedule(service: Service) -> None:
    job = service.ok("job", "submit", "-q", "--name", "flaky", "--", "false").out.strip()
    assert service.run("job", "wait", job).code == 1
    failed = service.ok("job", "list", "--where", f"status=failed name=flaky job_id={job}", "-q").out
    assert failed.strip() == job
    service.ok("job", "reschedule", "-", stdin=failed)
    assert service.run("job", "wait", job).code == 1
    assert service.ok("job", "show", job, "--json").models[0]["attempt"] == 2


def test_register_directory_twice_registers_nothing_new(service: Service, tmp_path: Path) -> None:
    root = next(se["root"] for se in service.ok("se", "list", "--json").models if se["name"] == "local")
    tree = Path(root) / "published"
    for number in range(30):
        file = tree / f"run{number % 3}" / f"event{number}.dat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([number]) * number)
    words = ("file", "register-directory", str(tree), "/demo/published", "--se", "local", "--checksum", "adler32")
    first = service.ok(*words, "--json").models[-1]
    assert first["registered"] == 30
    second = service.ok(*words, "--json").models[-1]
    assert second["registered"] == 0
    assert second["already"] == 30
    service.ok("file", "get", "/demo/published/run1/event7.dat", str(tmp_path / "event7"))
    assert (tmp_path / "event7").read_bytes() == bytes([7]) * 7


def test_a_restart_keeps_everything(service: Service) -> None:
    job = service.ok("job", "submit", "-q", "--", "echo", "before").out.strip()
    assert service.run("job", "wait", job).code == 0
    url = service.url
    service.ok("down")
    assert service.run("status").code == 3
    assert service.run("job", "list").code == 75
    service.ok("up")
    assert service.url == url
    assert service.ok("job", "log", job).out == "before\n"
    after = service.ok("job", "submit", "-q", "--", "echo", "after").out.strip()
    assert service.run("job", "wait", after).code == 0
