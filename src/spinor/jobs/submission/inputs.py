"""Input data at submission: files that a query finds, and the sites that hold what a job reads."""

from collections.abc import Sequence

import msgspec

from spinor.access import Caller
from spinor.catalog import service as catalog
from spinor.catalog.models import FileStat
from spinor.db import Tx
from spinor.errors import NotFound, SpinorError
from spinor.jobs.description import MAX_DESCRIPTION_BYTES, fault, shown
from spinor.jobs.models import JobSpec, Placement
from spinor.jobs.rules import named
from spinor.resources import service as resources
from spinor.resources.status.access import why_not
from spinor.resources.status.models import Access
from spinor.search import Search
from spinor.types import LFN

MAX_QUERY_FILES = 10_000
_MOST = 0.5  # Of its bytes: a site that holds so much is near, when none holds everything.


class NothingFound(NotFound):
    """The query finds no file."""

    code = "input-query-empty"


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A description as it is stored, and the sites that its input data bring it to."""

    spec: JobSpec
    near_sites: list[str] = []
    required_sites: list[str] | None = None  # None: any of the description's own.

    def brings_as(self, other: "Placed") -> bool:
        return self.near_sites == other.near_sites and self.required_sites == other.required_sites


async def with_query(tx: Tx, caller: Caller, spec: JobSpec, place: str) -> JobSpec:
    """The description with the files that its query finds now behind its own input data."""
    field = f"{place}input_query"
    path, where = query_parts(spec.input_query, caller.vo)
    search = Search(where=where, fields=[], limit=MAX_QUERY_FILES)
    try:
        page = await catalog.find_files(tx, caller, path, search)
    except SpinorError as error:
        raise in_field(error, field) from None
    if not page.rows:
        problem = f"{field}: it finds no file below {shown(path)}; try it with `spinor file find`."
        raise NothingFound(problem, field=field)
    if page.next is not None:
        problem = f"finds more than {MAX_QUERY_FILES:,} files; narrow it, or make a job for each file (--table)"
        raise fault(field, problem)
    found = list(dict.fromkeys([*spec.input_data, *(str(row["lfn"]) for row in page.rows)]))
    size = sum(len(lfn) for lfn in found)
    if size > MAX_DESCRIPTION_BYTES // 2:
        raise fault(field, f"finds {len(found):,} files whose names take {size:,} bytes, too much; narrow it")
    return msgspec.structs.replace(spec, input_data=found)


def query_parts(text: str, vo: str) -> tuple[str, str]:
    """`/astro/runs run > 100`: the directory first, if it is there, and then the condition."""
    if not text.startswith("/"):
        return f"/{vo}", text
    path, _, where = text.partition(" ")
    return path, where.strip()


async def stat_inputs(tx: Tx, caller: Caller, lfns: Sequence[str]) -> dict[str, FileStat]:
    """Raises what the catalog says of the first file that is not there or must not be read, with the field."""
    if not lfns:
        return {}
    try:
        return {str(file.lfn): file for file in await catalog.stat_files(tx, caller, [LFN(lfn) for lfn in lfns])}
    except SpinorError as error:
        raise in_field(error, "input_data") from None


def in_field(error: SpinorError, field: str) -> SpinorError:
    return type(error)(f"{field}: {error.message}", **{**error.facts, "field": field})


async def sites_of_elements(tx: Tx, caller: Caller) -> dict[str, str]:
    """The site of each storage element that has one and may be read from now."""
    known = await resources.storage_elements(tx, caller)
    return {each.name: each.site for each in known if each.site and not why_not(each, Access.READ, caller)}


def placed(spec: JobSpec, lfns: Sequence[str], files: dict[str, FileStat], sites: dict[str, str], place: str) -> Placed:
    """`lfns` are those of all its jobs: they have one task queue, and so one choice of sites."""
    if not lfns or spec.placement is Placement.IGNORE:
        return Placed(spec=spec)
    held: dict[str, list[int]] = {}  # Site -> files and bytes there.
    total = 0
    for lfn in lfns:
        file = files[lfn]
        total += file.size_bytes
        for site in {sites[se] for se in file.storage_elements if se in sites}:
            count = held.setdefault(site, [0, 0])
            count[0] += 1
            count[1] += file.size_bytes
    complete = sorted(site for site, (count, _) in held.items() if count == len(lfns))
    if spec.placement is Placement.PREFER:
        most = sorted(site for site, (_, size) in held.items() if total and size >= _MOST * total)
        return Placed(spec=spec, near_sites=complete or most)
    allowed = [site for site in complete if site not in spec.banned_sites and (not spec.sites or site in spec.sites)]
    if not allowed:
        where = f"only {named(complete)} does, which sites and banned_sites exclude" if complete else "none does"
        problem = f"is require, so that a site must hold all {len(lfns):,} input files, and {where}"
        hint = "replicate them, or take prefer (what `spinor se list` names as out of use for reading does not count)"
        raise fault(f"{place}placement", f"{problem}; {hint}")
    return Placed(spec=spec, required_sites=allowed)
