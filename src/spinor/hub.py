"""Tokens that a notebook hub, or whoever started this process, has lent to it: for a service of another name than ours.

Spinor's token endpoint gives a token of its own in exchange (RFC 8693). A lent token is read anew for every call, since
hubs replace and withdraw them, and it is kept nowhere.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from spinor import credentials
from spinor.credentials import UnsafeFile
from spinor.errors import SpinorError

EGI_TOKEN_FILE = "/var/run/secrets/egi.eu/access_token"  # noqa: S105  Where EGI Notebooks put it.
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  RFC 8693's name for it.
CLIENT_ID = "spinor-notebook"
# A hub replaces a token some time after it has run out: so long a replacement is waited for.
_WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0)
_EXPIRY_MARGIN_S = 5
_LONGEST_TOKEN = 65536


class Source(NamedTuple):
    """Somewhere a token may be, in words, and how to look there: at every call, or only when one is needed."""

    name: str
    read: Callable[[], str | None]
    every_call: bool = True


def sources(given: str | None = None) -> Iterator[Source]:
    """Every place, the first to look at first; `given` is the caller's own token and goes before all others."""
    if given is not None:
        yield Source("the token that was given", lambda: given.strip() or None)
        return
    yield Source("the token in BEARER_TOKEN or its file", credentials.read_token)
    yield Source("the token in ACCESS_TOKEN", lambda: os.environ.get("ACCESS_TOKEN", "").strip() or None)
    if folder := os.environ.get("SECRETS_MOUNT_PATH"):
        path = Path(folder, "access_token")
        yield Source(f"the token in {path}", lambda: read_lent_file(path))
    yield Source(f"the token in {EGI_TOKEN_FILE}", lambda: read_lent_file(Path(EGI_TOKEN_FILE)))
    if os.environ.get("JUPYTERHUB_API_TOKEN"):
        yield Source("the token of the hub's token service", _ask_hub, every_call=False)


def read_lent_file(path: Path) -> str | None:
    """The token in a file that a hub keeps, or None when there is none. UnsafeFile when others could have written it.

    A volume of Kubernetes consists of links into itself; no link may lead out of it.
    """
    try:
        target = path.resolve(strict=True)
        if not target.is_relative_to(path.parent.resolve()):
            raise UnsafeFile(f"The token file {path} is a link to another directory; it is not followed.")
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError) as error:
        raise UnsafeFile(
            f"The token file {path} cannot be read: {getattr(error, 'strerror', None) or 'its links go in a circle'}."
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeFile(f"The token file {path} is no ordinary file.")
        if status.st_uid not in (os.getuid(), 0) or stat.S_IMODE(status.st_mode) & 0o022:
            raise UnsafeFile(f"The token file {path} could have been written by others; it is not used.")
        return os.read(descriptor, _LONGEST_TOKEN).decode("ascii", "replace").strip() or None
    finally:
        os.close(descriptor)


def _ask_hub() -> str | None:
    from spinor.hub_service import ask_hub

    return ask_hub()


class Lender:
    """Our own token in exchange for a lent one, for as long as that one is lent."""

    def __init__(self, url: str, ask: Callable[[str], str], given: str | None = None) -> None:
        """`ask` exchanges a token, and raises a SpinorError with status 400 when it is refused."""
        self._url = url
        self._ask = ask
        self._given = given
        self._source: Source | None = None
        self._digest = b""
        self.has_lent = False

    @property
    def is_given(self) -> bool:
        """Whether there is one token, the caller's own, and no other is looked for."""
        return self._given is not None

    @property
    def source(self) -> str:
        """Where the lent token is, in words; empty when nothing is lent."""
        return self._source.name if self._source else ""

    def holds(self) -> bool:
        """Whether the token that was exchanged last is still where it was."""
        if self._source is None:
            return False
        if not self._source.every_call:
            return True
        token = self._source.read()
        return token is not None and _digest(token) == self._digest

    def exchanged(self, *, wait: bool = True) -> tuple[str | None, str]:
        """A new token of ours, or None and why there is none. Where something was lent, its return is waited for."""
        self._source = None
        why = ""
        for wait_s in (*_WAITS_S, None):
            why = ""
            for source in sources(self._given):
                token = source.read()
                if token is None or credentials.peek(token).iss == self._url:
                    continue
                self.has_lent = True
                ours, reason = self._exchange(source, token)
                if ours:
                    return ours, ""
                why = why or reason
            if wait_s is None or not wait or not self.has_lent or self._given is not None:
                break
            time.sleep(wait_s)
        if self.has_lent and not why:
            why = "the token that the hub had lent is gone"
        return None, why

    def _exchange(self, source: Source, token: str) -> tuple[str | None, str]:
        expires_at = credentials.peek(token).exp
        if expires_at and expires_at < time.time() + _EXPIRY_MARGIN_S:
            return None, f"{source.name} has expired and was not renewed"
        try:
            ours = self._ask(token)
        except SpinorError as error:
            if error.status not in (400, 401) or error.code == "role-unclear":
                raise
            return None, f"{source.name} is not accepted ({error.message.rstrip('.')})"
        self._source, self._digest = source, _digest(token)
        return ours, ""


def exchange_form(token: str, server: credentials.Server) -> dict[str, str]:
    """What the token endpoint wants for a lent token (RFC 8693 section 2.1)."""
    form = {
        "grant_type": EXCHANGE_GRANT,
        "client_id": CLIENT_ID,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN_TYPE,
    }
    issuer = "" if credentials.peek(token).iss else server.lent_by
    more = {"vo": server.vo, "group": server.group, "subject_issuer": issuer}
    return form | {name: value for name, value in more.items() if value}


def remedy(why: str) -> str:
    """What to do when nothing lent is accepted, by where this process runs."""
    if os.environ.get("JUPYTERHUB_API_TOKEN") and why:
        return "reload the page of the notebook, so that the hub renews it, or run `spinor notebook login`"
    return "run `spinor login`"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
