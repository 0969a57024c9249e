"""What the catalog's tests share."""

from pathlib import Path
from typing import Any, Protocol

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.models import NewFile, Registered
from spinor.db import Database, fetch_rows, fetch_value
from spinor.types import LFN, SEName


class World(Protocol):
    """The fixture `world`."""

    db: Database
    ada: Caller
    ada_admin: Caller
    alan: Caller
    bea: Caller
    storage_root: Path


def new_file(lfn: str, *, se: str = "local-se", size_bytes: int = 10, **facts: Any) -> NewFile:
    return NewFile(lfn=LFN(lfn), se=SEName(se), size_bytes=size_bytes, **facts)


async def register(db: Database, caller: Caller, *lfns: str, **facts: Any) -> list[Registered]:
    async with db.transaction() as tx:
        return await service.register_files(tx, caller, [new_file(lfn, **facts) for lfn in lfns])


RECOUNTS = {
    "file counters of directories": """
        SELECT d.path, d.file_count, d.size_bytes, count(f.*), COALESCE(sum(f.size_bytes), 0)
        FROM catalog.directory AS d LEFT JOIN catalog.file AS f USING (directory_id)
        GROUP BY d.directory_id
        HAVING (d.file_count, d.size_bytes) IS DISTINCT FROM (count(f.*), COALESCE(sum(f.size_bytes), 0))""",
    "usage of storage elements": """
        SELECT * FROM (
            SELECT directory_id, se_id, owner_id, files, size_bytes FROM catalog.directory_usage WHERE files <> 0
        ) AS u FULL JOIN (
            SELECT f.directory_id, r.se_id, a.owner_id, count(*) AS n, sum(f.size_bytes) AS s
            FROM catalog.file AS f JOIN catalog.access AS a USING (access_id), unnest(f.se_ids) AS r (se_id)
            GROUP BY 1, 2, 3
        ) AS c USING (directory_id, se_id, owner_id)
        WHERE (u.files, u.size_bytes) IS DISTINCT FROM (c.n, c.s)""",
    "empty usage has no bytes": "SELECT * FROM catalog.directory_usage WHERE files = 0 AND size_bytes <> 0",
    "replicas without a place": """
        SELECT f.* FROM catalog.file AS f CROSS JOIN unnest(f.se_ids, f.pfns) AS r (se_id, pfn)
        LEFT JOIN catalog.directory_location AS l USING (directory_id, se_id) WHERE r.pfn IS NULL AND l.path IS NULL""",
    "files with metadata": """
        SELECT d.path FROM catalog.directory AS d LEFT JOIN catalog.file AS f USING (directory_id)
        GROUP BY d.directory_id HAVING d.annotated_files <> count(f.metadata)""",
    "what holds in a directory": """
        SELECT d.path FROM catalog.directory AS d LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
        WHERE COALESCE(d.effective, '{}') <> COALESCE(p.effective, '{}') || COALESCE(d.metadata, '{}')""",
    "gates": """
        SELECT d.path FROM catalog.directory AS d JOIN catalog.gate AS g USING (gate_id)
        LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
        LEFT JOIN catalog.gate AS above ON above.gate_id = p.gate_id
        WHERE g.access_ids <> ARRAY(
            SELECT DISTINCT a FROM unnest(above.access_ids || d.access_id) AS a ORDER BY a)""",
    "rows of another VO than their directory's": """
        SELECT f.* FROM catalog.file AS f LEFT JOIN catalog.directory AS d USING (directory_id)
        WHERE d.vo_id IS DISTINCT FROM f.vo_id""",
    "directories that are not below their parent": """
        SELECT d.* FROM catalog.directory AS d LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
        WHERE regexp_replace(d.path, '/[^/]+$', '') <> COALESCE(p.path, '')
           OR d.name <> regexp_replace(d.path, '^.*/', '')""",
    "names that are a file and a directory": """
        SELECT d.path FROM catalog.directory AS d JOIN catalog.file AS f ON f.directory_id = d.parent_id
        WHERE d.path = (SELECT path FROM catalog.directory AS p WHERE p.directory_id = d.parent_id) || '/' || f.name""",
}


async def check_sums(db: Database, files: int | None = None) -> None:
    """Every counter equals a count of the rows, and every invariant holds."""
    async with db.transaction() as tx:
        for invariant, query in RECOUNTS.items():
            assert await fetch_rows(tx, query) == [], invariant
        if files is not None:
            assert await fetch_value(tx, "SELECT count(*) FROM catalog.file") == files
