"""A report of a check: a header, one finding per row, a footer with the counts. NDJSON, or Parquet by the file's name.

NDJSON has a `record` in every line (header, finding, footer). In Parquet the rows are the findings, and header and
footer are the keys `spinor.header` and `spinor.footer` of the file's metadata. One without a footer was broken off.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from spinor import __version__
from spinor.catalog.fsck import findings
from spinor.catalog.fsck.findings import SCHEMA, Finding
from spinor.errors import BadInput, NotFound

_HEADER, _FOOTER = b"spinor.header", b"spinor.footer"
_GATHERED = 10_000


class BadReport(BadInput):
    """The report is not understood."""

    code = "bad-report"


class Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="header"):
    """Who checked what. `facts` are what that check needs to be understood: the dump's name and time, its limits."""

    check: str
    service: str
    vo: str
    se: str | None = None
    facts: dict[str, Any] = {}
    report_id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))
    began_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))
    version: str = __version__


class Footer(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="footer"):
    """`counts` has the findings by kind, and what the check counted besides; `findings` are the rows of the report."""

    report_id: str
    findings: int
    counts: dict[str, int]
    ended_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))


class _Rows(Protocol):
    def write(self, batch: pa.Table | pa.RecordBatch) -> None: ...
    def close(self, footer: Footer | None) -> None: ...


class ReportWriter:
    """Give it tables of `findings.SCHEMA`, single findings, and at the end the counts."""

    def __init__(self, path: Path, header: Header) -> None:
        self.header = header
        self.rows = 0
        self.footer: Footer | None = None
        self._gathered: list[Finding] = []
        self._file: _Rows = (_Parquet if path.suffix in (".parquet", ".pq") else _Ndjson)(path, header)

    def __enter__(self) -> ReportWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._flush()
        self._file.close(self.footer)

    def write(self, batch: pa.Table | pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        self._file.write(batch)

    def tell(self, finding: Finding) -> None:
        self._gathered.append(finding)
        if len(self._gathered) == _GATHERED:
            self._flush()

    def finish(self, counts: Mapping[str, int]) -> Footer:
        """Without this the report counts as broken off."""
        self._flush()
        counted = {str(kind): count for kind, count in counts.items()}
        self.footer = Footer(report_id=self.header.report_id, findings=self.rows, counts=counted)
        return self.footer

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self.write(findings.batch_of(gathered))


class _Ndjson:
    def __init__(self, path: Path, header: Header) -> None:
        self._encoder = msgspec.json.Encoder()
        self._file: IO[bytes] = open(path, "wb")  # noqa: SIM115 (closed by `close`)
        self._file.write(self._encoder.encode(header) + b"\n")

    def write(self, batch: pa.Table | pa.RecordBatch) -> None:
        for piece in batch.to_batches(_GATHERED) if isinstance(batch, pa.Table) else [batch]:
            self._file.write(self._encoder.encode_lines(findings.rows(piece)))

    def close(self, footer: Footer | None) -> None:
        if footer:
            self._file.write(self._encoder.encode(footer) + b"\n")
        self._file.close()


class _Parquet:
    """Rows are gathered into row groups, since a comparison gives them in many small pieces."""

    def __init__(self, path: Path, header: Header) -> None:
        schema = SCHEMA.with_metadata({_HEADER: msgspec.json.encode(header)})
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting: list[Any] = []
        self._rows = 0

    def write(self, batch: pa.Table | pa.RecordBatch) -> None:
        self._waiting.append(batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch]))
        self._rows += batch.num_rows
        if self._rows >= _GATHERED * 10:
            self._flush()

    def close(self, footer: Footer | None) -> None:
        self._flush()
        if footer:
            self._writer.add_key_value_metadata({_FOOTER: msgspec.json.encode(footer)})
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting, self._rows = [], 0


class Report:
    """A report that was finished. Its rows can be read any number of times.

    Raises BadReport for what is none, and for one that was broken off: what it does not name is not known.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NotFound(f"There is no report {path}.")
        self.path = path
        with open(path, "rb") as file:
            self.parquet = file.read(4) == b"PAR1"
        try:
            self.header, footer = self._parquet_ends() if self.parquet else self._ndjson_ends()
        except (msgspec.MsgspecError, UnicodeDecodeError, pa.ArrowException, OSError):
            raise BadReport(f"{path} is no report of `spinor file fsck`.") from None
        if footer is None or footer.report_id != self.header.report_id:
            raise BadReport(f"{path} was broken off before its end; run the check again.")
        self.footer = footer

    def findings(self) -> Iterator[Finding]:
        """Every row. Raises BadReport where a line was changed into something else."""
        if self.parquet:
            for batch in pq.ParquetFile(self.path).iter_batches(_GATHERED):
                yield from findings.rows(batch.select(SCHEMA.names))
            return
        decoder = msgspec.json.Decoder(Header | Finding | Footer)
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    record = decoder.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise BadReport(f"{self.path}, line {number:,}: {error}. Run the check again.") from None
                if isinstance(record, Finding):
                    yield record

    def _parquet_ends(self) -> tuple[Header, Footer | None]:
        known = pq.read_metadata(self.path).metadata or {}
        footer = known.get(_FOOTER)
        return (
            msgspec.json.decode(known.get(_HEADER, b""), type=Header),
            None if footer is None else msgspec.json.decode(footer, type=Footer),
        )

    def _ndjson_ends(self) -> tuple[Header, Footer | None]:
        with open(self.path, "rb") as file:
            header = msgspec.json.decode(file.readline(), type=Header)
            last = _last_line(file)
        try:
            return header, msgspec.json.decode(last, type=Footer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return header, None


def _last_line(file: IO[bytes]) -> bytes:
    size, length = file.seek(0, 2), 1 << 12
    while True:
        file.seek(max(0, size - length))
        lines = file.read().rstrip(b"\n").split(b"\n")
        if len(lines) > 1 or length >= size:
            return lines[-1]
        length *= 4
