"""What a process needs to judge and to issue certificates: the trusted authorities, the .lsc files, the online CA."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from spinor.access import Caller
from spinor.db import Database
from spinor.identity.delegation.online_ca import OnlineCA
from spinor.identity.keys import KeyRing
from spinor.identity.models import Origin
from spinor.settings import Settings
from spinor.x509.trust import CRLPolicy, TrustStore


class Certificates:
    """One per process. Nothing is read before it is needed: a service without certificates has no directory of them."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._directory = settings.authorities_dir
        self._is_usual = settings.authorities_dir.is_relative_to(settings.data_dir)
        self._online_ca_dir = settings.online_ca_dir
        self._url = settings.url
        self._lock = threading.Lock()
        self._trust: TrustStore | None = None
        self._online_ca: OnlineCA | None = None
        self.vomsdir: Path = settings.lsc_dir
        self.crl = CRLPolicy(settings.crl_policy)
        self.clock = clock
        self.host = urlsplit(settings.url).hostname or "localhost"

    @property
    def trust(self) -> TrustStore:
        """The trusted authorities, read from files. The usual directory is made, empty; another one must be there."""
        with self._lock:
            if self._trust is None:
                if self._is_usual:
                    self._directory.mkdir(parents=True, exist_ok=True)
                self._trust = TrustStore(self._directory)
            return self._trust

    def online_ca(self, *, make: bool = False) -> OnlineCA | None:
        """This service's own authority, read from its file and, if that is wanted, made; None when it is not there."""
        with self._lock:
            if self._online_ca is None:
                now = self.clock()
                self._online_ca = OnlineCA.open(self._online_ca_dir, self._url, self.host if make else None, now)
            return self._online_ca

    @property
    def uri(self) -> str:
        """How our attribute authority calls itself where a VOMS server gives its host and port."""
        parts = urlsplit(self._url)
        return f"{self.host}:{parts.port or 443}"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request of somebody who is signed in, and the parts that it needs."""

    db: Database
    keys: KeyRing
    parts: Certificates
    caller: Caller
    origin: Origin
