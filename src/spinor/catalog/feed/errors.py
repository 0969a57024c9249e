"""What the change feed refuses."""

from spinor.errors import BadInput, SpinorError


class BadPosition(BadInput):
    """This is no position in the change feed: take one from an answer, unchanged, or `start` or `now`."""

    code = "bad-position"


class PositionExpired(SpinorError):
    """What followed this position is no longer kept; take a dump, and follow the feed from the position it names."""

    status, code = 410, "position-expired"
