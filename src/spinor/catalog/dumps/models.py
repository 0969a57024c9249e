"""The nouns of dumps, as they travel."""

from enum import StrEnum

import msgspec

POSITION_HEADER = "X-Spinor-Feed-Position"


class DumpFormat(StrEnum):
    ARROW = "arrow"  # An Arrow IPC stream.
    PARQUET = "parquet"
    CSV = "csv"  # The first line has the names of the columns.
    NDJSON = "ndjson"


MEDIA_TYPES = {
    DumpFormat.ARROW: "application/vnd.apache.arrow.stream",
    DumpFormat.PARQUET: "application/vnd.apache.parquet",
    DumpFormat.CSV: "text/csv; charset=utf-8",
    DumpFormat.NDJSON: "application/x-ndjson",
}


class DumpRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: DumpFormat = DumpFormat.CSV
    path: str | None = None


class StreamedListing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`recursive` tells of all that lies below, too."""

    path: str
    recursive: bool = False
