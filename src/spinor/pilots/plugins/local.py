"""Pilots as processes of this machine, which outlive the worker that started them.

Each pilot has a directory of its own below `options.directory`, of mode 0700, with its launch file, its output, who it
is as a process, and its exit code. Options: `directory`, `python` (default: the one that runs this), `environment`
(added to the few variables that pilots get), `grace_s` between asking a pilot to stop and killing it (default 5),
`tags` (what its pilots offer), `idle_s` (they leave after so long without work), `drain_s` (what SIGTERM leaves to
their payloads).
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementSettings, ElementUnavailable, PilotLaunch, Submitted

_PROC = Path("/proc")
# Pilots get nothing else of the worker's environment, which holds the database's address.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
KEEP_S = 86_400.0  # Directories of ended pilots are removed after a day.
START_S = 10.0
OUTPUT_BYTES = 64 * 1024

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


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    directory: str = ""
    python: str = ""
    environment: dict[str, str] = {}
    grace_s: float = 5.0
    tags: list[str] = []
    idle_s: float = 15.0
    drain_s: float = 20.0


class LocalComputing:
    """A computing element that is this machine."""

    name: ClassVar[str] = "local"

    def __init__(self, element: ElementSettings) -> None:
        try:
            self.options = msgspec.convert(element.options, Options)
        except msgspec.ValidationError as error:
            raise BadOptions(f"The options of computing element {element.name!r} are wrong: {error}.") from None
        self.base = Path(self.options.directory) if self.options.directory else element.directory

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        return await asyncio.to_thread(self._submit, pilots)

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        names = {pilot_id: _name(pilot_id) for pilot_id in pilot_ids}
        return {pilot_id: name for pilot_id, name in names.items() if (self.base / name / "process").exists()}

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        return await asyncio.to_thread(lambda: {each: self._state(each) for each in external_ids})

    async def cancel(self, external_ids: Sequence[str]) -> None:
        alive = {each for each in external_ids if self._signal(each, signal.SIGTERM)}
        end = time.monotonic() + self.options.grace_s
        while alive and time.monotonic() < end:
            await asyncio.sleep(0.1)
            alive = {each for each in alive if self._state(each) is ElementState.RUNNING}
        for each in alive:
            self._signal(each, signal.SIGKILL)

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        return await asyncio.to_thread(lambda: {each: self._output(each) for each in external_ids})

    # --------------------------------------------------------------------------------------------------- starting

    def _submit(self, pilots: Sequence[PilotLaunch]) -> list[Submitted]:
        try:
            self.base.mkdir(parents=True, exist_ok=True, mode=0o755)
            self._sweep()
        except OSError as error:
            raise ElementUnavailable(f"{error.filename}: {error.strerror}") from error
        return [self._submit_one(launch) for launch in pilots]

    def _submit_one(self, launch: PilotLaunch) -> Submitted:
        name = _name(launch.pilot_id)
        home = self.base / name
        try:
            if not self._is_prepared(home, launch):
                self._prepare(home, launch)
            self._start(home)
        except OSError as error:
            return Submitted(pilot_id=launch.pilot_id, error=f"{error.filename or home}: {error.strerror or error}")
        return Submitted(pilot_id=launch.pilot_id, external_id=name)

    def _is_prepared(self, home: Path, launch: PilotLaunch) -> bool:
        """Whether this very pilot has its directory already. One of the same number but of an earlier service goes."""
        try:
            mark = (home / "mark").read_text()
        except FileNotFoundError:
            return False
        if mark == _mark(launch):
            return True
        if self._state(home.name) is ElementState.RUNNING:
            raise OSError(0, "another service's pilot of the same number runs here; give each service its directory")
        shutil.rmtree(home)
        return False

    def _prepare(self, home: Path, launch: PilotLaunch) -> None:
        """Make the directory under another name first, so that it is there complete or not at all."""
        hidden = self.base / f".{home.name}.{secrets.token_hex(8)}"
        hidden.mkdir(mode=0o700)
        with os.fdopen(os.open(hidden / "launch.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(launch.launch_file())
        (hidden / "mark").write_text(_mark(launch))
        shutil.copyfile(launch.bundle, hidden / launch.bundle.name)
        command = [self.options.python or sys.executable, "-I", "-B", launch.bundle.name, "launch.json"]
        (hidden / "command").write_text("\n".join(command))
        try:
            hidden.rename(home)
        except OSError:
            shutil.rmtree(hidden)
            if not self._is_prepared(home, launch):  # Otherwise another worker was faster with the same pilot.
                raise

    def _start(self, home: Path) -> None:
        """Start the wrapper, which does nothing where one was before; returns when it is known who it is."""
        if (home / "process").exists():
            return
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment.setdefault("PATH", os.defpath)
        command = (home / "command").read_text().split("\n")
        subprocess.run(
            ["/bin/sh", "-c", _LAUNCHER, _WRAPPER, *command],
            cwd=home,
            env={**environment, **self.options.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
        end = time.monotonic() + START_S
        while _identity(home) is None and time.monotonic() < end:
            time.sleep(0.002)

    # ------------------------------------------------------------------------------------------------- afterwards

    def _state(self, external_id: str) -> ElementState:
        home = self._home(external_id)
        if home is None:
            return ElementState.VANISHED
        # In this order: a pilot that ends between the two looks has left its code.
        alive = _group(home) is not None
        with contextlib.suppress(FileNotFoundError, ValueError):
            return ElementState.DONE if int((home / "exit-code").read_text()) == 0 else ElementState.FAILED
        if alive:
            return ElementState.RUNNING
        if not (home / "process").exists() and time.time() - home.stat().st_mtime < START_S:
            return ElementState.WAITING
        return ElementState.VANISHED

    def _signal(self, external_id: str, number: int) -> bool:
        """Whether there was a process group to signal."""
        home = self._home(external_id)
        group = None if home is None else _group(home)
        if group is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            return True
        return False

    def _output(self, external_id: str) -> str:
        home = self._home(external_id)
        if home is None:
            return ""
        parts = []
        for name in ("stdout", "stderr"):
            with contextlib.suppress(OSError), open(home / name, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - OUTPUT_BYTES))
                parts.append(file.read().decode("utf-8", "replace"))
        return "".join(parts)

    def _home(self, external_id: str) -> Path | None:
        number = external_id.removeprefix("pilot-")
        home = self.base / external_id
        return home if number.isdecimal() and external_id == _name(int(number)) and home.is_dir() else None

    def _sweep(self) -> None:
        limit = time.time() - KEEP_S
        for code in self.base.glob("pilot-*/exit-code"):
            with contextlib.suppress(OSError):
                if code.stat().st_mtime < limit:
                    shutil.rmtree(code.parent)


def _name(pilot_id: int) -> str:
    return f"pilot-{pilot_id}"


def _mark(launch: PilotLaunch) -> str:
    """Tells pilots of the same number apart; a hash, since the secret itself must not outlive the enrolment."""
    return hashlib.sha256(f"mark {launch.pilot_id} {launch.secret}".encode()).hexdigest()


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
