"""A proxy file for the grid's older tools, in exchange for the token that one is signed in with."""

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spinor.api.rendering import Shown, badge, bold, card, facts, muted, text_facts
from spinor.client import Client
from spinor.credentials import UnsafeFile, write_secret
from spinor.errors import BadInput
from spinor.identity.delegation.models import AskedAttributes, GivenProxy, NewProxy

USUAL_HOURS = 12


class ProxyFile(Shown):
    """What a proxy file holds, without its key."""

    def __init__(self, path: Path, given: GivenProxy) -> None:
        self.path, self.subject, self.expires_at = path, given.subject, given.expires_at
        self.fqans, self.is_limited = given.fqans, given.is_limited

    @property
    def hours(self) -> float:
        """How long it is good for yet."""
        return max(0.0, float((self.expires_at - datetime.now(UTC)).total_seconds()) / 3600)

    def _facts(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "VO": sorted({fqan.split("/")[1] for fqan in self.fqans}),
            "attributes": self.fqans,
            "kind": "limited" if self.is_limited else "full",
            "hours": f"{self.hours:.1f}",
            "expires_at": self.expires_at,
        }

    def text(self) -> str:
        return text_facts(str(self.path), self._facts())

    def html(self) -> str:
        return card(f"{badge('proxy', good=True)} {bold(self.path)} {muted('for you alone')}", [facts(self._facts())])


def proxy_init(
    client: Client, *, voms: Sequence[str] = (), hours: float = USUAL_HOURS, limited: bool = True, out: str = ""
) -> ProxyFile:
    """Get a new proxy and put it where grid tools look: `out`, $X509_USER_PROXY, or /tmp/x509up_u<uid>.

    `voms` is as voms-proxy-init has it: VO, or VO:/VO/Role=pilot.
    """
    path = _place(out)
    body = NewProxy(lifetime_s=round(hours * 3600), limited=limited, voms=asked_attributes(voms))
    given = client.post("/api/proxies/new", body, GivenProxy)
    write_secret(path, given.pem.encode())
    return ProxyFile(path, given)


def asked_attributes(voms: Sequence[str]) -> AskedAttributes | None:
    """The attributes that `--voms` asks for."""
    if not voms:
        return None
    names, fqans = set(), []
    for word in voms:
        vo, _, fqan = word.partition(":")
        if not vo or (fqan and not fqan.startswith("/")):
            raise BadInput(f"--voms {word!r} is not of the form VO or VO:/VO/Role=…", field="voms")
        names.add(vo)
        fqans += [fqan] if fqan else []
    if len(names) != 1:
        raise BadInput("A proxy has the attributes of one VO; name one with --voms.", field="voms")
    return AskedAttributes(vo=names.pop(), fqans=fqans)


def _place(out: str) -> Path:
    """Where the file goes; UnsafeFile when others could put something else in its place."""
    path = Path(out or os.environ.get("X509_USER_PROXY") or f"/tmp/x509up_u{os.getuid()}").absolute()  # noqa: S108
    if path.is_dir():
        raise BadInput(f"{path} is a directory; name a file.", field="out")
    folder = path.parent.stat()
    is_shared = stat.S_IMODE(folder.st_mode) & 0o022 and not folder.st_mode & stat.S_ISVTX
    if folder.st_uid not in (os.getuid(), 0) or (is_shared and folder.st_uid != os.getuid()):
        raise UnsafeFile(f"Others may change the files in {path.parent}; name another place with --out.")
    if path.is_symlink() or (path.exists() and path.lstat().st_uid != os.getuid()):
        raise UnsafeFile(f"{path} is a link, or another user's file; remove it, or name another place with --out.")
    return path
