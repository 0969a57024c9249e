"""What the server knows, as far as the shell needs it: lists for patterns, and words to complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinor.errors import NotFound
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.catalog.cli.shell.paths import Named
    from spinor.client import Client

_KEPT_S = 30
_MOST_CANDIDATES = 1000
FIELDS = ("lfn", "path", "name", "size", "owner", "group", "created", "modified", "se", "status", "adler32", "guid")


@dataclass(frozen=True)
class _Top:
    """The one entry of `/`."""

    name: str
    lfn: str
    kind: str = "directory"


class Namespace:
    """The tree of one VO, as one person sees it."""

    def __init__(self, client: Client) -> None:
        from spinor.identity.models import WhoAmI

        self.client = client
        who = client.get("/api/auth/whoami", WhoAmI)
        self.vo = who.vo
        self.top = f"/{who.vo}"
        self._user = who.user
        self._groups = sorted({membership.group for membership in who.memberships if membership.vo == who.vo})
        self._kept: dict[str, tuple[float, list[str]]] = {}

    def entries(self, directory: str, glob: str = "") -> Iterator[Named]:
        """What is in a directory, by pages; `/` has the VO's own top and nothing else."""
        yield from self._entries(directory, glob, None)

    def first_entries(self, directory: str, beginning: str) -> list[Named]:
        """Some entries whose names begin so, for completion: soon, or not at all."""
        glob = beginning.replace("*", "?").replace("[", "?") + "*"
        with self._impatient():
            found = list(self._entries(directory, glob, _MOST_CANDIDATES))
        return [entry for entry in found if entry.name.startswith(beginning)]

    def _entries(self, directory: str, glob: str, limit: int | None) -> Iterable[Named]:
        from spinor.catalog.models import Entry

        if directory == "/":
            return [_Top(self.vo, self.top)]
        return self.client.pages("/api/files/list", {"path": directory, "glob": glob}, Entry, limit)

    def require_directory(self, path: str) -> None:
        """Raises NotFound for what is no directory, and what the server says otherwise."""
        for entry in self._entries(path, "", 1):
            if entry.lfn == path and entry.kind == "file":
                raise NotFound(f"{printable(path)} is a file, not a directory.")

    def storage_elements(self) -> list[str]:
        from spinor.resources.models import PublicStorageElement

        return self._known(
            "se", lambda: [e.name for e in self.client.get("/api/storage-elements", list[PublicStorageElement])]
        )

    def keys(self) -> list[str]:
        """Declared metadata keys, and the fields that every file has."""
        from spinor.catalog.models import MetadataKey

        def ask() -> list[str]:
            return [key.name for key in self.client.get("/api/files/metadata-keys", list[MetadataKey])]

        return sorted({*self._known("key", ask), *FIELDS})

    def users(self) -> list[str]:
        """Those who have files in the tree, and oneself: a client may not see all of them."""
        from spinor.catalog.models import Usage

        def ask() -> list[str]:
            found = self.client.post("/api/files/usage", {"paths": [self.top]}, list[Usage])
            return [owner.owner for usage in found for owner in usage.owners]

        return sorted({*self._known("user", ask), self._user})

    def groups(self) -> list[str]:
        """One's own in the VO."""
        return self._groups

    def _known(self, what: str, ask: Callable[[], list[str]]) -> list[str]:
        asked_at, found = self._kept.get(what, (0.0, []))
        if not asked_at or time.monotonic() - asked_at > _KEPT_S:
            with self._impatient():
                found = ask()
            self._kept[what] = (time.monotonic(), found)
        return found

    @contextmanager
    def _impatient(self) -> Iterator[None]:
        self.client.patient = False
        try:
            yield
        finally:
            self.client.patient = True
