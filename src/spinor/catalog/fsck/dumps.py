"""Read what a storage element says it holds: a dump in one of many forms, or a walk through a storage plugin.

The forms are those of manifests (`catalog.manifests` reads them); here, a list of bare PFNs is one too.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinor.catalog.fsck.comparing import LISTING
from spinor.catalog.fsck.findings import Refuse
from spinor.catalog.fsck.roots import Roots
from spinor.catalog.manifests.columns import KINDS
from spinor.catalog.manifests.formats import Format, Layout, csv_layout, detect_format, dump_layout
from spinor.catalog.manifests.rows import Broken, Rows
from spinor.catalog.manifests.source import Source
from spinor.catalog.manifests.splitting import ndjson_layout, parquet_layout, read_rows
from spinor.errors import BadInput
from spinor.search.expression import shown

_NO_SEPARATOR = "\x01"
_TIMES = ("modified_at", "modified", "mtime", "modification_time", "updated_at")
_AT = pa.timestamp("us", "UTC")
_BATCH_ROWS = 1 << 15


class BadDump(BadInput):
    """The dump is not understood."""

    code = "bad-dump"


class Dump:
    """A dump. Iterate over it for batches of `LISTING`; `passed_over` counts meanwhile what is no file of this storage
    element: `outside` its root, `other-se`, `directories` (names that end with a slash)."""

    def __init__(self, source: Source, se: str, roots: Roots, refuse: Refuse, columns: dict[str, str]) -> None:
        self.source = source
        self.se = se
        self.roots = roots
        self.refuse = refuse
        self.columns = columns
        self.passed_over: Counter[str] = Counter()
        self.first_outside: str | None = None
        self._rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        layout = self._layout()
        if "pfn" not in layout.columns and "lfn" not in layout.columns:
            raise BadDump(f"{self.source.name} has no column pfn; say which one it is: --columns pfn=NAME.")
        for rows in read_rows(self.source, layout):
            for broken in rows.broken:
                self._told(broken)
            if rows.table.num_rows:
                yield self._batch(rows)
        if self._rows:
            return
        if self.passed_over["other-se"]:
            raise BadDump(f"{self.source.name} has no line of {self.se}; is it the dump of another storage element?")
        if self.first_outside is not None:
            raise BadDump(
                f"{self.source.name} names nothing below the root of {self.se}; its first line names "
                f"{shown(self.first_outside[:200])}. Say by --prefix what stands before the paths below the root."
            )

    def listed_at(self) -> datetime:
        """When the file was written. Raises BadDump for standard input, of which nobody knows."""
        if self.source.path == "-":
            raise BadDump("Standard input has no time; say by --dump-time when the listing began.")
        return datetime.fromtimestamp(Path(self.source.path).stat().st_mtime, UTC)

    def _layout(self) -> Layout:
        name, head = self.source.name, self.source.head()
        match detect_format(name, head):
            case Format.PARQUET:
                layout = parquet_layout(self.source, self.columns)
            case Format.NDJSON:
                layout = ndjson_layout(head, self.columns, name)
            case Format.CSV:
                layout = csv_layout(head, self.columns, name)
            case _:
                layout = self._text_layout(head)
        by_name = {written.lower(): written for written in layout.names}
        time = next((by_name[known] for known in _TIMES if known in by_name), None)
        if time is not None and "created_at" not in self.columns:
            layout = dataclasses.replace(layout, columns={**layout.columns, "created_at": time})
        return layout

    def _text_layout(self, head: bytes) -> Layout:
        if self.columns != {"pfn": "1"}:
            try:
                return dump_layout(head, self.columns, self.source.name)
            except BadInput:
                if self.columns:
                    raise
        # Nothing behind the names looks like a size in every line, or somebody says so: the names are all there is.
        return Layout(Format.DUMP, {"pfn": 0}, ["0"], separator=_NO_SEPARATOR)

    def _told(self, broken: Broken) -> None:
        """One broken line makes the whole dump doubtful: what it named would be told as lost."""
        if not broken.problem.startswith("is not valid UTF-8"):
            column = f"{broken.column} " if broken.column else ""
            raise self._bad(broken.line, f"{column}{broken.problem}")
        self.refuse(f"line {broken.line} of {self.source.name}", "the name is not valid UTF-8")

    def _bad(self, line: int, fault: str) -> BadDump:
        name = self.source.name
        return BadDump(
            f"{name}, line {line:,}: {fault}. Mend the line or make the dump again: what it names would be told as "
            "lost.",
            file=name, line=line,
        )  # fmt: skip

    def _batch(self, rows: Rows) -> pa.RecordBatch:
        table = rows.table
        written = _texts(table.column("pfn" if "pfn" in table.column_names else "lfn"))
        if written.null_count:
            raise self._bad(int(rows.lines[np.flatnonzero(np.asarray(pc.is_null(written)))[0]]), "the PFN is missing")
        names, kept = self.roots.relative(written)
        self._count_outside(written, kept)
        kept = self._kept(table, names, kept)
        columns = [names]
        for ours, theirs in (("size_bytes", "size_bytes"), ("adler32", "adler32"), ("modified_at", "created_at")):
            columns.append(self._values(rows, theirs, LISTING.field(ours).type))
        batch = pa.record_batch(columns, schema=LISTING)
        batch = batch if kept.all() else batch.filter(pa.array(kept))
        self._rows += batch.num_rows
        return batch

    def _count_outside(self, written: pa.Array, inside: Any) -> None:
        if not inside.all():
            outside = np.flatnonzero(~inside)
            self.passed_over["outside"] += len(outside)
            if self.first_outside is None:
                self.first_outside = written[int(outside[0])].as_py()

    def _kept(self, table: pa.Table, names: pa.Array, kept: Any) -> Any:
        if "se" in table.column_names:
            ours = np.asarray(pc.fill_null(pc.equal(_texts(table.column("se")), self.se), True))
            self.passed_over["other-se"] += int((kept & ~ours).sum())
            kept = kept & ours
        directories = kept & np.asarray(pc.or_(pc.ends_with(names, "/"), pc.equal(names, "")))
        if directories.any():
            self.passed_over["directories"] += int(directories.sum())
            kept = kept & ~directories
        return kept

    def _values(self, rows: Rows, name: str, kind: Any) -> pa.Array:
        if name not in rows.table.column_names:
            return pa.nulls(rows.table.num_rows, kind)
        texts = rows.table.column(name).combine_chunks()
        if isinstance(texts, pa.ChunkedArray):
            texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.nulls(0, texts.type)
        if pa.types.is_null(texts.type):
            return pa.nulls(len(texts), kind)
        if name == "created_at" and (seconds := _seconds(texts)) is not None:
            return seconds
        if name == "adler32" and pa.types.is_string(texts.type):
            texts = _bare(texts)
        found, bad = KINDS[name].read(texts)
        if bad is not None and bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise self._bad(int(rows.lines[at]), f"{name} {shown(str(texts[at].as_py())[:200])} {KINDS[name].remedy}")
        return found.cast(kind)


def _texts(column: pa.ChunkedArray) -> pa.Array:
    array = column.cast(pa.string()).combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def _bare(texts: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring(texts, ":")).as_py():
        return pc.replace_substring_regex(texts, r"^(?i:adler32|ad):", "")
    return texts


def _seconds(texts: pa.Array) -> pa.Array | None:
    """Times that are written as seconds since 1970."""
    if pa.types.is_timestamp(texts.type):
        return None
    try:
        seconds = pc.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        return None
    return pc.cast(pc.cast(pc.multiply(seconds, 1e6), pa.int64(), safe=False), _AT)


class StoredFile(Protocol):
    """What a storage plugin's `walk` tells of a file; the time is NaN where the storage does not know it."""

    @property
    def path(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def modified_at_s(self) -> float: ...


def walked(files: Iterable[StoredFile], refuse: Refuse) -> Iterator[pa.RecordBatch]:
    """Batches of `LISTING` of a walk. The listing's time is that before the walk began."""
    gathered: list[StoredFile] = []
    for file in files:
        gathered.append(file)
        if len(gathered) == _BATCH_ROWS:
            yield _walked(gathered, refuse)
            gathered = []
    if gathered:
        yield _walked(gathered, refuse)


def _walked(files: Sequence[StoredFile], refuse: Refuse) -> pa.RecordBatch:
    try:
        names = pa.array([file.path for file in files], pa.string())
    except UnicodeEncodeError:
        files = [file for file in files if _is_unicode(file.path, refuse)]
        names = pa.array([file.path for file in files], pa.string())
    seconds = [file.modified_at_s for file in files]
    times = [None if math.isnan(time) else round(time * 1e6) for time in seconds]
    sizes = pa.array([file.size_bytes for file in files], pa.int64())
    modified_at = pa.array(times, pa.int64()).cast(_AT)
    return pa.record_batch([names, sizes, pa.nulls(len(files), pa.int64()), modified_at], schema=LISTING)


def _is_unicode(path: str, refuse: Refuse) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        refuse(path.encode(errors="surrogateescape").decode(errors="backslashreplace"), "the name is not valid UTF-8")
        return False
    return True
