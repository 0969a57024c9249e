"""What a `register-directory` run found: sums, the report, and what the catalog has and the disk has not."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from spinor.catalog.models import BatchCounts, DirectoryCount
from spinor.search.expression import And, Comparison, Name, Operator, Value
from spinor.terminal import duration, printable, say, size

if TYPE_CHECKING:
    from spinor.catalog.cli.scanning import Batch, Refused
    from spinor.client import Client

_SAID = 10  # Problems of a kind that are spoken of; all are in the report.


class Tally:
    """Counts and writes down. Its methods but `refuse_local` belong to one thread."""

    def __init__(self, where: dict[str, str], root: str, report: str | None, as_json: bool) -> None:
        self.where = where
        self.root = root
        self.as_json = as_json
        self.sums = dict.fromkeys(
            ("files", "size_bytes", "registered", "already", "differing", "refused", "missing"), 0
        )
        self.started = time.monotonic()
        self._here: Counter[str] = Counter()  # Directory of the catalog -> files that it has from here.
        self._lock = threading.Lock()
        self._report: IO[bytes] | None = open(report, "wb") if report else None  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None:
        if self._report:
            self._report.close()

    def refuse_local(self, refused: Refused) -> None:
        """From the scan's threads: a file or directory that cannot even be offered."""
        self._tell("refused", self._lfn(refused.path), {"reason": refused.reason})

    def count(self, batch: Batch, answer: bytes) -> None:
        """The server's answer to a batch."""
        counts = msgspec.json.decode(answer, type=BatchCounts)
        for chunk in batch:
            self._here[self._lfn(chunk.path)] += len(chunk.names)
            self.sums["files"] += len(chunk.names)
            self.sums["size_bytes"] += sum(chunk.sizes)
        self.sums["registered"] += counts.registered
        self.sums["already"] += counts.already
        for difference in counts.differing:
            self._tell("differing", difference.lfn, msgspec.structs.asdict(difference))
        for refused in counts.refused:
            self._here[refused.lfn.rpartition("/")[0]] -= 1
            self._tell("refused", refused.lfn, {"reason": refused.reason})

    def find_missing(self, client: Client) -> None:
        """Tell which files the catalog has on this storage element, and the disk has not. Looks closer only where the
        numbers of files differ."""
        directory = self.where["directory"]
        for there in client.pages("/api/directories/search", {"path": directory}, DirectoryCount):
            if there.files and there.files != self._here[there.path]:
                query = And((_equals("path", there.path), _equals("se", self.where["se"])))
                local = self.root + there.path[len(directory) :]
                for row in client.pages("/api/files/find", {"path": there.path, "where": str(query)}, dict):
                    if not os.path.lexists(f"{local}/{row['lfn'].rpartition('/')[2]}"):
                        self._tell("missing", row["lfn"], {"reason": "it is in the catalog, but not here any more"})

    def finish(self) -> int:
        """Say the sums; the exit code."""
        seconds = time.monotonic() - self.started
        if self.as_json:
            click.echo(msgspec.json.encode({**self.sums, "wall_s": round(seconds, 3)}).decode())
        else:
            counts = ", ".join(f"{self.sums[kind]:,} {kind}" for kind in list(self.sums)[2:])
            rate = self.sums["files"] / max(seconds, 1e-6)
            say(f"{self.sums['files']:,} files, {size(self.sums['size_bytes'])}: {counts}")
            say(f"{duration(seconds)}, {rate:,.0f} files/s")
        return int(any(self.sums[kind] for kind in ("refused", "differing", "missing")))

    def _lfn(self, path: str) -> str:
        return f"{self.where['directory']}/{path}" if path else self.where["directory"]

    def _tell(self, kind: str, lfn: str, facts: dict[str, Any]) -> None:
        # Undecodable bytes of a name are written as \xNN: the report is UTF-8.
        lfn = os.fsencode(lfn).decode(errors="backslashreplace")
        line = msgspec.json.encode({"problem": kind, **facts, "lfn": lfn})
        with self._lock:
            self.sums[kind] += 1
            if self._report:
                self._report.write(line + b"\n")
            if self.as_json:
                click.echo(line.decode())
            elif self.sums[kind] <= _SAID:
                say(f"{kind}: {printable(lfn)}: {printable(_explained(facts))}")
            elif self.sums[kind] == _SAID + 1:
                say(f"{kind}: more; --report FILE writes all of them down")


def _explained(facts: dict[str, Any]) -> str:
    if "reason" in facts:
        return str(facts["reason"])
    return f"{facts['field']} is {facts['catalog']} in the catalog, {facts['given']} here"


def _equals(field: str, value: str) -> Comparison:
    return Comparison(Name(field), Operator.EQ, Value(value))
