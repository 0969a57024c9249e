"""How payloads are kept apart from the pilot and from each other: the strongest way that works on this node.

Each way is tried out with a real process before the first payload, since what is installed or announced by a kernel is
often forbidden by a site. docs/explanation/pilots.md says what each level keeps apart.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple, Optional

from spinor_pilot import cell, system
from spinor_pilot.children import Guardian, Start
from spinor_pilot.faults import Fault, SiteFault

NAMESPACES, BUBBLEWRAP, ACCOUNT, NONE = "namespaces", "bubblewrap", "account", "none"
REQUIRED, PREFERRED = "required", "preferred"
_TRIAL_S = 20.0
_NEVER_HIDDEN = ("/", "/usr", "/bin", "/lib", "/etc", "/opt", "/var", "/cvmfs")


class Site(NamedTuple):
    """What the operator says about it, in the options of the computing element."""

    isolation: str = PREFERRED  # or "required" (payloads run in a cell or not at all), or "none"
    hidden: tuple[str, ...] = ()  # More directories that no payload may see.
    visible: tuple[str, ...] = ()  # What payloads need below hidden ones, read-only.


class Home(NamedTuple):
    """The directories of one payload, as the pilot sees them. What the payload may write is below `work` and `tmp`."""

    path: Path

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    @property
    def papers(self) -> Path:
        return self.path / "papers"

    def make(self) -> None:
        self.path.mkdir(parents=True)
        for path in (self.work, self.tmp):
            path.mkdir()
        os.chmod(self.path, 0o711)  # noqa: S103 - a payload with an account of its own has to pass

    def give_to(self, uid: Optional[int]) -> None:
        """Let the payload's account own what it works on; links are changed themselves, never followed."""
        if uid is None:
            return
        for top in (self.work, self.tmp, self.papers):
            if not top.is_dir():
                continue
            os.chown(top, uid, uid)
            for directory, names, files in os.walk(top):
                for name in (*names, *files):
                    os.chown(os.path.join(directory, name), uid, uid, follow_symlinks=False)


class Inside(NamedTuple):
    """Where the payload finds itself, as it sees it."""

    work: str
    tmp: str
    papers: str


class Isolation:
    """The way that was chosen. `why` says why none stronger was."""

    def __init__(self, level: str, own_account: bool, users: bool, base: Path, site: Site, why: str) -> None:
        self.level = level
        self.own_account = own_account
        self.site = site
        self.why = why
        self._users = users
        self._hidden = _hidden(base, site)
        self._root = base / "root"  # Empty: each payload has its own there, in a mount namespace of its own.

    @property
    def accounts_are_private(self) -> bool:
        """Whether each payload has an account of its own, so that limits per account are limits per payload."""
        return self.own_account or self._users

    def account(self) -> Optional[int]:
        """A new account for a payload."""
        return random.randrange(*system.OWN_UIDS) if self.own_account else None  # noqa: S311 - a name, not a secret

    def inside(self, home: Home) -> Inside:
        if self.level in (NAMESPACES, BUBBLEWRAP):
            return Inside(cell.JOB, "/tmp", cell.PAPERS)  # noqa: S108 - a directory of its own
        return Inside(str(home.work), str(home.tmp), str(home.papers))

    @property
    def keeps_papers(self) -> bool:
        """Whether the papers that a payload gets need no file of the node: they lie in its cell."""
        return self.level == NAMESPACES

    def confined(self, start: Start, home: Home, more: Optional[dict[str, Any]] = None) -> Start:
        """The same start, behind walls. `more`: image, visible, devices, shm_bytes, papers of this payload."""
        wanted: dict[str, Any] = {"image": "/", "visible": [], "devices": [], "shm_bytes": 64 << 20, **(more or {})}
        wanted["visible"] = [*self.site.visible, *wanted["visible"]]
        if self.level == NAMESPACES:
            return start._replace(cell=self._plan(home, wanted, start.uid))
        if self.level == BUBBLEWRAP:
            return start._replace(argv=[*self._bubble(home, wanted), *start.argv], cwd=str(home.work))
        if wanted["image"] != "/":
            raise SiteFault(f"An unpacked image cannot be entered here: {self.why}")
        return start

    def _plan(self, home: Home, wanted: dict[str, Any], uid: Optional[int]) -> dict[str, Any]:
        self._root.mkdir(exist_ok=True)
        return {
            "papers": {}, **wanted, "root": str(self._root), "work": str(home.work), "tmp": str(home.tmp),
            "hidden": self._hidden, "users": self._users, "uid": uid,
        }  # fmt: skip

    def _bubble(self, home: Home, wanted: dict[str, Any]) -> list[str]:
        image = wanted["image"].rstrip("/")
        argv = ["bwrap", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--tmpfs", "/"]
        for entry in sorted(os.scandir(image or "/"), key=lambda entry: entry.name):
            if entry.name in ("proc", "dev", "tmp", "run", "job", "spinor", "lost+found"):
                continue
            if entry.is_symlink():
                argv += ["--symlink", os.readlink(entry.path), f"/{entry.name}"]
            elif entry.is_dir():
                argv += ["--ro-bind", entry.path, f"/{entry.name}"]
        for path in self._hidden if not image else []:
            if os.path.isdir(path) and not path.startswith(("/tmp", "/run", "/dev", "/proc")):  # noqa: S108
                argv += ["--tmpfs", path]
        for path in ("/run/systemd/resolve", "/run/nscd", *wanted["visible"]):
            argv += ["--ro-bind-try", path, path]
        argv += ["--proc", "/proc", "--dev", "/dev", "--bind", str(home.work), cell.JOB]
        argv += ["--ro-bind", str(home.papers), cell.PAPERS, "--bind", str(home.tmp), "/tmp"]  # noqa: S108
        for name in wanted["devices"]:
            argv += ["--dev-bind-try", f"/dev/{name}", f"/dev/{name}"]
        if not image:
            argv += ["--bind", str(home.tmp), "/var/tmp"]  # noqa: S108
        return [*argv, "--remount-ro", "/", "--chdir", cell.JOB, "--"]


def chosen(guardian: Guardian, base: Path, site: Site) -> Isolation:
    """Try the ways from the strongest to the weakest. SiteFault when one is required and none works."""
    root = os.geteuid() == 0
    refusals: list[str] = []
    if site.isolation != NONE:
        ways = [(NAMESPACES, True, False)] if root else []
        ways += [(NAMESPACES, False, True)]
        if shutil.which("bwrap"):
            ways += [(BUBBLEWRAP, False, False)]
        if root:
            ways += [(ACCOUNT, True, False)]
        for level, own_account, users in ways:
            if level == ACCOUNT and site.isolation == REQUIRED:
                break
            isolation = Isolation(level, own_account, users, base, site, "; ".join(refusals))
            refusal = _tried(guardian, isolation, base)
            if not refusal:
                return isolation
            refusals.append(f"{level}{' of a user' if users else ''}: {refusal}")
        if site.isolation == REQUIRED:
            raise SiteFault(f"Payloads must be isolated here, and no way works: {'; '.join(refusals)}")
    return Isolation(NONE, False, False, base, site, "; ".join(refusals) or "the operator wants none")


def _tried(guardian: Guardian, isolation: Isolation, base: Path) -> str:
    """Start a process this way which looks whether it sees its own directory and not the pilot's; what goes wrong."""
    home = Home(base / "trial")
    shutil.rmtree(home.path, ignore_errors=True)
    try:
        home.make()
        if not isolation.keeps_papers:
            home.papers.mkdir()
        uid = isolation.account()
        home.give_to(uid)
        inside = isolation.inside(home)
        hide = isolation.level in (NAMESPACES, BUBBLEWRAP)
        sees = f"! test -e {base}/pilot.log" if hide and not str(base).startswith("/job") else "true"
        script = f'{sees} && cd "$1" && echo yes >answer'
        start = Start(
            ["/bin/sh", "-c", script, "sh", inside.work], {"PATH": os.defpath}, inside.work, str(home.path / "stdout"),
            str(home.path / "stderr"), "SPINOR_PAYLOAD=trial", uid=uid,
        )  # fmt: skip
        child = guardian.run(isolation.confined(start, home))
        if not child.ended.wait(_TRIAL_S):
            child.signal(9)
            return "the trial did not end"
        if child.code == 0 and (home.work / "answer").exists():
            return ""
        text = (home.path / "stderr").read_text(errors="replace").strip()
        return text[-300:] or f"the trial ended with {child.code}"
    except (OSError, Fault) as error:
        return str(error)
    finally:
        shutil.rmtree(home.path, ignore_errors=True)


def _hidden(base: Path, site: Site) -> list[str]:
    """Where pilots of this account and people keep their things; the upper ones first."""
    parent = os.path.realpath(base.parent)
    paths = {"/home", "/root", "/run/user", *site.hidden, parent if parent not in _NEVER_HIDDEN else str(base)}
    with contextlib.suppress(KeyError):
        paths.add(pwd.getpwuid(os.geteuid()).pw_dir)
    if os.environ.get("HOME"):
        paths.add(os.environ["HOME"])
    real = {os.path.realpath(path) for path in paths if os.path.isdir(path)} - set(_NEVER_HIDDEN)
    return sorted(path for path in real if not any(path.startswith(other + "/") for other in real))


def works(argv: list[str], timeout_s: float = _TRIAL_S) -> str:
    """Run a program to see whether it can be used here; empty, or what it said instead."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr or done.stdout).decode(errors="replace").strip()[-300:] or "?"
