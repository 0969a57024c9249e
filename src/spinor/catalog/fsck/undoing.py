"""What a repair did, written down as it goes, so that it can be taken back whatever ends it.

A repair writes each batch of changes down, and to the disk, before it asks the server for them; and afterwards those
that were refused. What was asked for and not refused may have been done, and is taken back: each change names what it
expects to find, so taking back what was never done is refused, and harmless.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from spinor.catalog.fsck.changes import Change, inverse
from spinor.catalog.fsck.reports import BadReport, Header
from spinor.errors import NotFound

CHECK = "repair"


class _Asked(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="change"):
    number: int
    change: Change


class _Refused(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="refused"):
    number: int
    reason: str


class RepairLog:
    """Written while a repair runs. `facts` of its header name the report that it acts on."""

    def __init__(self, path: Path, header: Header) -> None:
        self._encoder = msgspec.json.Encoder()
        # A log is never overwritten: it is all that a repair can be taken back by.
        self._file: IO[bytes] = open(path, "xb")  # noqa: SIM115 (closed by __exit__)
        self._asked = 0
        self._write([header])

    def __enter__(self) -> RepairLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def asking(self, changes: Sequence[Change]) -> range:
        """Before the server is asked; gives the numbers of the changes."""
        numbers = range(self._asked, self._asked + len(changes))
        self._asked = numbers.stop
        self._write(_Asked(number=n, change=change) for n, change in zip(numbers, changes, strict=True))
        os.fsync(self._file.fileno())
        return numbers

    def refused(self, reasons: dict[int, str]) -> None:
        """After the server has answered: those of the changes that it did not make."""
        self._write(_Refused(number=number, reason=reason) for number, reason in reasons.items())

    def _write(self, records: Iterable[object]) -> None:
        self._file.write(self._encoder.encode_lines(list(records)))
        self._file.flush()


def read_log(path: Path) -> tuple[Header, Iterator[Change]]:
    """The header, and the changes that take back what the log's repair did. Raises BadReport."""
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    with open(path, "rb") as file:
        try:
            header = msgspec.json.decode(file.readline(), type=Header)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            header = None
    if header is None or header.check != CHECK:
        raise BadReport(f"{path} is not what a repair wrote; undo takes the file that --repair named at its end.")
    return header, _inverse_changes(path, {record.number for record in _records(path) if isinstance(record, _Refused)})


def _inverse_changes(path: Path, refused: set[int]) -> Iterator[Change]:
    for record in _records(path):
        if isinstance(record, _Asked) and record.number not in refused:
            yield inverse(record.change)


def _records(path: Path) -> Iterator[_Asked | _Refused]:
    decoder = msgspec.json.Decoder(Header | _Asked | _Refused)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                if not line.endswith(b"\n"):
                    return  # The repair was killed while it wrote this down, before it asked for it.
                raise BadReport(f"{path}, line {number:,}: {error}.") from None
            if not isinstance(record, Header):
                yield record
