"""What a check finds, one row per LFN or PFN: as Arrow columns while it is computed, as `Finding` where it is read.

Not only `fsck` writes such rows. A check of another kind uses the columns that fit, and `more` for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
import pyarrow as pa


class Kind(StrEnum):
    """What can differ between the catalog and a storage element."""

    DARK = "dark"  # The storage has it, the catalog does not.
    LOST = "lost"  # The catalog has it as available, the storage does not.
    SIZE = "size"  # Both have it, with different sizes.
    CHECKSUM = "checksum"  # Both have it, of one size, with different checksums.
    DOUBLE = "double"  # Several files of the catalog name this PFN; one finding for each of them.
    RETURNED = "returned"  # The catalog has it as unavailable, and the storage has it, equal.
    NO_CHECKSUM = "no-checksum"  # The catalog has no checksum, and the storage told one.
    UNCHECKED = "unchecked"  # Neither the catalog nor the storage told a checksum. Reported only where asked for.
    UNDECODABLE = "undecodable"  # The name on the storage is not UTF-8, so the catalog cannot have it.


REPORTED = frozenset(Kind) - {Kind.UNCHECKED}
Refuse = Callable[[str, str], None]  # Told a name that the catalog cannot have (escaped), and why.

_AT = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("lfn", pa.string()),
        ("se", pa.string()),
        ("pfn", pa.string()),  # Relative to the storage element's root.
        ("size_bytes", pa.int64()),  # The catalog's, as the next three.
        ("adler32", pa.int64()),
        ("status", pa.string()),
        ("created_at", _AT),
        ("storage_size_bytes", pa.int64()),
        ("storage_adler32", pa.int64()),
        ("storage_modified_at", _AT),
        ("more", pa.string()),  # A JSON object.
    ]
)


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record", tag="finding"):
    """One row. What the catalog says stands under the plain names, what the storage says under `storage_`.

    Checksums are 8 lower-case hex digits.
    """

    kind: str
    lfn: str | None = None
    se: str | None = None
    pfn: str | None = None
    size_bytes: int | None = None
    adler32: str | None = None
    status: str | None = None
    created_at: datetime | None = None
    storage_size_bytes: int | None = None
    storage_adler32: str | None = None
    storage_modified_at: datetime | None = None
    more: dict[str, Any] | None = None


def table(columns: dict[str, Any], kind: str, se: str | None = None) -> pa.Table:
    """Rows of one kind; columns that are not given are null."""
    rows = len(next(iter(columns.values())))
    given = {"kind": pa.repeat(kind, rows), "se": pa.repeat(pa.scalar(se, pa.string()), rows), **columns}
    return pa.table(
        [given[name] if (name := field.name) in given else pa.nulls(rows, field.type) for field in SCHEMA],
        schema=SCHEMA,
    )


def rows(batch: pa.Table | pa.RecordBatch) -> Iterator[Finding]:
    """The rows of an Arrow batch."""
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    for name in ("adler32", "storage_adler32"):
        columns[name] = [None if number is None else f"{number:08x}" for number in columns[name]]
    columns["more"] = [None if text is None else msgspec.json.decode(text, type=dict) for text in columns["more"]]
    for values in zip(*columns.values(), strict=True):
        yield Finding(**dict(zip(columns, values, strict=True)))


def batch_of(findings: Iterable[Finding]) -> pa.RecordBatch:
    """The rows as Arrow columns."""
    found = list(findings)
    columns = []
    for field in SCHEMA:
        values: list[Any] = [getattr(finding, field.name) for finding in found]
        if field.name.endswith("adler32"):
            values = [None if text is None else int(text, 16) for text in values]
        elif field.name == "more":
            values = [None if facts is None else msgspec.json.encode(facts).decode() for facts in values]
        columns.append(pa.array(values, field.type))
    return pa.record_batch(columns, schema=SCHEMA)
