"""Chaos over the whole first storey: jobs run, files come, move and go, and every part is killed again and again."""

import sys
import threading
import time
from collections.abc import Sequence

import msgspec
import psycopg

from bench.chaos import invariants
from bench.chaos.faults import Faults
from bench.chaos.file_people import Keeper, Publisher
from bench.chaos.job_people import Submitter
from bench.chaos.ledger import Ledger
from bench.chaos.people import PATIENCE_S, Person
from bench.service import Service, operations, running_service

NAME = "first-storey"
KEEPERS, SUBMITTERS = 3, 2
QUIET_WITHIN_S = 300.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -m bench.chaos run` prints."""

    chaos: str
    seed: int
    operations: int
    faults: int
    lost: int
    doubled: int
    violations: list[str]


def run(seed: int, minutes: float) -> Outcome:
    """Let people work and faults strike for so many minutes, wait for quiet, and compare."""
    with running_service(say) as service:
        service.apply(operations(service, max_pilots=4))
        ledger = Ledger()
        faults = _trouble(service, ledger, seed, minutes * 60)
        violations = await_quiet(service)
        with service.connect() as conn:
            files = invariants.read_files(conn)
            broken = invariants.broken_promises(conn, ledger, files)
            violations += [*broken.sentences, *invariants.broken_tables(conn), *invariants.broken_bytes(files)]
            tell(service, conn, ledger, files, faults)
        return Outcome(
            chaos=NAME,
            seed=seed,
            operations=ledger.operations.total(),
            faults=faults.made.total(),
            lost=broken.lost,
            doubled=broken.doubled,
            violations=violations,
        )


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _trouble(service: Service, ledger: Ledger, seed: int, seconds: float) -> Faults:
    quitting, calm = threading.Event(), threading.Event()
    people: list[Person] = [
        *(Keeper(n, service, ledger, seed, quitting) for n in range(KEEPERS)),
        *(Submitter(n, service, ledger, seed, quitting) for n in range(SUBMITTERS)),
        Publisher(service, ledger, seed, quitting),
    ]
    # Each zombie outlives a lease; in a short run one of them is enough to wait for.
    faults = Faults(service, seed, 1 if seconds < 60 else 2, calm, say)
    for thread in (*people, faults):
        thread.start()
    try:
        time.sleep(seconds)
    finally:
        calm.set()
        quitting.set()
    faults.join()
    faults.end()
    join(people, ledger)
    return faults


def join(people: Sequence[Person], ledger: Ledger) -> None:
    """Let people come to an end; who does not is a violation."""
    end = time.monotonic() + PATIENCE_S + 60
    for person in people:
        person.join(max(0.0, end - time.monotonic()))
        if person.is_alive():
            ledger.surprise(f"{person.name} still waits for an answer")


def await_quiet(service: Service) -> list[str]:
    """Wait until nothing moves any more; what still moves after five minutes is a violation."""
    end = time.monotonic() + QUIET_WITHIN_S
    while True:
        try:
            with service.connect() as conn:
                moving = [
                    str(row[0])
                    for statement in (invariants.Q.unfinished_jobs, invariants.Q.unsettled_removals)
                    for row in conn.execute(statement).fetchall()
                ]
        except psycopg.OperationalError as error:  # It recovers from the last fault.
            moving = [str(error)]
        if not moving:
            say("all is quiet")
            return []
        if time.monotonic() > end:
            return [f"after {QUIET_WITHIN_S:.0f} s without faults: {sentence}" for sentence in moving[:20]]
        time.sleep(1)


def tell(
    service: Service, conn: invariants.Connection, ledger: Ledger, files: dict[str, invariants.Found], faults: Faults
) -> None:
    """For whoever watches: what happened, beyond what the one line of the outcome says."""
    ended = conn.execute("SELECT status::text, count(*), max(attempt) FROM jobs.job GROUP BY 1 ORDER BY 1").fetchall()
    say(f"operations: {dict(ledger.operations)}")
    say(f"faults: {dict(faults.made)}")
    say(f"jobs: {', '.join(f'{count} {status} (up to {attempts} attempts)' for status, count, attempts in ended)}")
    strays = invariants.stray_bytes(conn, files, service.storage_root)
    say(f"files: {len(files)} in the catalog, {strays} stray ones on the storage")
    for note, count in ledger.notes.items():
        say(f"note, {count} times: {note}")
