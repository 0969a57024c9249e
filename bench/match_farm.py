"""What `jobs-match` works on: many waiting jobs in many task queues, pilots in many places, and time that goes on.

Jobs, queues and pilots are written by SQL, as the service would write them: submitting ten million jobs one by one is
another benchmark. A tide keeps the number of waiting jobs and ends what runs, so that a measurement can go on.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg

from bench.service import Service
from spinor.identity import service as identity
from spinor.jobs.models import Offer, Requirements
from spinor.jobs.rules import digest

GB = 1_000_000_000
VOS = ("astro", "bio", "geo", "life")
SITES = tuple(f"SITE-{n:02}" for n in range(20))
TAGS = tuple(f"tag{n}" for n in range(6))
_TIDE_S = 0.2
SPEC = {"executable": "/bin/sh", "arguments": ["-c", "simulate.py --seed {index}"], "name": "bench"}

_QUEUES = """
INSERT INTO jobs.task_queue (vo_id, owner_id, group_id, wants, digest)
SELECT vo_id, owner_id, group_id, wants::jsonb, digest
  FROM unnest(%(vo_ids)s::integer[], %(owner_ids)s::integer[], %(group_ids)s::integer[], %(wants)s::text[],
              %(digests)s::bytea[]) AS q (vo_id, owner_id, group_id, wants, digest)
ON CONFLICT DO NOTHING
"""
# One array for each queue, larger and smaller ones. Ids of jobs are taken as one range.
_ARRAYS = """
WITH sized AS (
    SELECT q.*, greatest(1, (%(jobs)s::bigint * (2 * row_number() OVER (ORDER BY task_queue_id) - 1)
                             / count(*) OVER () / count(*) OVER ())::integer) AS size
      FROM jobs.task_queue q
), placed AS (
    SELECT sized.*, sum(size) OVER (ORDER BY task_queue_id) - size AS before FROM sized
), taken AS MATERIALIZED (
    SELECT jobs.take_ids((SELECT sum(size)::bigint FROM sized)) AS first
)
INSERT INTO jobs.job_array (vo_id, owner_id, group_id, first_job_id, size, name, spec, retries)
SELECT vo_id, owner_id, group_id, taken.first + before, size, task_queue_id::text, %(spec)s, '{3,2,0,1,0}'
  FROM placed, taken ORDER BY task_queue_id
RETURNING array_id
"""
# More work: one array in each of these queues.
_MORE_ARRAYS = """
WITH chosen AS (
    SELECT q.*, row_number() OVER (ORDER BY task_queue_id) - 1 AS n
      FROM jobs.task_queue q WHERE task_queue_id = ANY (%(queues)s::integer[])
), taken AS MATERIALIZED (
    SELECT jobs.take_ids(%(size)s::bigint * (SELECT count(*) FROM chosen)) AS first
)
INSERT INTO jobs.job_array (vo_id, owner_id, group_id, first_job_id, size, name, spec, retries)
SELECT vo_id, owner_id, group_id, taken.first + n * %(size)s::bigint, %(size)s::integer, task_queue_id::text, %(spec)s,
       '{3,2,0,1,0}'
  FROM chosen, taken
RETURNING array_id
"""
_JOBS = """
WITH made AS (
    INSERT INTO jobs.job (job_id, array_id, vo_id, owner_id, group_id, array_index, task_queue_id, status, priority,
                          minor_status)
    SELECT a.first_job_id + i, a.array_id, a.vo_id, a.owner_id, a.group_id, i, a.name::integer, 'waiting', 5, 'bench'
      FROM jobs.job_array a CROSS JOIN generate_series(0, a.size - 1) AS i
     WHERE a.array_id BETWEEN %(first)s AND %(last)s
    RETURNING job_id, task_queue_id
), queued AS (
    INSERT INTO jobs.waiting (task_queue_id, priority, job_id) SELECT task_queue_id, 4, job_id FROM made
)
INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
SELECT task_queue_id, 0, 'waiting', count(*), 0 FROM made GROUP BY task_queue_id
"""
# So that what was ended under somebody's old snapshot is not looked through again and again.
_INDEX = "CREATE INDEX IF NOT EXISTS running_of_farm ON jobs.running (matched_at)"
_RUN_S = 3.0
# A lease bears the time at which its transaction began: of those that are still going on, leases may yet come. The old
# snapshot gives none.
_SNAPSHOT = "old snapshot"
_BEGUN = """
SELECT coalesce(min(xact_start), clock_timestamp()) FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> %(snapshot)s
"""
_CLEAR = """
TRUNCATE jobs.job, jobs.job_array, jobs.waiting, jobs.running, jobs.job_history, jobs.tally,
         jobs.tally_live, jobs.tally_change, jobs.ended_attempt, jobs.task_queue
"""
_END = """
WITH over AS (
    DELETE FROM jobs.running WHERE matched_at >= %(since)s::timestamptz AND matched_at < %(until)s::timestamptz
    RETURNING job_id, ce_id, cores
), job AS (
    UPDATE jobs.job SET status = 'done', ended_at = now() FROM over
     WHERE job.job_id = over.job_id AND job.job_id = ANY (ARRAY(SELECT job_id FROM over))
    RETURNING job.task_queue_id, over.ce_id, over.cores
), changes AS (
    SELECT task_queue_id, ce_id, 'matched'::jobs.job_status AS status, -count(*) AS jobs, -sum(cores) AS cores
      FROM job GROUP BY 1, 2
     UNION ALL
    SELECT task_queue_id, ce_id, 'done', count(*), 0 FROM job GROUP BY 1, 2
), counted AS (
    INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores) SELECT * FROM changes
)
SELECT count(*) FROM job
"""


class Pilot(msgspec.Struct, frozen=True):
    """A simulated pilot that has enrolled."""

    pilot_id: int
    vo_id: int
    vo: str
    site: str
    site_id: int
    ce_id: int
    token: str
    offer: Offer


def document(service: Service) -> str:
    """Operations data with the VOs and sites of the farm (JSON is YAML)."""
    user = service.user()
    element = {
        "plugin": "local", "cores": 8, "memory_bytes": "32GB", "wall_s": "1d", "max_pilots": 0, "vos": list(VOS),
        "options": {"directory": str(service.layout.root / "computing")},
    }  # fmt: skip
    groups = {"users": ["normal_user"], "others": ["normal_user"], "admins": ["configuration_administrator"]}
    found = {
        "vos": {
            vo: {"groups": {f"{vo}_{g}": {"properties": p, "members": [user]} for g, p in groups.items()}} for vo in VOS
        },
        "users": {user: {}},
        "sites": {site: {"computing_elements": {f"{site.lower()}-ce": element}} for site in SITES},
    }
    return msgspec.json.encode(found).decode()


def fill(service: Service, jobs: int, queues: int) -> None:
    """So many waiting jobs in so many queues, and nothing else."""
    chance = random.Random(7)
    with service.connect() as conn:
        conn.execute(_CLEAR)
        groups = conn.execute(
            """SELECT g.vo_id, u.user_id, g.group_id FROM identity.vo_group g CROSS JOIN
               (SELECT user_id FROM identity.user_account ORDER BY user_id LIMIT 1) u
                WHERE g.retired_at IS NULL AND (g.name LIKE '%\\_users' OR g.name LIKE '%\\_others')
                ORDER BY g.group_id"""
        ).fetchall()
        wants = []
        for n in range(queues):
            vo_id, owner_id, group_id = (int(str(value)) for value in groups[n % len(groups)])
            cores = chance.choice((1, 1, 1, 2, 4))
            wants.append(
                Requirements(
                    vo_id=vo_id, owner_id=owner_id, group_id=group_id, cores=cores, max_cores=cores,
                    memory_bytes=chance.choice((1, 2, 3, 4)) * cores * GB // 2,
                    disk_bytes=chance.choice((1, 10)) * GB, wall_s=1800 + n,
                    sites=sorted(chance.sample(SITES, 3)) if chance.random() < 0.3 else [],
                    tags=sorted(chance.sample(TAGS, 1)) if chance.random() < 0.3 else [],
                )
            )  # fmt: skip
        conn.execute(
            _QUEUES,
            {
                "vo_ids": [each.vo_id for each in wants],
                "owner_ids": [each.owner_id for each in wants],
                "group_ids": [each.group_id for each in wants],
                "wants": [msgspec.json.encode(each).decode() for each in wants],
                "digests": [digest(each) for each in wants],
            },
        )
        add(conn, jobs)
        for table in ("job", "waiting", "tally", "tally_live", "job_array", "task_queue"):
            conn.execute(f"VACUUM (ANALYZE) jobs.{table}".encode())


def add(conn: "psycopg.Connection[tuple[object, ...]]", jobs: int) -> None:
    """Jobs in all queues."""
    arrays = conn.execute(_ARRAYS, {"jobs": jobs, "spec": _spec()}).fetchall()
    ids = sorted(int(str(row[0])) for row in arrays)
    step = max(1, len(ids) // max(1, jobs // 500_000))
    for n in range(0, len(ids), step):
        part = ids[n : n + step]
        conn.execute(_JOBS, {"first": part[0], "last": part[-1]})


def add_to(conn: "psycopg.Connection[tuple[object, ...]]", queues: Sequence[int], size: int) -> None:
    """An array of this size in each of these queues."""
    arrays = conn.execute(_MORE_ARRAYS, {"queues": list(queues), "size": size, "spec": _spec()}).fetchall()
    ids = [int(str(row[0])) for row in arrays]
    conn.execute(_JOBS, {"first": min(ids), "last": max(ids)})


def _spec() -> str:
    return msgspec.json.encode(SPEC).decode()


def enrolled(service: Service, count: int) -> list[Pilot]:
    """Pilots of all VOs at all sites, with more and less room."""
    chance, keys, pilots = random.Random(11), service.keys(), []
    with service.connect() as conn:
        vos = {str(name): int(str(vo_id)) for name, vo_id in conn.execute("SELECT name, vo_id FROM identity.vo")}
        places = conn.execute(
            "SELECT s.name, s.site_id, c.ce_id FROM resources.computing_element c JOIN resources.site s USING (site_id)"
            " WHERE c.retired_at IS NULL ORDER BY c.ce_id"
        ).fetchall()
        for n in range(count):
            vo, (site, site_id, ce_id) = VOS[n % len(VOS)], places[(n // len(VOS)) % len(places)]
            tags = sorted(chance.sample(TAGS, 3))
            memory = chance.choice((12, 16, 24, 32)) * GB
            offer = Offer(cores=8, memory_bytes=memory, disk_bytes=200 * GB, wall_s=86_400, tags=tags)
            row = conn.execute(
                """INSERT INTO pilots.pilot (vo_id, ce_id, secret_hash, status, enrolled_at, last_seen_at)
                   VALUES (%s, %s, sha256(convert_to(gen_random_uuid()::text, 'UTF8')), 'running', now(), now())
                   RETURNING pilot_id""",
                (vos[vo], ce_id),
            ).fetchone()
            assert row is not None
            pilot_id = int(str(row[0]))
            token = identity.mint_pilot_token(keys, service.url, vo, pilot_id, 86_400)
            pilots.append(Pilot(pilot_id, vos[vo], vo, str(site), int(str(site_id)), int(str(ce_id)), token, offer))
    return pilots


@contextlib.contextmanager
def tide(service: Service, level: int) -> Iterator[Callable[[], None]]:
    """While the block runs, jobs end some seconds after they were given away, and new arrays come in their place.

    What it gives raises whatever stopped the tide: figures that were taken since say nothing.
    """
    stop, chance = threading.Event(), random.Random(5)
    errors: list[BaseException] = []

    def flow() -> None:
        try:
            with service.connect() as conn:
                found = conn.execute("SELECT task_queue_id FROM jobs.task_queue").fetchall()
                queues = [int(str(row[0])) for row in found]
                size = max(10, min(1000, level // len(queues)))
                conn.execute(_INDEX)
                since = datetime(1970, 1, 1, tzinfo=UTC)
                while not stop.is_set():
                    started = time.monotonic()
                    until = datetime.now(UTC) - timedelta(seconds=_RUN_S)
                    begun = conn.execute(_BEGUN, {"snapshot": _SNAPSHOT}).fetchone()
                    conn.execute(_END, {"since": since, "until": until})
                    assert begun is not None
                    assert isinstance(begun[0], datetime)
                    since = min(until, begun[0])
                    row = conn.execute(
                        "SELECT coalesce(sum(jobs), 0) FROM jobs.tally_now WHERE status = 'waiting'"
                    ).fetchone()
                    missing = level - int(str(row[0] if row else 0))
                    if missing >= size:
                        add_to(conn, chance.sample(queues, min(len(queues), missing // size)), size)
                    stop.wait(max(0.0, _TIDE_S - (time.monotonic() - started)))
        except Exception as error:  # noqa: BLE001  Raised again by the thread that asks.
            errors.append(error)

    def check() -> None:
        if errors:
            raise errors[0]

    thread = threading.Thread(target=flow, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        thread.join()
    check()


@contextlib.contextmanager
def old_snapshot(service: Service) -> Iterator[None]:
    """A transaction that has looked once, and stays open: nothing that is deleted meanwhile can be cleaned away."""
    with psycopg.connect(service.database_url, application_name=_SNAPSHOT) as conn:
        conn.execute("SET idle_in_transaction_session_timeout = 0")
        conn.commit()
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT count(*) FROM jobs.task_queue")
        yield
        conn.rollback()
