"""Accounts that exist for some servers only: those run in a mount namespace with another /etc/passwd.

The machine's own files are not touched, so a test needs no account to be made, and leaves none behind.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_FIRST_UID = 21_001
_NAMESPACE = 'mount --bind "$0" /etc/passwd && mount --bind "$1" /etc/group && shift && exec "$@"'
# The same in another root directory, in which the place of the accounts and the kernel's directories are as outside.
_OTHER_ROOT = """root=$2 place=$3
mount --rbind "$root" "$root" && mount --bind "$0" "$root/etc/passwd" && mount --bind "$1" "$root/etc/group" &&
mount -t tmpfs tmpfs "$root/tmp" && chmod 1777 "$root/tmp" && mkdir -p "$root$place" &&
mount --bind "$place" "$root$place" && mount --rbind /dev "$root/dev" && mount --rbind /proc "$root/proc" &&
mount --rbind /sys "$root/sys" && shift 3 && exec chroot "$root" "$@"
"""


class Account(NamedTuple):
    name: str
    uid: int
    home: Path


class Accounts:
    """The machine's accounts and some of one's own, each with a home below `place` that others cannot read."""

    def __init__(self, place: Path, *names: str, root: Path | None = None) -> None:
        self._place, self._root = place, root
        self._passwd, self._group = place / "passwd", place / "group"
        homes = place / "home"
        homes.mkdir()
        self.of: dict[str, Account] = {}
        users, groups = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        for uid, name in enumerate(names, _FIRST_UID):
            self.of[name] = Account(name, uid, homes / name)
            users += f"{name}:x:{uid}:{uid}::{homes / name}:/bin/sh\n"
            groups += f"{name}:x:{uid}:\n"
        self._passwd.write_text(users)
        self._group.write_text(groups)
        for account in self.of.values():
            account.home.mkdir(mode=0o700)
            os.chown(account.home, account.uid, account.uid)

    def among(self, argv: Sequence[str], run_as: str | None = None) -> list[str]:
        """The command that runs this one where the accounts exist, and perhaps in another root; by default as root."""
        # Who becomes another account loses the signal that is to come when the tests are killed, and asks for it again.
        become = ["setpriv", f"--reuid={run_as}", f"--regid={run_as}", "--clear-groups", "--pdeathsig=TERM"]
        switch = become if run_as else []
        begin, files = ["unshare", "--mount", "sh", "-c"], [str(self._passwd), str(self._group)]
        if self._root is not None:
            return [*begin, _OTHER_ROOT, *files, str(self._root), str(self._place), *switch, *argv]
        return [*begin, _NAMESPACE, *files, *switch, *argv]
