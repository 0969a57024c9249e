"""Payloads that mean harm: each is run by a real pilot's runner, beside a neighbour that must not notice.

As root each has an account of its own; as an ordinary user it has the pilot's. Both are tried, with and without control
groups. What the payload tries is told by its log.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import system

MB = 1_000_000
HERE = Path(__file__).parents[2]
NOBODY = 65_534
Run = Callable[..., dict[str, Any]]


def job(number: int, script: str, **changes: object) -> dict[str, Any]:
    return {
        "job_id": number, "attempt": 1, "array_index": 0, "vo": "astro", "owner_id": 1, "owner": "ada",
        "executable": "/bin/sh", "arguments": ["-c", script], "environment": {}, "input_sandboxes": [],
        "input_data": [], "output_sandbox": [], "output_data": [], "cores": 1, "memory_bytes": 200 * MB,
        "disk_bytes": 50 * MB, "wall_s": 60, "token": f"token-of-{number}", **changes,
    }  # fmt: skip


def python(code: str) -> str:
    return f"exec /usr/bin/env python3 -c '{code}'"


GOOD = job(2, 'echo began; sleep 3; cat "$BEARER_TOKEN_FILE"; echo; echo kept >kept; cat kept')


@pytest.fixture(params=["root", "root without cgroups", "user"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run payloads as a pilot of this account; skipped where that account cannot be had or cannot isolate."""
    as_user = request.param == "user"
    if not as_user and os.geteuid() != 0:
        pytest.skip("only root can run a pilot as root")
    # Not below pytest's own directory, which is closed to other accounts.
    base = Path(subprocess.check_output(["mktemp", "-d", "/var/tmp/spinor-XXXXXX"], text=True).strip())
    request.addfinalizer(lambda: shutil.rmtree(base, ignore_errors=True))
    home = base / "account" / "pilot-1"
    home.mkdir(parents=True)
    base.chmod(0o755)
    python_path, who = str(HERE), []
    if as_user and os.geteuid() == 0:
        # The checkout may be closed to other accounts as well.
        python_path = str(base / "code")
        for name in ("src/spinor_pilot", "tests/pilot"):
            shutil.copytree(HERE / name, Path(python_path, name.removeprefix("src/")))
        for path in (base / "account", home):
            os.chown(path, NOBODY, NOBODY)
        who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    interpreter = "/usr/bin/python3" if who else sys.executable

    def begin(*jobs: dict[str, Any], isolation: str = "required", **facts: Any) -> dict[str, Any]:
        text = json.dumps(jobs).replace("{base}", str(home))
        asked = {"jobs": json.loads(text), "isolation": isolation, "cgroups": "without" not in request.param, **facts}
        done = subprocess.run(
            [*who, interpreter, "-B", "-m", "tests.pilot.runner", str(home)],
            input=json.dumps(asked), capture_output=True, text=True, timeout=120, cwd=home,
            env={"PATH": os.defpath, "PYTHONPATH": python_path, "HOME": str(home.parent)},
        )  # fmt: skip
        if "Payloads must be isolated here, and no way works" in done.stderr:
            pytest.skip(done.stderr.strip().rpartition("\n")[2])
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        assert set(told["left"]) <= {"launch.json", "pilot.log", "root"}
        return told

    return begin


def neighbour_is_well(told: dict[str, Any]) -> None:
    assert told["reports"]["2"]["exit_code"] == 0, told["reports"]["2"]
    assert told["logs"]["2 stdout"] == "began\ntoken-of-2\nkept\n"


def test_a_fork_bomb_is_confined(run: Run) -> None:
    told = run(job(1, "bomb() { bomb | bomb & }; bomb; sleep 100", wall_s=6), GOOD)
    report = told["reports"]["1"]
    assert report["exit_code"] != 0
    assert report["error_class"] in ("payload", "time"), report
    neighbour_is_well(told)


def test_a_memory_hog_is_ended_with_the_figures(run: Run) -> None:
    code = "import time; x = []; [(x.append(bytearray(20000000)), time.sleep(0.02)) for _ in range(200)]"
    told = run(job(1, f"python3 -c '{code}'; sleep 30"), GOOD)
    report = told["reports"]["1"]
    assert report["error_class"] == "memory", report
    assert "200,000,000" in report["error"]
    assert report["max_rss_bytes"] > 150 * MB
    neighbour_is_well(told)


def test_a_memory_hog_of_many_processes_is_ended(run: Run) -> None:
    code = "import os, time; [os.fork() for _ in range(3)]; x = bytearray(100000000); time.sleep(30)"
    told = run(job(1, f"python3 -c '{code}'; sleep 30"), GOOD)
    assert told["reports"]["1"]["error_class"] == "memory", told["reports"]["1"]
    neighbour_is_well(told)


@pytest.mark.parametrize(
    "script",
    [
        "i=0; while :; do head -c 20000000 /dev/zero >file$i; i=$((i + 1)); sleep 0.1; done",
        "i=0; while :; do head -c 20000000 /dev/zero >$TMPDIR/file$i; i=$((i + 1)); sleep 0.1; done",
        # Files without a name.
        python(
            'import os, time; f = [open(str(i), "wb") for i in range(9)]; [os.unlink(str(i)) for i in range(9)]; '
            "[(o.write(bytes(20000000)), o.flush(), time.sleep(0.1)) for o in f]; time.sleep(60)"
        ),
    ],
    ids=["directory", "tmp", "unlinked"],
)
def test_a_disk_filler_is_ended(run: Run, script: str) -> None:
    told = run(job(1, script), GOOD)
    report = told["reports"]["1"]
    assert report["error_class"] == "payload", report
    assert "50,000,000" in report["error"]
    neighbour_is_well(told)


def test_one_huge_file_is_stopped_by_the_kernel(run: Run) -> None:
    told = run(job(1, "truncate -s 1T sparse; echo $?; head -c 60000000 /dev/zero >big; echo $?; wc -c <big"), GOOD)
    first, second, size = told["logs"]["1 stdout"].split()
    assert first != "0"
    assert second != "0"
    assert int(size) <= 50 * MB
    neighbour_is_well(told)


THIEF = """
for file in ../launch.json ../../launch.json {base}/launch.json {base}/job-2.1/papers/token {base}/job-2.1/work/kept; do
    cat $file && echo stolen
done
for process in /proc/[0-9]*; do
    if grep -q -e "the [p]ilot.s secret" -e "[t]oken-of-2" $process/environ $process/cmdline; then echo stolen; fi
done
ls -R {base} /tmp /var/tmp /home /root | grep -e launch -e job-2 -e token && echo stolen
cat /etc/shadow && echo stolen
find / -name launch.json -not -path '/proc/*' -not -path '/sys/*' 2>/dev/null | grep . && echo stolen
echo over
"""


def test_a_thief_finds_no_token(run: Run) -> None:
    told = run(job(1, THIEF), GOOD)
    assert told["logs"]["1 stdout"] == "over\n"
    neighbour_is_well(told)


MEMORY_THIEF = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
tried = 0
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        tried += 1
        for kind in ("mem", "environ", "maps", "root/etc/passwd", "fd"):
            try:
                (os.listdir if kind == "fd" else open)(f"/proc/{name}/{kind}")
                print("opened", name, kind)
            except OSError:
                pass
        if libc.ptrace(16, int(name), 0, 0) == 0:
            print("traced", name)
print("tried", tried)
"""


def test_no_memory_but_its_own_can_be_read(run: Run) -> None:
    """All that a payload sees is its keeper, and it may look into none of it."""
    told = run(job(1, 'exec python3 -c "$CODE"', environment={"CODE": MEMORY_THIEF}), GOOD)
    assert told["logs"]["1 stdout"] == "tried 1\n"
    neighbour_is_well(told)


def test_links_out_of_the_directory_are_not_followed(run: Run, tmp_path: Path) -> None:
    script = """
    ln -s /etc/shadow shadow; ln -s ../../job-2.1/papers/token token; ln -s /etc deep; ln -s . self; mkfifo pipe
    echo mine >mine; ln mine twin; ln -s mine inner; cp /bin/true setuid && chmod 6755 setuid
    """
    told = run(
        job(1, script, output_sandbox=["shadow", "token", "deep/shadow", "pipe", "mine", "twin", "inner", "setuid"]),
        job(3, "ln -s /etc/hostname result", output_data=[place(tmp_path, "result")]),
        job(4, "mkfifo result", output_data=[place(tmp_path, "result")]),
        GOOD,
        sandbox=True,
    )
    missing = told["reports"]["1"]["missing"]
    assert [line.split()[0] for line in missing] == ["shadow", "token", "deep/shadow"]
    with tarfile.open(fileobj=io.BytesIO(bytes.fromhex(told["sandboxes"][0]))) as archive:
        members = {member.name: member for member in archive}
        assert set(members) == {"mine", "twin", "inner", "setuid"}
        assert members["twin"].isfile()
        assert not members["setuid"].mode & 0o7000
    assert "leads out" in told["reports"]["3"]["error"]
    assert "regular file" in told["reports"]["4"]["error"]
    assert not list(tmp_path.rglob("result*"))
    neighbour_is_well(told)


def place(root: Path, path: str) -> dict[str, Any]:
    target = {"se": "se", "pfn": f"astro/{path};1.1", "url": (root / "se" / f"{path};1.1").as_uri()}
    return {"path": path, "lfn": f"/astro/{path}", "places": [target], "failover": [], "required": True}


def test_strange_names_are_refused_or_kept_as_they_are(run: Run) -> None:
    pattern = {
        "path": "*.dat", "lfn": "/astro/{file}", "failover": [], "required": True,
        "places": [{"se": "se", "pfn": "astro/{file};1.1", "url": "file:///nowhere/{file};1.1"}],
    }  # fmt: skip
    told = run(
        job(1, "touch \"$(printf 'line\\nbreak.dat')\"", output_data=[pattern]),
        job(4, "touch \"$(printf 'caf\\351.dat')\"", output_data=[pattern]),
        job(3, 'echo x >"..."; echo y >"$(printf \'line\\nbreak\')"', output_sandbox=["*", "..*"]),
        GOOD,
        sandbox=True,
    )
    assert "control character" in told["reports"]["1"]["error"]
    assert "not UTF-8" in told["reports"]["4"]["error"]
    with tarfile.open(fileobj=io.BytesIO(bytes.fromhex(told["sandboxes"][0]))) as archive:
        assert sorted(archive.getnames()) == ["...", "line\nbreak"]
    neighbour_is_well(told)


def test_an_endless_log_and_escape_sequences_arrive_as_bytes(run: Run) -> None:
    told = run(job(1, "printf '\\033]0;owned\\007\\033[2J'; yes 2>&1 | head -c 60000000", wall_s=30), GOOD)
    assert told["logs"]["1 stdout"].startswith("\x1b]0;owned\x07\x1b[2Jy\n")
    neighbour_is_well(told)


def test_a_log_that_is_cut_by_its_payload_goes_on(run: Run) -> None:
    told = run(job(1, "echo before; sleep 1; echo now >/dev/stdout; sleep 1; echo after"), GOOD)
    assert told["logs"]["1 stdout"] == "before\nnow\nafter\n"
    neighbour_is_well(told)


def test_nothing_of_it_goes_on_when_it_has_ended(run: Run) -> None:
    mark = f"31{os.getpid()}"
    told = run(job(1, f"setsid env -i sleep {mark} & (trap '' TERM HUP; sleep {mark} &) ; exit 0"), GOOD)
    assert told["reports"]["1"]["exit_code"] == 0
    assert not [process for process in system.processes() if f"sleep\0{mark}" in arguments(process.pid)]
    neighbour_is_well(told)


def arguments(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except OSError:
        return ""


def test_killing_everybody_reaches_itself_only(run: Run) -> None:
    told = run(job(1, "kill -9 $PPID; kill -9 -1; kill -9 0"), GOOD)
    assert told["reports"]["1"]["exit_code"] != 0
    neighbour_is_well(told)


def test_no_program_gives_it_other_rights(run: Run) -> None:
    script = "grep -e NoNewPrivs -e CapEff /proc/self/status; su -c id root </dev/null; mount -t tmpfs x /mnt; id -u"
    told = run(job(1, script), GOOD)
    lines = told["logs"]["1 stdout"].split("\n")
    assert lines[:2] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert lines[2] != "0"
    neighbour_is_well(told)


def test_the_limits_cannot_be_lifted_from_inside(run: Run) -> None:
    """Also not by root of a namespace of its own."""
    script = """
    unshare -Ur sh -c 'mount -o remount,rw /sys/fs/cgroup; mount -o remount,rw /usr; echo 0 >/proc/1/oom_score_adj
    for file in $(find /sys/fs/cgroup -name "memory.limit_in_bytes" -o -name memory.max -o -name pids.max); do
        echo 1000000000000 >$file && echo lifted; done' 2>/dev/null
    touch /usr/mine 2>/dev/null && echo written; echo over
    """
    told = run(job(1, script), GOOD)
    assert told["logs"]["1 stdout"] == "over\n"
    neighbour_is_well(told)


def test_a_kernel_before_5_12_keeps_the_node_read_only_too(run: Run) -> None:
    told = run(
        job(1, "touch /usr/mine /etc/mine 2>/dev/null; test -e /usr/mine -o -e /etc/mine; echo $?"),
        GOOD,
        old_kernel=True,
    )
    assert told["level"] == "namespaces", told["why"]
    assert told["logs"]["1 stdout"] == "1\n"
    neighbour_is_well(told)


def test_a_bottomless_tree_is_ended_and_removed(run: Run) -> None:
    dig = "import os; [(os.mkdir(str(n)), os.chdir(str(n))) for n in range(20000)]"
    told = run(job(1, f"python3 -c '{dig}'; chmod 500 .; sleep 30"), GOOD)
    report = told["reports"]["1"]
    assert report["error_class"] == "payload", report
    assert "nested" in report["error"]
    neighbour_is_well(told)


@pytest.mark.peer("containers")
@pytest.mark.parametrize("run", ["user"], indirect=True)
def test_bubblewrap_keeps_the_same_things_apart(run: Run) -> None:
    mark = f"32{os.getpid()}"
    told = run(
        job(1, f"{THIEF}\nsetsid env -i sleep {mark} & kill -9 -1"),
        job(3, "touch /usr/mine 2>/dev/null || echo read-only; echo x >/job/x; echo y >/tmp/y; cat /job/x /tmp/y"),
        GOOD,
        level="bubblewrap",
    )
    assert told["logs"]["1 stdout"] == "over\n"
    assert told["logs"]["3 stdout"] == "read-only\nx\ny\n"
    assert not [process for process in system.processes() if f"sleep\0{mark}" in arguments(process.pid)]
    neighbour_is_well(told)


ACCOUNT_THIEF = """
cat ../../launch.json ../../job-2.1/papers/token ../../job-2.1/work/kept && echo stolen
for process in /proc/[0-9]*; do
    if grep -q -e "the [p]ilot.s secret" -e "[t]oken-of-2" $process/environ; then echo stolen; fi
done
env -i setsid sh -c 'sleep {mark} & sleep {mark} &' &
kill -9 -1
"""


@pytest.mark.parametrize("run", ["root", "root without cgroups"], indirect=True)
def test_an_account_of_its_own_keeps_files_and_memory_apart(run: Run) -> None:
    """Where there are no namespaces. What it left behind is found by its account, whatever it did to hide."""
    mark = f"33{os.getpid()}"
    told = run(job(1, ACCOUNT_THIEF.replace("{mark}", mark)), GOOD, level="account")
    assert (told["level"], told["own_account"]) == ("account", True)
    assert "stolen" not in told["logs"].get("1 stdout", "")
    assert not [process for process in system.processes() if f"sleep\0{mark}" in arguments(process.pid)]
    neighbour_is_well(told)
