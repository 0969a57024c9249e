"""Addresses of dumps and streamed listings. They join the catalog's."""

from starlette.responses import Response

from spinor.access import Caller, Scope
from spinor.catalog.dumps import service
from spinor.catalog.dumps.models import MEDIA_TYPES, POSITION_HEADER, DumpRequest, StreamedListing
from spinor.db import Database
from spinor.http import Routes
from spinor.streaming import streamed

routes = Routes("catalog")


@routes.get("/api/storage-elements/{se}/dump", scope=Scope.FILES_READ)
async def dump_storage_element(db: Database, caller: Caller, se: str, query: DumpRequest) -> Response:
    """All replicas on a storage element, by directory and name: LFN, PFN, size, adler32, status, date, file_id.

    The header X-Spinor-Feed-Position has the position in the change feed from which to go on.
    """
    pieces = service.dump(db, caller, se, query)
    position = (await anext(pieces)).decode()
    return await streamed(pieces, MEDIA_TYPES[query.format], {POSITION_HEADER: position})


@routes.post("/api/files/list/stream", scope=Scope.FILES_READ)
async def stream_listing(db: Database, caller: Caller, body: StreamedListing) -> Response:
    """A whole directory, or all below it, as JSON lines: directories by path, then files by LFN."""
    return await streamed(service.stream_listing(db, caller, body), "application/x-ndjson")
