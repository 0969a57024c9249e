"""How fast the replicas of a thousand random LFNs are told over HTTPS, with their addresses.

The peer is the bare look-up in the same table through psycopg: directory ids and names go in, rows come out, and nobody
asks who may see them, what they are called or where their bytes are.
"""

import random
import time

import msgspec

from bench import peers
from bench.catalog_load import PER_DIRECTORY, Connection, load, name_of
from bench.drive import drive
from bench.figures import Report, median
from bench.service import Service, operations

LOADED = {"trial": 2_000, "small": 200_000, "full": 10_000_000}
LFNS = 1000
QUESTIONS = {"trial": 3, "small": 30, "full": 60}
ROUNDS = {"trial": 1, "small": 3, "full": 5}
SECONDS = {"trial": 0.2, "small": 3.0, "full": 6.0}
BARE = "the bare SQL look-up through psycopg, in this run"


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    report.say(f"filling the catalog with {LOADED[size]:,} files")
    load(service, "/demo/base", LOADED[size])
    chance = random.Random(20261127)
    directories = LOADED[size] // PER_DIRECTORY
    chosen = [
        [(chance.randrange(directories), chance.randrange(PER_DIRECTORY)) for _ in range(LFNS)]
        for _ in range(QUESTIONS[size])
    ]
    questions = [[_lfn(directory, n) for directory, n in each] for each in chosen]
    bodies = [msgspec.json.encode({"lfns": lfns}) for lfns in questions]
    token = service.token()
    ours: dict[int, list[float]] = {1: [], 2: []}
    used: list[tuple[float, float]] = []
    theirs: list[float] = []
    with service.connect() as conn:
        ids: dict[object, object] = {}
        for path, directory_id in conn.execute("SELECT path, directory_id FROM catalog.directory"):
            ids[path] = directory_id
        for _ in range(ROUNDS[size]):
            theirs.append(_bare(conn, ids, questions))
            for clients, rates in ours.items():
                before = service.used_s()
                driven = drive(
                    lambda: service.wire(token), "/api/files/replicas", bodies, clients=clients,
                    seconds=SECONDS[size], at_least=len(bodies),
                )  # fmt: skip
                rates.append(driven.per_s * LFNS)
                if clients == 1:
                    server, postgres = (b - a for a, b in zip(before, service.used_s(), strict=True))
                    used.append((server * 1000 / driven.requests, postgres * 1000 / driven.requests))
    _tell(report, LOADED[size], ours, theirs, used)
    best = max(median(rates) for rates in ours.values())
    for name, peer in (("dirac", "DIRAC 9.1 in process, in this run"), ("rucio", "Rucio 41 over REST, in this run")):
        if figures := peers.figures(name, size):
            report.figure("replicas of 1,000 random LFNs, HTTPS", best, "LFN/s", peer, figures["replicas_lfns_per_s"])


def _tell(
    report: Report, loaded: int, ours: dict[int, list[float]], theirs: list[float], used: list[tuple[float, float]]
) -> None:
    bare = median(theirs)
    for clients, rates in ours.items():
        ratio = median([mine / other for mine, other in zip(rates, theirs, strict=True)])
        metric = f"replicas of 1,000 random LFNs among {loaded:,}, HTTPS, {clients} client(s)"
        report.figure(metric, ratio * bare, "LFN/s", BARE, bare)
    report.figure("server's processor time for 1,000 LFNs", median([server for server, _ in used]), "ms")
    report.figure("PostgreSQL's processor time for 1,000 LFNs", median([postgres for _, postgres in used]), "ms")


def _lfn(directory: int, n: int) -> str:
    return f"/demo/base/run{directory:07d}/{name_of(directory, n)}"


def _bare(conn: Connection, ids: dict[object, object], questions: list[list[str]]) -> float:
    """LFNs per second."""
    asked = []
    for lfns in questions:
        pairs = [lfn.rpartition("/") for lfn in lfns]
        asked.append(([ids[directory] for directory, _, _ in pairs], [name for _, _, name in pairs]))
    started = time.perf_counter()
    for directory_ids, names in asked:
        rows = conn.execute(
            """SELECT f.directory_id, f.name, f.file_id, f.size_bytes, f.adler32, f.se_ids, f.pfns
                 FROM unnest(%s::bigint[], %s::text[]) AS w (directory_id, name)
                 JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name = w.name""",
            (directory_ids, names),
        ).fetchall()
        if len(rows) != LFNS and len(set(zip(directory_ids, names, strict=True))) == LFNS:
            raise AssertionError(f"{len(rows)} of {LFNS} files were found")
    return len(asked) * LFNS / (time.perf_counter() - started)
