"""Under which account PostgreSQL runs. It refuses to run as root, so root lends it an unprivileged account."""

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from spinor.errors import SpinorError

# PostgreSQL reads its password, time zone and locale from the environment, so it gets a clean one.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"}


class NoUnprivilegedAccount(SpinorError):
    """PostgreSQL cannot run as root, and there is no account `nobody`; run `spinor up` as an ordinary user."""

    code = "no-unprivileged-account"


class CannotSwitchAccount(SpinorError):
    """This root may not start processes under another account; run `spinor up` as an ordinary user."""

    code = "cannot-switch-account"


class Account(msgspec.Struct, frozen=True):
    name: str
    uid: int
    gid: int

    @property
    def is_me(self) -> bool:
        return self.uid == os.geteuid()

    def run(self, argv: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end under this account, without supplementary groups and without our environment.

        Standard error is read together with standard output unless the caller says otherwise.
        """
        switch: dict[str, Any] = {} if self.is_me else {"user": self.uid, "group": self.gid, "extra_groups": [self.gid]}
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        try:
            # The caller's own directory may be closed to this account, hence the root directory.
            return subprocess.run(argv, env=_ENVIRONMENT, cwd="/", text=True, check=False, **switch, **options)
        except OSError as error:
            # A program out of the account's reach is an answer; a refused change of account is not.
            if error.filename == argv[0]:
                return subprocess.CompletedProcess(argv, 126, f"{argv[0]}: {error.strerror}", "")
            if self.is_me:
                raise
            raise CannotSwitchAccount(
                f"Cannot start {Path(argv[0]).name} as {self.name} ({error.strerror}); "
                "run `spinor up` as an ordinary user."
            ) from error

    def may_enter(self, directory: Path) -> bool:
        """Whether this account reaches the directory. The kernel is asked, since modes do not tell all (ACLs, NFS)."""
        return self.is_me or self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)]).returncode == 0


def database_account(cluster: Path) -> Account:
    """Who runs PostgreSQL: whoever owns the cluster already; else I myself, or for root `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return Account(_name_of(os.geteuid()), os.geteuid(), os.getegid())
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return Account(_name_of(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NoUnprivilegedAccount


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
