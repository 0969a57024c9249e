"""Pure decisions of the change feed: positions as text."""

import re

import msgspec

from spinor.catalog.feed.errors import BadPosition

_SNAPSHOT = r"\d{1,20}:\d{1,20}:(?:\d{1,20}(?:,\d{1,20})*)?"
_POSITION = re.compile(rf"({_SNAPSHOT})(?:/({_SNAPSHOT})/(\d{{1,18}}))?")
_NOTHING = "1:1:"  # The snapshot that saw no transaction.


class Position(msgspec.Struct, frozen=True):
    """`seen` is the snapshot of what came before. In the middle of a long answer `until` is the snapshot at its end,
    and `after` the number of the last change told."""

    seen: str
    until: str | None = None
    after: int = 0

    def __str__(self) -> str:
        return self.seen if self.until is None else f"{self.seen}/{self.until}/{self.after}"


START = Position(_NOTHING)


def read_position(text: str) -> Position:
    """Raises BadPosition."""
    if text == "start":
        return START
    found = _POSITION.fullmatch(text)
    if found is None:
        raise BadPosition(
            "`since` is not a position in the change feed; take one from an answer, unchanged, or `start` or `now`.",
            field="since",
        )
    return Position(found[1], found[2], int(found[3] or 0))
