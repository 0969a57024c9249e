"""`spinor job …` as a person types it."""

import json
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import SPINOR, Service
from .test_terminal import Terminal

pytestmark = pytest.mark.acceptance

SCRIPT = '#!/bin/sh\necho "got $*"; cat in.txt; echo beside >&2; echo result > result.txt; exit ${CODE:-0}\n'


@pytest.fixture
def script(service: Service) -> Path:
    path = service.work / "script.sh"
    path.write_text(SCRIPT)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (service.work / "data").mkdir(exist_ok=True)
    (service.work / "data" / "in.txt").write_text("content\n")
    return path


def ids(service: Service, *words: str) -> list[str]:
    return service.ok("job", "submit", "-q", *words).lines


def test_a_command_runs_as_if_it_ran_here(service: Service, script: Path) -> None:
    done = service.ok(
        "job", "run", "--output", "*.txt", "--into", "back", "--", "./script.sh", "--file=data/in.txt", "{x}"
    )
    assert done.out == "got --file=in.txt {x}\ncontent\n"
    assert "beside\n" in done.err
    assert "with ./script.sh, data/in.txt" in done.err
    assert (service.work / "back" / "result.txt").read_text() == "result\n"


def test_its_exit_code_is_that_of_the_command(service: Service, script: Path) -> None:
    done = service.run("job", "run", "--env", "CODE=42", "--input", "data/in.txt", "--", "./script.sh")
    assert done.code == 42
    assert done.out == "got \ncontent\n"
    assert service.run("job", "run", "--", "sh", "-c", "kill -9 $$").code == 137
    assert service.run("job", "run").code == 2
    assert service.run("job", "run", "--site", "nowhere", "--", "true").code == 3


def test_what_is_interrupted_without_a_terminal_is_killed(service: Service) -> None:
    process = subprocess.Popen(
        [SPINOR, "job", "run", "--name", "interrupted", "--", "sh", "-c", "echo begun; sleep 600"],
        env=service.environ, cwd=service.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert [row["status"] for row in service.ok("job", "list", "--json", "--where", "name=interrupted").models] == [
        "killed"
    ]


def test_what_nobody_reads_any_more_is_killed(service: Service) -> None:
    command = f"{SPINOR} job run --name unread -- sh -c 'while echo line; do sleep 0.2; done' | head -n 2"
    done = subprocess.run(
        ["bash", "-c", command], env=service.environ, cwd=service.work, capture_output=True, text=True
    )
    assert done.stdout == "line\nline\n"
    assert "Traceback" not in done.stderr
    (row,) = service.ok("job", "list", "--json", "--where", "name=unread").models
    assert row["status"] == "killed"


class Followed(Terminal):
    """`job run` of a job that ends when it is let, so that no test needs to hurry."""

    def __init__(self, service: Service) -> None:
        self._gate = socket.create_server(("127.0.0.1", 0))
        self._gate.settimeout(120)
        script = "echo begun; exec 3<>/dev/tcp/127.0.0.1/$0; read -r <&3; echo over"
        port = str(self._gate.getsockname()[1])
        super().__init__(service, SPINOR, "job", "run", "--name", "followed", "--", "bash", "-c", script, port)

    def interrupt(self) -> None:
        self.until("begun", timeout_s=120)
        self.type("\x03")
        self.until("etach", timeout_s=120)

    def let_end(self) -> None:
        connection, _ = self._gate.accept()
        with connection:
            connection.sendall(b"\n")

    def kill(self) -> None:
        super().kill()
        self._gate.close()


@pytest.fixture
def followed(service: Service) -> Iterator[Followed]:
    opened = Followed(service)
    try:
        opened.interrupt()
        yield opened
    finally:
        opened.kill()
        service.run("job", "kill", "-y", "--where", "name=followed status=running,waiting,matched")


def test_ctrl_c_may_leave_it_running(followed: Followed, service: Service) -> None:
    followed.type("d\n")
    job_id = followed.until(r"job log -f \d+").split()[-1]
    assert followed.process.wait(120) == 0
    assert service.run("job", "wait", job_id, "--timeout", "0.2s").code == 75
    followed.let_end()
    assert service.ok("job", "wait", job_id).code == 0


def test_ctrl_c_may_be_a_mistake(followed: Followed) -> None:
    followed.type("c\n")
    followed.let_end()
    followed.until("over", timeout_s=120)
    assert followed.process.wait(120) == 0


@pytest.mark.parametrize("answer", ["k\n", "\x03"])
def test_ctrl_c_may_kill_it(followed: Followed, service: Service, answer: str) -> None:
    followed.type(answer)
    job_id = followed.until(r"Killing job \d+", timeout_s=120).split()[-1]
    assert followed.process.wait(120) != 0
    assert service.ok("job", "show", "--json", job_id).models[0]["status"] == "killed"


def test_jobs_are_named_in_many_ways(service: Service) -> None:
    (service.work / "named.yaml").write_text(
        "name: many-ways\njob_group: many-ways\nexecutable: sh\narguments: [-c, 'echo {n}']\n"
        "parameters: {n: [1, 2, 3]}\n"
    )
    first, second, third = ids(service, "named.yaml")
    array = service.ok("job", "show", "--json", first).models[0]["array_id"]
    assert service.ok("job", "wait", f"array:{array}").code == 0
    everyone = [first, second, third]
    for choice in (
        [f"{first}-{third}"], everyone, ["--array", str(array)], [f"array:{array}"], ["--group", "many-ways"],
        ["--where", "name=many-ways"],
    ):  # fmt: skip
        shown = service.ok("job", "show", "--json", *choice).models
        assert [str(job["job_id"]) for job in shown] == everyone
    assert service.ok("job", "show", "-q", "-", stdin=f"{first}\n{third}\n").lines == [first, third]
    assert service.ok("job", "log", "--group", "many-ways").out == "".join(
        f"==> job {job_id} <==\n{n}\n" for n, job_id in enumerate(everyone, 1)
    )
    listed = service.ok("job", "list", "--group", "many-ways", "--status", "done", "--mine", "--columns", "job_id,name")
    assert listed.lines[0].split() == ["job", "id", "name"]
    assert len(listed.lines) == 4
    description = service.ok("job", "show", "--description", second).out
    assert "echo 2" in description
    (service.work / "again.yaml").write_text(description)
    (again,) = ids(service, "again.yaml")
    service.ok("job", "wait", again)
    assert service.ok("job", "log", again).out == "2\n"
    assert json.loads(service.ok("job", "history", "--json", again).lines[-1])["status"] == "done"
    ran = service.ok("job", "attempts", "--json", f"{first}-{third}").models
    assert [str(each["job_id"]) for each in ran] == everyone
    assert [str(each["job_id"]) for each in service.ok("job", "usage", "--json", f"array:{array}").models] == everyone
    assert f"==> job {second} <==" in service.ok("job", "usage", "--plot", first, second).lines


def test_commands_answer_for_each_job(service: Service) -> None:
    (done,) = ids(service, "--", "true")
    service.ok("job", "wait", done)
    (held,) = ids(service, "--name", "held", "--", "sleep", "600")
    service.ok("job", "hold", held)
    assert service.ok("job", "priority", "9", held).out == f"Gave priority 9 to job {held}.\n"
    mixed = service.run("job", "kill", held, done, "999999")
    assert mixed.code == 5
    assert mixed.out == f"Killed job {held}.\n"
    assert f"job {done}: It is done" in mixed.err
    assert "job 999999: There is no such job" in mixed.err
    assert service.run("job", "kill", "999999").code == 3
    assert service.run("job", "kill").code == 2
    assert service.run("job", "release", held).code == 5
    assert service.ok("job", "delete", held, done).out == "Deleted 2 jobs.\n"
    assert service.ok("job", "list", "-q", "--where", "name=held").lines == []
    assert service.ok("job", "list", "-q", "-a", "--where", "name=held").lines == [held]
    assert service.ok("job", "reschedule", "--json", "--where", "name=nobody").models == [{"done": [], "refused": []}]


def test_waiting_has_conditions_and_an_end(service: Service) -> None:
    (slow,) = ids(service, "--name", "slow", "--", "sleep", "600")
    (bad,) = ids(service, "--", "false")
    assert service.run("job", "wait", bad).code == 1
    assert service.run("job", "wait", slow, bad, "--until", "done", "--until", "any-failed").code == 1
    assert service.ok("job", "wait", slow, "--until", "started", "--json").models[0]["reached"] == "started"
    assert service.run("job", "wait", slow, "--timeout", "0.2s").code == 75
    assert service.run("job", "wait", slow, bad, "--until", "any-ended").code == 1
    assert service.run("job", "wait", "999999").code == 3
    assert service.ok("job", "kill", slow).code == 0
    assert service.run("job", "wait", slow).code == 1


def test_sums_say_what_to_ask_for(service: Service) -> None:
    (job,) = ids(service, "--memory", "3GB", "--wall", "1h", "--name", "small", "--", "true")
    service.ok("job", "wait", job)
    stats = service.ok("job", "stats", job).out
    assert "1 done" in stats
    assert "hint: memory_bytes: 100MB would do (asked: 3 GB)." in stats
    assert "hint: wall_s: 1m00s would do (asked: 1h00m)." in stats
    assert service.ok("job", "stats", "--json", job).models[0]["statuses"] == {"done": 1}
    assert "owner" in service.ok("job", "top").out
    assert service.ok("job", "top", "--json").models[0]["total"]["done"] > 0
    assert "ended well" in service.ok("job", "explain", "-v", job).out


def test_files_of_a_running_job_are_looked_at(service: Service) -> None:
    loop = "mkdir out; for n in $(seq 600); do echo $n >> out/f.txt; sleep 0.1; done"
    (job,) = ids(service, "--name", "peeked", "--", "sh", "-c", loop)
    service.ok("job", "wait", job, "--until", "started")
    service.ok("job", "log", job)
    opened = Terminal(service, SPINOR, "job", "peek", "-f", job, "out/f.txt")
    try:
        opened.until(r"\n20\r", timeout_s=120)
        listed = service.ok("job", "peek", job)
        assert listed.lines[-1].endswith(" out/")
        assert service.ok("job", "peek", job, "out/f.txt", "--from", "0", "--bytes", "4").out == "1\n2\n"
        assert service.run("job", "peek", job, "out/none").code == 3
        service.ok("job", "kill", job)
        assert opened.close() == 0
    finally:
        opened.kill()
    assert service.run("job", "peek", job).code == 5
    assert json.loads(service.ok("job", "attempts", "--json", job).out)["status"] == "killed"


def test_top_is_a_screen_that_q_leaves(service: Service) -> None:
    opened = Terminal(service, "env", "TERM=xterm", SPINOR, "job", "top", "--interval", "0.2s")
    try:
        opened.until("waiting")
        opened.type("q")
        assert opened.close() == 0
    finally:
        opened.kill()
