"""Addresses of queries over files."""

from spinor.access import Caller, Scope
from spinor.catalog import service
from spinor.catalog.models import FindRequest, FoundPage, MetadataKey
from spinor.catalog.query.models import Counted, Explanation, Facet, FacetQuery, Query, Undeclared
from spinor.db import Tx
from spinor.http import Routes
from spinor.search import Search
from spinor.search.mapping import from_mapping

routes = Routes("catalog")


@routes.post("/api/files/find", scope=Scope.FILES_READ)
async def find_files(reads: Tx, caller: Caller, body: FindRequest) -> FoundPage:
    """One page of the files below a path that a filter over fields and metadata keys names."""
    where = body.where if isinstance(body.where, str) else str(from_mapping(body.where))
    search = Search(where=where, sort=body.sort, limit=body.limit, after=body.after, fields=body.fields)
    return await service.find_files(reads, caller, body.path, search)


@routes.post("/api/files/count", scope=Scope.FILES_READ)
async def count_files(reads: Tx, caller: Caller, body: Query) -> Counted:
    """How many files below a path a filter names, and their bytes together."""
    return await service.count_files(reads, caller, body.path, body.where)


@routes.post("/api/files/facets", scope=Scope.FILES_READ)
async def facets(reads: Tx, caller: Caller, body: FacetQuery) -> list[Facet]:
    """The values of metadata keys and fields among the files that a filter names, with their numbers of files."""
    return await service.facets(reads, caller, body)


@routes.post("/api/files/explain", scope=Scope.FILES_READ)
async def explain(reads: Tx, caller: Caller, body: Query) -> Explanation:
    """How a query is answered: the way, the indexes, the expected rows."""
    return await service.explain(reads, caller, body)


@routes.post("/api/files/metadata-keys/remove", scope=Scope.FILES_WRITE)
async def undeclare_metadata_keys(tx: Tx, caller: Caller, body: Undeclared) -> list[MetadataKey]:
    """Forget the types of declared keys, all or none; what is stored under them stays."""
    return await service.undeclare_keys(tx, caller, body.names)
