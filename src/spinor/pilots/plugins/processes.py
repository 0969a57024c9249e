"""Pilots as detached processes of one machine, which outlive whoever started them.

The `local` plugin imports this module; the `ssh` plugin sends its source to a host, where `python3 -` runs it. So it is
standard library only and written for Python 3.9, as the pilot is.

Each pilot has a directory of its own, of mode 0700, with its launch file, its output, who it is as a process, and its
exit code. Where slots are counted, a full machine's refusal of a pilot is kept: whoever asks for that pilot again gets
the same answer, so that two workers, who go through several machines in one order, cannot start it on two of them.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
# Pilots get nothing else of the environment of whoever starts them: a worker's holds the database's address.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
KEEP_S = 86_400.0  # Directories of ended pilots are removed after a day.
START_S = 10.0
OUTPUT_BYTES = 64 * 1024
FULL = "full"  # The error of a pilot for which there is no slot.
BUNDLE = "spinor-pilot.pyz"
_ASKED = "asked-to-stop"  # When it was: seconds of the clock that begins with the boot, as `process` names the boot.
_HOME = re.compile(r"pilot-\d+|\.pilot-\d+\.[0-9a-f]{16}")  # The second ones are being made.
PARCEL = ".parcel-"  # So begin the names of large bundles, which are sent before those who start from them.

# The file `process` is made once and by nobody else (noclobber), so a pilot cannot be started twice; it says who the
# wrapper is, in words that a reused process id does not fit. The wrapper outlives a SIGTERM to the group, to see the
# pilot's exit code.
_LAUNCHER = '/bin/sh -c "$0" spinor-pilot "$@" &'  # Ends at once, so that nobody has to collect the wrapper.
_WRAPPER = """
set -C
cat /proc/$$/stat /proc/sys/kernel/random/boot_id >process || exit 99
set +C
trap '' TERM
"$@" >>stdout 2>>stderr </dev/null
echo $? >exit-code.new
mv exit-code.new exit-code
"""


class Processes:
    """The pilots below one directory. With `slots`, at most so many run at a time."""

    def __init__(self, base: Path, environment: dict[str, str], python: str = "", slots: int | None = None) -> None:
        self.base = base
        self.environment = environment
        self.python = python or sys.executable
        self.slots = slots

    def submit(self, pilots: list[dict[str, Any]], bundle: bytes | Path) -> list[dict[str, Any]]:
        """Start pilots, each {pilot_id, mark, launch}; for each its name or an error. Raises OSError for all.

        The bundle comes as it is, or as a file. One beside the pilots' directories was sent for them, and is nobody
        else's: it is linked, since a copy of some gigabytes takes longer than whoever asks waits for the answer.
        """
        self.base.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._sweep()
        return [self._submit_one(pilot, bundle) for pilot in pilots]

    def find(self, pilot_ids: list[int]) -> dict[int, str]:
        names = {pilot_id: _name(pilot_id) for pilot_id in pilot_ids}
        return {pilot_id: name for pilot_id, name in names.items() if (self.base / name / "process").exists()}

    def state(self, name: str) -> str:
        home = self._home(name)
        if home is None:
            return "vanished"
        # In this order: a pilot that ends between the two looks has left its code.
        alive = _group(home) is not None
        with contextlib.suppress(FileNotFoundError, ValueError):
            return "done" if int((home / "exit-code").read_text()) == 0 else "failed"
        if alive:
            return "running"
        if not (home / "process").exists() and time.time() - home.stat().st_mtime < START_S:
            return "waiting"
        return "vanished"

    def cancel(self, names: list[str], grace_s: float) -> None:
        """Ask, and force at a later call whoever is still there after the grace; nobody waits for it here."""
        for name in names:
            home = self._home(name)
            if home is None:
                continue
            asked_at_s = _asked_at_s(home)
            if asked_at_s is not None and time.monotonic() - asked_at_s >= grace_s:
                self.signal(name, signal.SIGKILL)
            # Asked again within the grace, as one that was just starting may not have heard it.
            elif self.signal(name, signal.SIGTERM) and asked_at_s is None:
                try:
                    (home / _ASKED).write_text(str(time.monotonic()))
                except OSError:
                    # On a full disk nobody could tell later when the grace is over; and this pilot may have filled it.
                    self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: int) -> bool:
        """Whether there was a process group to signal."""
        home = self._home(name)
        group = None if home is None else _group(home)
        if group is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            return True
        return False

    def output(self, name: str) -> str:
        home = self._home(name)
        if home is None:
            return ""
        parts = []
        for stream in ("stdout", "stderr"):
            with contextlib.suppress(OSError), open(home / stream, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - OUTPUT_BYTES))
                parts.append(file.read().decode("utf-8", "replace"))
        return "".join(parts)

    def left(self, name: str, file: str) -> Path | None:
        """Where a file is that a pilot left in its directory."""
        home = self._home(name)
        path = None if home is None else home / file
        return path if path is not None and path.is_file() and not path.is_symlink() else None

    # --------------------------------------------------------------------------------------------------- starting

    def _submit_one(self, pilot: dict[str, Any], bundle: bytes | Path) -> dict[str, Any]:
        home = self.base / _name(pilot["pilot_id"])
        try:
            with self._place_for(pilot) as is_free:
                if not is_free:
                    return {"pilot_id": pilot["pilot_id"], "error": FULL}
                if not self._is_prepared(home, pilot):
                    self._prepare(home, pilot, bundle)
                self._start(home)
        except OSError as error:
            told = f"{error.filename or home}: {error.strerror or error}"
            return {"pilot_id": pilot["pilot_id"], "error": told}
        return {"pilot_id": pilot["pilot_id"], "name": home.name}

    @contextlib.contextmanager
    def _place_for(self, pilot: dict[str, Any]) -> Iterator[bool]:
        """Whether this pilot may be started here; nobody else takes the slot meanwhile."""
        if self.slots is None:
            yield True
            return
        number = os.open(self.base / ".slots", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            refusal = self.base / f".refused-{pilot['mark']}"
            if (self.base / _name(pilot["pilot_id"]) / "process").exists():
                yield True
            elif refusal.exists():
                yield False
            elif self._taken() >= self.slots:
                refusal.touch(mode=0o600)
                yield False
            else:
                yield True
        finally:
            os.close(number)

    def _taken(self) -> int:
        names = [path.parent.name for path in self.base.glob("pilot-*/process")]
        return sum(1 for name in names if self.state(name) == "running")

    def _is_prepared(self, home: Path, pilot: dict[str, Any]) -> bool:
        """Whether this very pilot has its directory already. One of the same number but of an earlier service goes."""
        try:
            mark = (home / "mark").read_text()
        except FileNotFoundError:
            return False
        if mark == pilot["mark"]:
            return True
        if self.state(home.name) == "running":
            raise OSError(0, "another service's pilot of the same number runs here; give each service its directory")
        shutil.rmtree(home)
        return False

    def _prepare(self, home: Path, pilot: dict[str, Any], bundle: bytes | Path) -> None:
        """Make the directory under another name first, so that it is there complete or not at all."""
        hidden = self.base / f".{home.name}.{secrets.token_hex(8)}"
        hidden.mkdir(mode=0o700)
        with os.fdopen(os.open(hidden / "launch.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pilot["launch"].encode())
        (hidden / "mark").write_text(pilot["mark"])
        if isinstance(bundle, bytes):
            (hidden / BUNDLE).write_bytes(bundle)
        elif bundle.parent != self.base or not _linked(bundle, hidden / BUNDLE):
            shutil.copyfile(bundle, hidden / BUNDLE)
        (hidden / "command").write_text("\n".join([self.python, "-I", "-B", BUNDLE, "launch.json"]))
        try:
            hidden.rename(home)
        except OSError:
            shutil.rmtree(hidden)
            if not self._is_prepared(home, pilot):  # Otherwise another worker was faster with the same pilot.
                raise

    def _start(self, home: Path) -> None:
        """Start the wrapper, which does nothing where one was before; returns when it is known who it is."""
        if (home / "process").exists():
            return
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment.setdefault("PATH", os.defpath)
        subprocess.run(
            ["/bin/sh", "-c", _LAUNCHER, _WRAPPER, *(home / "command").read_text().split("\n")],
            cwd=home,
            env={**environment, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
        end = time.monotonic() + START_S
        while _identity(home) is None and time.monotonic() < end:
            time.sleep(0.002)

    def _home(self, name: str) -> Path | None:
        number = name[len("pilot-") :]
        home = self.base / name
        return home if number.isdecimal() and name == _name(int(number)) and home.is_dir() else None

    def _sweep(self) -> None:
        """Remove what has been still for long and belongs to no process, in whatever way that has ended."""
        limit = time.time() - KEEP_S
        for home in (*self.base.glob("pilot-*"), *self.base.glob(".pilot-*")):
            with contextlib.suppress(OSError):
                if _HOME.fullmatch(home.name) and _changed_before(home, limit) and _group(home) is None:
                    shutil.rmtree(home)
        for file in (*self.base.glob(".refused-*"), *self.base.glob(f"{PARCEL}*")):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < limit:
                    file.unlink()


def mark_of(pilot_id: int, secret: str) -> str:
    """Tells pilots of the same number apart; a hash, since the secret itself must not outlive the enrolment."""
    return hashlib.sha256(f"mark {pilot_id} {secret}".encode()).hexdigest()


def _name(pilot_id: int) -> str:
    return f"pilot-{pilot_id}"


def _linked(file: Path, target: Path) -> bool:
    """Whether the file got a second name, which not every file system can give."""
    with contextlib.suppress(OSError):
        os.link(file, target)
        return True
    return False


def _changed_before(home: Path, limit: float) -> bool:
    """Whether the directory and all that lies in it are older; the directory is looked at first, as that is quick."""
    return home.lstat().st_mtime < limit and all(path.lstat().st_mtime < limit for path in home.iterdir())


def _identity(home: Path) -> tuple[int, str, str] | None:
    """The wrapper's process id, its start in clock ticks, and the boot it belongs to; None until all is written."""
    try:
        text = (home / "process").read_text()
    except FileNotFoundError:
        return None
    stat, _, boot = text.rstrip("\n").rpartition("\n")
    # The name in parentheses may itself hold spaces and parentheses, so the fields are counted after the last one.
    fields = stat.rpartition(")")[2].split()
    return (int(stat.split()[0]), fields[19], boot) if len(fields) > 19 and len(boot) == 36 else None


def _group(home: Path) -> int | None:
    """The wrapper's process group while it lives; a zombie is dead, as nobody may ever collect it in a container."""
    told = _identity(home)
    if told is None:
        return None
    pid, start, boot = told
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        same_boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip() == boot
    except OSError:
        return None
    return int(fields[2]) if same_boot and fields[0] not in "ZXx" and fields[19] == start else None


def _asked_at_s(home: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return float((home / _ASKED).read_text())
    return None


# ------------------------------------------------------------------------------------------------- on another machine


def answer(request: str) -> None:
    """Do what the request says (JSON), and print the answer as JSON."""
    try:
        told = {"answer": _done(json.loads(request))}
    except OSError as error:
        told = {"error": f"{error.filename}: {error.strerror}"}
    sys.stdout.write(json.dumps(told) + "\n")


def _done(asked: dict[str, Any]) -> Any:
    directory = Path(asked["directory"])
    base = directory if directory.is_absolute() else Path.home() / directory
    here = Processes(base, asked["environment"], asked["python"], asked["slots"])
    verb, about = asked["verb"], asked["about"]
    if verb == "submit" and "parcel" in asked:
        try:
            return here.submit(about, base / asked["parcel"])
        finally:
            (base / asked["parcel"]).unlink()
    if verb == "submit":
        return here.submit(about, base64.b64decode(asked["bundle"]))
    if verb == "left":
        left = here.left(about, asked["file"])
        return None if left is None else str(left)
    if verb == "find":
        return here.find(about)
    if verb == "status":
        return {name: here.state(name) for name in about}
    if verb == "output":
        return {name: here.output(name) for name in about}
    here.cancel(about, asked["grace_s"])
    return None
