"""What `fsck` asks of the server: the catalog's side of a comparison, and the changes of a repair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from spinor.catalog.fsck.changes import Change, DeleteBytes, KeepBytes
from spinor.catalog.fsck.checking import catalog_rows
from spinor.catalog.fsck.comparing import Batches
from spinor.catalog.fsck.findings import Kind
from spinor.catalog.models import Outcome
from spinor.client import Client
from spinor.errors import NotFound
from spinor.resources.models import PublicStorageElement

_ASKED_AT_ONCE = 10_000
_ALREADY = "already"


class _RefusedChange(msgspec.Struct, frozen=True):
    n: int
    code: str
    reason: str


class _Repaired(msgspec.Struct, frozen=True):
    refused: list[_RefusedChange]


class WhoAmI(msgspec.Struct, frozen=True):
    vo: str


class Asking:
    """A server, asked about one storage element after the other. `already` counts, by kind, changes that it did not
    make because they were made before."""

    def __init__(self, client: Client, delay_s: int) -> None:
        self.client = client
        self.delay_s = delay_s
        self.vo = client.get("/api/auth/whoami", WhoAmI).vo
        self.already: Counter[str] = Counter()

    def storage_element(self, name: str) -> PublicStorageElement:
        """Raises NotFound."""
        known = self.client.get("/api/storage-elements", list[PublicStorageElement])
        for element in known:
            if element.name == name:
                return element
        raise NotFound(f"Your VO has no storage element {name!r}; see `spinor se list`.")

    def replicas(self, se: str) -> Batches:
        with self.client.stream(_address(se, "replicas")) as body:
            yield from catalog_rows(body)

    def removals(self, se: str) -> Batches:
        with self.client.stream(_address(se, "removals")) as body:
            yield from catalog_rows(body)

    def nobodys(self, found: pa.Table) -> pa.Table:
        """Of dark files those that no file of another VO has either, nor one that was registered meanwhile."""
        kept = [self._nobodys(piece) for piece in found.to_batches(_ASKED_AT_ONCE)]
        return pa.Table.from_batches(kept, found.schema) if kept else found

    def _nobodys(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = batch.column("pfn")
        address = _address(batch.column("se")[0].as_py(), "unnamed")
        answer = self.client.post(address, {"pfns": names.to_pylist()}, list[str])
        if len(answer) == len(names):
            return batch
        return batch.filter(pc.is_in(names, value_set=pa.array(answer, pa.string())))

    def ask(self, changes: Sequence[Change]) -> dict[int, str]:
        """Have changes of one kind made; the reasons of those that were refused, by their place."""
        refused: dict[int, str] = {}
        for se in dict.fromkeys(change.se for change in changes):
            places = [n for n, change in enumerate(changes) if change.se == se]
            for place, code, reason in self._refused(se, [changes[n] for n in places]):
                refused[places[place]] = reason
                if code == _ALREADY:
                    self.already[str(changes[0].__struct_config__.tag)] += 1
        return refused

    def _refused(self, se: str, changes: Sequence[Change]) -> Iterator[tuple[int, str, str]]:
        pfns = [change.pfn for change in changes if isinstance(change, DeleteBytes | KeepBytes)]
        if not pfns:
            answer = self.client.post("/api/files/repairs", {"changes": changes}, _Repaired)
            yield from ((each.n, each.code, each.reason) for each in answer.refused)
            return
        body: dict[str, object] = {"pfns": pfns}
        if isinstance(changes[0], DeleteBytes):
            outcome = self.client.post(_address(se, "removals"), body | {"delay_s": self.delay_s}, Outcome)
        else:
            outcome = self.client.post(_address(se, "removals/cancel"), body, Outcome)
        reasons = {refusal.id: refusal for refusal in outcome.refused}
        for n, pfn in enumerate(pfns):
            if pfn in reasons:
                yield n, reasons[pfn].code, reasons[pfn].reason


class Sieve:
    """What of the findings is told: dark files that are nobody's, and, below a path, only what lies there.

    A dark file lies below a path if its PFN does, as that of a file is when it is registered in its place.
    """

    def __init__(self, asking: Asking, path: str | None) -> None:
        self.asking = asking
        self.path = None if path is None else path.rstrip("/")

    def __call__(self, found: pa.Table) -> pa.Table:
        dark = found.num_rows and found.column("kind")[0].as_py() == Kind.DARK
        if self.path is not None and found.num_rows:
            names = found.column("pfn" if dark else "lfn")
            found = found.filter(pc.starts_with(names, f"{self.path[1:] if dark else self.path}/"))
        return self.asking.nobodys(found) if dark and found.num_rows else found


def _address(se: str, what: str) -> str:
    return f"/api/storage-elements/{quote(se, safe='')}/{what}"
