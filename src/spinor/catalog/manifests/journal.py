"""How far a run has come, in a small file that is replaced as a whole after each acknowledged batch."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from spinor.catalog.manifests.source import Identity
from spinor.errors import BadInput, Conflict
from spinor.terminal import printable


class Journal(msgspec.Struct, kw_only=True):
    manifest: Identity
    request: dict[str, str]  # What else must be the same for the run to go on.
    checked: bool = False  # All lines are good.
    lines: int | None = None  # All that there are, if they have been counted.
    line: int = 0  # What is up to here is settled.
    report_bytes: int = 0
    sums: dict[str, int] = {}


class JournalFile:
    """`path` is None where there is no place for one: such a run begins at the start when it is run again."""

    def __init__(self, path: str | None) -> None:
        self.path = path

    def read(self) -> Journal | None:
        if self.path is None or not Path(self.path).exists():
            return None
        try:
            return msgspec.json.decode(Path(self.path).read_bytes(), type=Journal)
        except msgspec.MsgspecError:
            raise BadInput(
                f"{printable(self.path)} is no record of progress; remove it, and run again without --resume: what is "
                "registered already is passed over."
            ) from None

    def write(self, journal: Journal) -> None:
        if self.path is not None:
            new = f"{self.path}.new"
            Path(new).write_bytes(msgspec.json.format(msgspec.json.encode(journal)) + b"\n")
            os.replace(new, self.path)  # noqa: PTH105 (as it is said in POSIX: whole, old or new)

    def remove(self) -> None:
        if self.path is not None:
            Path(self.path).unlink(missing_ok=True)


def checked_journal(found: Journal, manifest: Identity, request: dict[str, str]) -> Journal:
    """The journal, if it is of this very run. Raises Conflict."""
    if found.manifest != manifest:
        raise Conflict(
            f"{manifest.name} has changed since that run (its size, time or first lines); run without --resume: what "
            "is registered already is passed over."
        )
    for name in sorted({*found.request, *request}):
        if (before := found.request.get(name, "")) != (now := request.get(name, "")):
            raise Conflict(
                f"The run that was stopped had {name} {before!r}, and this one has {now!r}; give the same, or run "
                "without --resume."
            )
    return found
