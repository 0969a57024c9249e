"""The catalog's files: found, fetched and put."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spinor.api.rendering import Shown, bold, card, html_table, muted, text_table
from spinor.api.rows import Tabular, record, time_of
from spinor.catalog.models import FileStat
from spinor.client import Client
from spinor.errors import BadInput
from spinor.identity.models import WhoAmI
from spinor.storage.models import FileReplicas
from spinor.terminal import size

_SHOWN_ROWS = 20
_HIDDEN = ("file_id", "guid", "acl", "adler32", "sha256", "created_at")  # Of what is shown, not of the rows.
_FIELDS = ("se", "modified")


class Files:
    """The files of the VO: `find` by a query, `stat`, `get`, `put`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def find(
        self,
        where: str = "",
        *,
        path: str = "",
        fields: Sequence[str] = _FIELDS,
        sort: Sequence[str] = (),
        limit: int | None = 1000,
    ) -> "FileSet":
        """The files below a path (the VO's directory if none is given) that a query names; limit None: all of them."""
        body = {"path": path or self._home(), "where": where, "fields": list(fields), "sort": list(sort)}
        rows: list[dict[str, Any]] = list(self._client.pages("/api/files/find", body, dict, limit))
        return FileSet(self._client, rows, is_cut=len(rows) == limit)

    def stat(self, lfns: Sequence[str]) -> "FileSet":
        """These files, with all that is known of each."""
        if not lfns:
            return FileSet(self._client, [])
        found = self._client.post("/api/files/stat", {"paths": list(lfns)}, list[FileStat])
        return FileSet(self._client, [record(file) for file in found])

    def get(self, lfns: str | Sequence[str], local: str | Path = "") -> list[Path]:
        """Copy files here, or to `local` (a name, or a directory), and verify each by its checksum."""
        return _fetch(self._client, [lfns] if isinstance(lfns, str) else list(lfns), local)

    def put(self, local: str | Path, lfn: str, se: str = "") -> "FileSet":
        """Copy a local file to a storage element, and register it as `lfn` (into `lfn` if that ends with a slash)."""
        from spinor.storage.putting import put_files

        source = Path(local)
        if not source.is_file():
            raise BadInput(f"There is no file {str(source)!r} here.")
        name = lfn + source.name if lfn.endswith("/") else lfn
        put_files(self._client, [(source, name)], se or None)
        return self.stat([name])

    def _home(self) -> str:
        return f"/{self._client.get('/api/auth/whoami', WhoAmI).vo}"


class FileSet(Shown, Tabular):
    """Files that were found, with the fields that were asked for."""

    def __init__(self, client: Client, rows: Sequence[Mapping[str, Any]], *, is_cut: bool = False) -> None:
        self._client, self._rows, self._is_cut = client, list(rows), is_cut

    @property
    def lfns(self) -> list[str]:
        return [str(row["lfn"]) for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._rows)

    def __getitem__(self, place: int) -> Mapping[str, Any]:
        return self._rows[place]

    def get(self, folder: str | Path = ".") -> list[Path]:
        """Copy all of them into a directory here, and verify each by its checksum."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        return _fetch(self._client, self.lfns, folder) if self._rows else []

    def records(self) -> Sequence[Mapping[str, Any]]:
        return self._rows

    def _columns(self) -> list[str]:
        names = list(dict.fromkeys(name for row in self._rows[:_SHOWN_ROWS] for name in row))
        return [name for name in names if name not in _HIDDEN]

    def _cells(self) -> list[list[Any]]:
        columns = self._columns()
        return [[_shown(row.get(name), name) for name in columns] for row in self._rows[:_SHOWN_ROWS]]

    def _title(self) -> str:
        count = f"{len(self):,} {'file' if len(self) == 1 else 'files'}"
        sizes = [row.get("size_bytes", row.get("size")) for row in self._rows]
        total = f", {size(sum(sizes))}" if sizes and all(isinstance(each, int) for each in sizes) else ""
        return f"the first {count}" if self._is_cut else count + total

    def _rest(self) -> list[str]:
        left = len(self) - _SHOWN_ROWS
        return [f"… and {left:,} more; .to_pandas() has them all"] if left > 0 else []

    def text(self) -> str:
        return "\n".join([self._title(), text_table(self._columns(), self._cells()), *self._rest()]).strip()

    def html(self) -> str:
        parts = [html_table(self._columns(), self._cells())] if self._rows else []
        return card(bold(self._title()), [*parts, *(muted(line) for line in self._rest())])


def _shown(value: Any, name: str) -> Any:
    if name in ("created", "modified") and isinstance(value, str):
        return time_of(value)
    return size(value) if name == "size" and isinstance(value, int) else value


def _fetch(client: Client, lfns: Sequence[str], local: str | Path) -> list[Path]:
    from spinor.storage.transfer import fetch_any

    found = client.post("/api/files/replicas", {"lfns": list(lfns)}, list[FileReplicas])
    into = Path(local or ".")
    as_directory = len(found) > 1 or into.is_dir() or str(local).endswith("/")
    places = [into / file.lfn.rpartition("/")[2] if as_directory else into for file in found]
    if len(set(places)) != len(places):
        raise BadInput("Several of these files have the same name; get them into directories of their own.")
    for file, place in zip(found, places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        fetch_any(file, place)
    return places
