"""What a place of blobs says."""

from datetime import datetime
from typing import NamedTuple

from spinor.errors import BodyTooLarge, SpinorError, Unavailable


class BlobStoreFull(Unavailable):
    """The disk of the sandboxes is full; nothing was stored. Try again later, or tell the operator."""

    status, code = 507, "blob-store-full"


class BlobsUnavailable(Unavailable):
    """The store of sandboxes and logs does not answer; try again in a moment, or tell the operator."""

    code = "blobs-unavailable"


class BlobGone(SpinorError):
    """These bytes are gone from the service's store; tell the operator."""

    status, code = 410, "blob-gone"


class BlobTooLarge(BodyTooLarge):
    """The body is larger than it may be here."""

    code = "blob-too-large"


class Found(NamedTuple):
    name: str
    size_bytes: int
    modified_at: datetime
