"""What was broken, refused or differs: summed up, written down, and told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

import msgspec

from spinor.catalog.models import BatchCounts

PROBLEMS = ("broken", "refused", "differing")
Tell = Callable[[str, int, dict[str, Any]], None]  # Kind of problem, how many of the kind there were, its facts.


class Report:
    """A JSON object a line. Give what another run wrote of it, to go on behind that."""

    def __init__(self, path: str | None, tell: Tell, sums: dict[str, int], keep_bytes: int = 0) -> None:
        self.tell = tell
        self.sums = {**dict.fromkeys(("files", "size_bytes", "registered", "already", *PROBLEMS), 0), **sums}
        self._file: IO[bytes] | None = None
        if path:
            self._file = open(path, "r+b" if keep_bytes else "wb")  # noqa: SIM115 (closed by __exit__)
            self._file.truncate(keep_bytes)
            self._file.seek(keep_bytes)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def settled_bytes(self) -> int:
        """The length of the report when all that was told is in it."""
        if not self._file:
            return 0
        self._file.flush()
        return self._file.tell()

    def problem(self, kind: str, **facts: Any) -> None:
        self.sums[kind] += 1
        if self._file:
            self._file.write(msgspec.json.encode({"problem": kind, **facts}) + b"\n")
        self.tell(kind, self.sums[kind], facts)

    def count(self, counts: BatchCounts) -> None:
        """The server's answer to a batch."""
        self.sums["registered"] += counts.registered
        self.sums["already"] += counts.already
        for difference in counts.differing:
            self.problem("differing", **msgspec.structs.asdict(difference))
        for refused in counts.refused:
            self.problem("refused", lfn=refused.lfn, reason=refused.reason)

    @property
    def clean(self) -> bool:
        return not any(self.sums[kind] for kind in PROBLEMS)
