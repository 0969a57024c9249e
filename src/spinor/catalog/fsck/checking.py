"""The whole check of a storage element, from streams to a report: what `spinor file fsck` does behind its options."""

from __future__ import annotations

import contextlib
import http.client
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from spinor.catalog.fsck.comparing import Batches, Comparison, Rules, Sides
from spinor.catalog.fsck.findings import Finding, Kind, Refuse
from spinor.catalog.fsck.partitions import NoRoomToCompare
from spinor.catalog.fsck.reports import Footer, Header, ReportWriter
from spinor.errors import Unavailable

CHECK = "storage"
_END = b"\xff\xff\xff\xff\0\0\0\0"  # Of an Arrow stream.


class CatalogBrokenOff(Unavailable):
    """The catalog's side ended before its end; nothing is known of the rest. Run the check again."""

    code = "catalog-broken-off"


def header(rules: Rules, service: str, vo: str, listing: str) -> Header:
    """Of a report. `listing` says what the storage's side was: the dump's name, or the root that was walked."""
    facts: dict[str, Any] = {"listing": listing, "listed_at": rules.listed_at, "margin_s": rules.margin_s}
    return Header(check=CHECK, service=service, vo=vo, se=rules.se, facts=facts)


def undecodable(report: ReportWriter, se: str, counts: dict[str, int]) -> Refuse:
    """Writes down the names that the catalog cannot have, for the readers of listings. The names are kept escaped in
    `more`, since they are no PFNs that anything could be done with. `counts` goes to `check`."""

    def refuse(name: str, reason: str) -> None:
        counts[Kind.UNDECODABLE] = counts.get(Kind.UNDECODABLE, 0) + 1
        report.tell(Finding(kind=Kind.UNDECODABLE, se=se, more={"name": name, "reason": reason}))

    return refuse


def check(
    report: ReportWriter,
    rules: Rules,
    sides: Sides,
    work: Path | None = None,
    counts: Callable[[], dict[str, int]] = dict,
    sieve: Callable[[pa.Table], pa.Table] = lambda found: found,
) -> Footer:
    """Compare, write the findings, finish the report. `work` is a directory with room for about 100 bytes per file of
    both sides; `counts` is asked at the end for what else is to be told, as the lines that were passed over. `sieve`
    gives what is told of a table of findings of one kind; what it keeps back is counted as `sieved`.

    Raises NoRoomToCompare, and whatever the streams raise; the report counts as broken off then.
    """
    comparison = Comparison(rules, Path())
    with _temporary(work) as directory:
        comparison.work = directory
        for found in comparison.run(sides):
            told = sieve(found)
            if kept_back := found.num_rows - told.num_rows:
                comparison.counts[found.column("kind")[0].as_py()] -= kept_back
                comparison.counts["sieved"] += kept_back
            if told.num_rows:
                report.write(told)
    return report.finish({**comparison.counts, **counts()})


@contextlib.contextmanager
def _temporary(work: Path | None) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix="spinor-fsck-", dir=work, ignore_cleanup_errors=True) as directory:
            yield Path(directory)
    except FileNotFoundError as error:
        if work is not None and not work.is_dir():
            raise NoRoomToCompare(f"There is no directory {work} for temporary files; make it, or name another.") from (
                error
            )
        raise


def catalog_rows(stream: IO[bytes]) -> Batches:
    """The batches of an Arrow stream as they arrive: of the catalog's dump of a storage element.

    Raises CatalogBrokenOff unless the stream comes to its marked end.
    """
    watched = _Watched(stream)
    try:
        with pa.ipc.open_stream(pa.PythonFile(watched, "r")) as reader:
            yield from reader
    except (pa.ArrowException, OSError, http.client.HTTPException) as error:
        raise CatalogBrokenOff(
            f"The catalog's side ended before its end ({str(error)[:200]}); nothing is known of the rest. Run the "
            "check again."
        ) from error
    # Arrow takes a stream that ends between two batches for a whole one.
    if watched.last != _END:
        raise CatalogBrokenOff


class _Watched:
    """A stream whose last bytes are known."""

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.last = (self.last + data[-len(_END) :])[-len(_END) :]
        return data
