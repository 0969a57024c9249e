"""Local files onto a storage element and into the catalog: for commands and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spinor.catalog.models import Registered, RegisterOutcome
from spinor.errors import BadInput
from spinor.resources.models import PublicStorageElement
from spinor.resources.status.access import why_not
from spinor.resources.status.models import Access
from spinor.storage.models import Place
from spinor.storage.plugin import Progress, StorageOutOfUse
from spinor.storage.transfer import discard, store

if TYPE_CHECKING:
    from spinor.client import Client


class ElementUnclear(BadInput):
    """Several storage elements can be written to; say which."""

    code = "element-unclear"


def put_files(
    client: Client,
    files: Sequence[tuple[Path, str]],
    se: str | None,
    *,
    guid: str | None = None,
    progress: Progress | None = None,
) -> list[Registered]:
    """Copy each local file and register it as its LFN, with the checksums of the bytes that went."""
    body = {"se": se or _only_element(client), "lfns": [lfn for _, lfn in files]}
    places = client.post("/api/files/places", body, list[Place])
    return [_put(client, local, place, guid, progress) for (local, _), place in zip(files, places, strict=True)]


def _only_element(client: Client) -> str:
    found = client.get("/api/storage-elements", list[PublicStorageElement])
    writable = [element for element in found if not element.read_only]
    names = [element.name for element in writable if not why_not(element, Access.WRITE)]
    if len(names) == 1:
        return names[0]
    refusals = "; ".join(why for element in writable if (why := why_not(element, Access.WRITE)))
    if refusals and not names:
        raise StorageOutOfUse(f"No storage element takes files now: {refusals}.")
    raise ElementUnclear(f"Say which storage element with --se: {', '.join(names) or 'your VO has none yet'}.")


def _put(client: Client, local: Path, place: Place, guid: str | None, progress: Progress | None) -> Registered:
    """Copy, then register; what cannot be registered is deleted again."""
    from spinor.client import RemoteError

    sums = store(local, place.url, progress)
    new = {
        "lfn": place.lfn, "se": place.se, "pfn": place.pfn,
        "size_bytes": sums.size_bytes, "adler32": sums.adler32, "sha256": sums.sha256,
    } | ({"guid": guid} if guid is not None else {})  # fmt: skip
    try:
        (registered,) = client.post("/api/files/register", [new], list[Registered])
    except RemoteError as error:
        # Only a refusal is certain. When the server did not answer, the file may be registered: its bytes must stay.
        if error.status < 500:
            discard(place.url)
        raise
    if registered.outcome is RegisterOutcome.ALREADY:
        discard(place.url)
    return registered
