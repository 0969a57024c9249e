"""The catalog's background work."""

from spinor.catalog.feed.chores import CHORES as FEED
from spinor.catalog.operations.chores import CHORES as OPERATIONS
from spinor.chores import Chore

CHORES: list[Chore] = [*OPERATIONS, *FEED]
