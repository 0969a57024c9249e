"""Rucio over REST with its own client: registration, look-ups and a list. It lets nobody remove replicas that way."""

import hashlib
import random
import statistics
from typing import Any

import psycopg
from rucio.client import Client
from rucio.common.exception import AccessDenied

from bench.peers.inside.course import middle_s, run, say, timed

SCOPE, ELEMENT = "bench", "BENCH-DISK"
PER_CALL = 1000
LISTED = 10_000
_ALLOWED = {"read": 1, "write": 1, "delete": 1}
PROTOCOL = {
    "scheme": "file",
    "hostname": "localhost",
    "port": 0,
    "prefix": "/bench",
    "impl": "rucio.rse.protocols.posix.Default",
    "extended_attributes": None,
    "domains": {"lan": _ALLOWED, "wan": _ALLOWED | {"third_party_copy_read": 1, "third_party_copy_write": 1}},
}


def measure(database: str, files: int, rounds: int, stats: int) -> dict[str, float]:
    client = Client()
    client.add_scope("root", SCOPE)
    client.add_rse(ELEMENT, deterministic=True, rse_type="DISK")
    client.add_protocol(ELEMENT, PROTOCOL)
    calls = [[_entry(call * PER_CALL + number) for number in range(PER_CALL)] for call in range(files // PER_CALL)]
    took = [timed(lambda n: client.add_replicas(ELEMENT, calls[n]), number) for number in range(len(calls))]
    _analyze(database)
    say(f"rucio: {files:,} files are registered")
    found = {
        "files": files,
        # The first one warms up; the catalog grows meanwhile, so the later half counts.
        "register_files_per_s": PER_CALL / statistics.median(took[len(took) // 2 :]),
        "ping_ms": 1000 * middle_s(stats, lambda _: client.ping()),
    }
    names = [{"scope": SCOPE, "name": entry["name"]} for call in calls for entry in call]
    found |= _looked_up(client, names, rounds, stats)
    if files >= LISTED:
        found["list_10000_ms"] = 1000 * _list_s(client, database, names[:LISTED], rounds)
    return found | _removed(client, names, rounds)


def _analyze(database: str) -> None:
    """Fresh statistics, which a catalog of some age has: without them PostgreSQL reads whole tables for one row."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("ANALYZE")


def _entry(number: int) -> dict[str, Any]:
    name = f"events_{number:011}.data"
    digest = hashlib.sha256(name.encode()).digest()
    return {
        "scope": SCOPE,
        "name": name,
        "bytes": int.from_bytes(digest[16:20], "big"),
        "adler32": digest[20:24].hex(),
        "meta": {"guid": digest[:16].hex()},
    }


def _looked_up(client: Client, names: list[dict[str, str]], rounds: int, stats: int) -> dict[str, float]:
    draw = random.Random(1)
    asked = [draw.sample(names, PER_CALL) for _ in range(rounds + 1)]
    single = [draw.choice(names)["name"] for _ in range(stats + 1)]

    def replicas(number: int) -> None:
        answer = list(client.list_replicas(asked[number]))
        assert len(answer) == PER_CALL
        assert all(one["rses"] for one in answer)

    return {
        "replicas_lfns_per_s": PER_CALL / middle_s(rounds, replicas),
        "stat_ms": 1000 * middle_s(stats, lambda n: client.get_metadata(SCOPE, single[n])),
    }


def _list_s(client: Client, database: str, names: list[dict[str, str]], rounds: int) -> float:
    """The files of a dataset of 10,000 with size, guid and checksum."""
    client.add_dataset(SCOPE, "listed")
    for start in range(0, len(names), PER_CALL):
        client.attach_dids(SCOPE, "listed", names[start : start + PER_CALL])
    _analyze(database)

    def listed(_: int) -> None:
        assert len(list(client.list_files(SCOPE, "listed"))) == len(names)

    return middle_s(rounds, listed)


def _removed(client: Client, names: list[dict[str, str]], rounds: int) -> dict[str, float]:
    """Removal of replicas, if this Rucio allows it: `permission = generic` does not, not even to root."""

    def remove(number: int) -> None:
        client.delete_replicas(ELEMENT, names[number * PER_CALL : (number + 1) * PER_CALL])

    try:
        return {"remove_files_per_s": PER_CALL / middle_s(min(rounds, len(names) // PER_CALL - 1), remove)}
    except AccessDenied as refusal:
        say(f"rucio: removal over REST is refused, so there is no figure of it: {str(refusal).splitlines()[0]}")
        return {}


if __name__ == "__main__":
    run(measure)
